//! Changes of the group: the joiners, and the decision which change is possible.
//!
//! This module owns the list of nodes that asked to join lately, and whether this node has left or should campaign
//! again. It does not own two related rules. A change governs from the instance after its own, and starts an epoch:
//! `membership` has that rule. No instance above a change starts before the change is learned: the proposer's fence
//! has that one. This module never votes and never proposes; the caller proposes what it returns.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;

use crate::entry::NewGroup;
use crate::mutant::{self, Mutant};
use crate::replica::config::Timing;
use crate::replica::limits::{Bound, Bounds};
use crate::replica::outbox::{Event, Outbox};
use crate::replica::reconfig::group_view::GroupView;
use crate::types::{Act, Change, Group, Instance, Micros, NodeId};
use crate::wire::{Boot, Message};

/// The joiners that this node has heard, and whether this node has reported that it left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Changes {
    candidates: BTreeMap<NodeId, Candidate>,
    has_left: bool,
    /// The group changed while this node led. It should campaign again in its next tick.
    leads_on: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Candidate {
    /// Since when it has been asking without a pause, and the prefix that this node had learned at that time.
    since: Micros,
    goal: Instance,
    at: Micros,
    learned: Instance,
    /// The wish in its last line, and the wish that two lines repeated. A single line may be damaged, or from an
    /// old run.
    said: Wish,
    said_at: Micros,
    wish: Option<Wish>,
    /// Whether the operator was told why it cannot join.
    is_told: bool,
}

/// How a node wants to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Wish {
    /// The incarnation of the joiner's directory.
    incarnation: u64,
    /// The member to replace. Its own id: an operator names the member.
    replaces: Option<NodeId>,
}

impl Candidate {
    fn new(said: Wish, learned: Instance, goal: Instance, now: Micros) -> Candidate {
        Candidate { since: now, goal, at: now, learned, said, said_at: now, wish: None, is_told: false }
    }

    /// Records the wish of another line. Two lines that lie `apart` confirm a wish: the network may deliver one line
    /// twice.
    fn hear(&mut self, said: Wish, learned: Instance, apart: Micros, now: Micros) {
        if self.said != said {
            (self.said, self.said_at) = (said, now);
        } else if now.since(self.said_at) >= apart {
            self.wish = Some(said);
        }
        (self.at, self.learned) = (now, learned);
    }

    /// Whether it has asked lately. `id` is its own.
    fn is_heard(&self, id: NodeId, view: &GroupView<'_>) -> bool {
        view.now.since(self.at) < view.election.timeout_for(id)
    }
}

impl Changes {
    /// How a node wants to join, once it has said so twice.
    fn wish(&self, id: NodeId) -> Option<Wish> {
        self.candidates.get(&id).and_then(|known| known.wish)
    }

    /// Whether this node led when the group changed, and has not campaigned again yet.
    pub fn leads_on(&self) -> bool {
        self.leads_on
    }

    /// Returns [`leads_on`](Self::leads_on), once.
    pub fn take_leads_on(&mut self) -> bool {
        std::mem::take(&mut self.leads_on)
    }

    /// `Join`, `JoinFor`: records a joiner. A former member never becomes a member again.
    pub(in crate::replica) fn on_join(
        &mut self,
        from: NodeId,
        (learned, replaces): (Instance, Option<NodeId>),
        view: &GroupView<'_>,
        (bounds, timing): (&Bounds, Timing),
        out: &mut Outbox,
    ) {
        let now = view.now;
        let Some(Boot { incarnation, boot, .. }) = view.election.boot_of(from, now) else { return };
        if view.group.members.contains(&from) {
            return;
        }
        if view.membership.was_member(from) {
            out.send(Message::Barred { node: from, boot, known: Boot::default() });
            return;
        }
        self.candidates.retain(|id, known| known.is_heard(*id, view));
        let is_full = self.candidates.len() >= bounds.candidates;
        if !self.candidates.contains_key(&from) && bounds.is_over(Bound::Candidates, is_full) {
            return;
        }
        let (said, apart) = (Wish { incarnation, replaces }, Micros(timing.beat.0 / 2));
        match self.candidates.entry(from) {
            Place::Occupied(known) => known.into_mut().hear(said, learned, apart, now),
            Place::Vacant(new) => {
                new.insert(Candidate::new(said, learned, view.learned, now));
            }
        }
    }

    /// The group with the next joiner that is ready, if there is one. Joiners are admitted one at a time.
    pub(in crate::replica) fn next_joiner(
        &mut self,
        view: &GroupView<'_>,
        bounds: &Bounds,
        out: &mut Outbox,
    ) -> Option<NewGroup> {
        let ready: Vec<NodeId> = self.candidates.keys().copied().collect();
        for id in ready {
            let Some(Wish { replaces, .. }) = self.wish(id) else { continue };
            // A joiner that asks for its own place waits for an operator's command.
            if !self.is_near_enough(id, view, bounds) || replaces == Some(id) {
                continue;
            }
            if let Some(old) = replaces.filter(|old| !view.group.members.contains(old)) {
                let is_known = view.membership.was_member(old);
                let what = if is_known { "is no member any more" } else { "was never a member" };
                self.tell_why_not(id, &format!("node {old}, whose place it asks for, {what}"), out);
                continue;
            }
            match self.with(id, replaces, view).and_then(|new| view.must_live(new)) {
                Ok(new) => {
                    self.candidates.remove(&id);
                    return Some(new);
                }
                Err(reason) => self.tell_why_not(id, &reason, out),
            }
        }
        None
    }

    /// Whether no joiner was heard lately.
    pub fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    fn tell_why_not(&mut self, id: NodeId, reason: &str, out: &mut Outbox) {
        if let Some(candidate) = self.candidates.get_mut(&id).filter(|known| !known.is_told) {
            candidate.is_told = true;
            out.event(Event::Warning(format!("node {id} cannot join: {reason}")));
        }
    }

    /// Whether a joiner has asked for long enough, and has caught up.
    fn is_near_enough(&self, id: NodeId, view: &GroupView<'_>, bounds: &Bounds) -> bool {
        let now = view.now;
        self.candidates.get(&id).is_some_and(|known| {
            let timeout = view.election.timeout_for(id);
            // An old datagram that is delivered again is no joiner.
            let lives = known.is_heard(id, view) && now.since(known.since) >= timeout;
            // A joiner that is no further behind than this can still learn from the values in flight.
            let near = bounds.window / 2;
            lives
                && known.wish.is_some()
                && known.learned >= known.goal
                && known.learned.0 + near >= view.learned.0
        })
    }

    /// The group after an operator's change whose turn has come.
    ///
    /// # Errors
    /// The reason why the change is not possible.
    pub(in crate::replica) fn group_after(
        &self,
        change: Change,
        view: &GroupView<'_>,
        bounds: &Bounds,
    ) -> Result<NewGroup, String> {
        self.check(change, view, bounds).map_err(|reason| format!("cannot {change}: {reason}"))
    }

    fn check(&self, change: Change, view: &GroupView<'_>, bounds: &Bounds) -> Result<NewGroup, String> {
        let new = match change.act {
            Act::Leave(id) => without(id, view)?,
            Act::Replace(old, id) => self.replaced(old, id, view, bounds)?,
        };
        let new = view.must_be_able_to_live(new)?;
        if change.is_forced { Ok(new) } else { view.must_live(new) }
    }

    fn replaced(
        &self,
        old: NodeId,
        id: NodeId,
        view: &GroupView<'_>,
        bounds: &Bounds,
    ) -> Result<NewGroup, String> {
        must_be_member(old, view)?;
        if id == old {
            return Err(format!("node {id} cannot take its own place: start the new one under a new id"));
        }
        if view.group.members.contains(&id) {
            return Err(format!("node {id} is a member already; to put node {old} out, say `leave {old}`"));
        }
        if self.is_near_enough(id, view, bounds) {
            return self.with(id, Some(old), view);
        }
        Err(match self.candidates.get(&id).filter(|known| known.is_heard(id, view)) {
            Some(known) => format!(
                "node {id} is still catching up, at instance {} of {}; try again",
                known.learned, view.learned
            ),
            None => format!("node {id} does not ask to join: start it with --join -i {id}"),
        })
    }

    fn with(&self, id: NodeId, replaces: Option<NodeId>, view: &GroupView<'_>) -> Result<NewGroup, String> {
        let wish = self.wish(id).ok_or_else(|| format!("node {id} has fallen silent"))?;
        let mut new = view.listed();
        new.members.insert(id, Some(wish.incarnation));
        replaces.map(|old| new.members.remove(&old));
        view.membership.objection(&new).map_or(Ok(new), Err)
    }

    /// Records that `group` is in force. `led` says whether this node led the group before.
    pub fn on_new_group(&mut self, group: &Group, me: NodeId, led: bool) {
        self.candidates.retain(|id, _| !group.members.contains(id));
        self.leads_on = led;
        self.has_left &= !group.members.contains(&me);
    }

    /// The change by which this node has left, once. A quorum of the new group must have learned it first.
    pub fn departure(&mut self, view: &GroupView<'_>) -> Option<Instance> {
        let GroupView { now, me, group, election, .. } = *view;
        if self.has_left
            || group.members.contains(&me)
            || !view.membership.was_member(me)
            || view.durable.0 < group.epoch.0
        {
            return None;
        }
        let has_it = |id: &&NodeId| {
            let learned = election.learned_by(**id, now);
            let has_learned = |learned: Instance| learned.0 >= group.epoch.0;
            election.is_voter(**id, now)
                && learned.is_some_and(|learned| has_learned(learned) || mutant::is(Mutant::LeavesEarly))
        };
        self.has_left = group.members.iter().filter(has_it).count() >= group.quorum();
        self.has_left.then_some(Instance(group.epoch.0))
    }
}

fn must_be_member(id: NodeId, view: &GroupView<'_>) -> Result<(), String> {
    match view.group.members.contains(&id) {
        true => Ok(()),
        false => Err(format!("node {id} is no member")),
    }
}

/// The group in force without `id`.
fn without(id: NodeId, view: &GroupView<'_>) -> Result<NewGroup, String> {
    must_be_member(id, view)?;
    let mut new = view.listed();
    new.members.remove(&id);
    if new.members.is_empty() {
        return Err(format!("node {id} is the only member; to end the group, stop it"));
    }
    Ok(new)
}
