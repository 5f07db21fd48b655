//! Who this node is, and whether it may vote.
//!
//! Owns the registration of incarnations among the members of the first group. A node that lost its
//! disk has forgotten its promises: it must never vote again under the same id. So a member votes
//! for the first time only after [`enough_peers`] of the n-1 others have durably remembered its
//! incarnation; any two such sets share a peer that has its disk while a minority lost theirs, and no
//! peer remembers two incarnations for one id. Who joins later is named in the log with its incarnation,
//! which is all the registration it needs.
//!
//! Owns, too, which group the node belongs to: the incarnation of node 0 of the first group is the group's identity.
//! Node 0 must be among those who remember a member that votes for the first time. It remembers one incarnation for
//! each id; so of two directories made for one id, on two wires that were joined or with two groups on one, only one
//! can ever be the group's.

use std::collections::BTreeMap;

use super::Timing;
use super::membership::Membership;
use super::outbox::{Event, Outbox};
use crate::mutant::{self, Mutant};
use crate::record::Record;
use crate::types::{GroupId, Micros, NodeId};
use crate::wire::{Boot, Message};

/// How many of its last starts a directory remembers: who was away for more of them cannot tell.
const LIVES: usize = 32;

/// Of how many groups it is counted how often they were heard.
const MAX_HEARD: usize = 8;

/// After how many timeouts without a sign of life nobody is waited for any more.
const LONG: u64 = 10;

/// How many datagrams have to say the same of their group before it is believed: one may be damaged, or an old one.
const ENOUGH: u8 = 2;

/// This node's identity, and what it remembers of its peers'.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    me: NodeId,
    boot: Boot,
    /// The boots of its last starts, this one included, by their numbers.
    lives: BTreeMap<u64, u64>,
    timing: Timing,
    /// The size of the first group; 0 for a node that joins.
    n: u16,
    /// Whether an earlier life of this directory has been registered.
    is_member: bool,
    /// Whether the log names this directory as a member's.
    is_listed: bool,
    remembers: BTreeMap<NodeId, Boot>,
    /// Who has remembered this life, and as which incarnation it said so.
    registered_by: BTreeMap<NodeId, u64>,
    group: Option<GroupId>,
    /// Whether that stands in the log.
    is_written: bool,
    /// What datagrams said of the group of their senders while it was not this node's, and how many said so.
    heard: Vec<(Option<GroupId>, u8)>,
    /// Since when it hears another group, and nobody of its own that votes.
    left_since: Option<Micros>,
    /// The group that a node which joins has heard, and since when, while it listens for others.
    met: Option<(GroupId, Micros)>,
    /// The size of the first group that the last beat told a node that joins; 0: none did.
    told_n: u16,
    standing: Standing,
    /// Whether a peer has shown that this disk was rolled back: then no later life of it votes either.
    is_proven: bool,
    /// Since when it has been asking its peers.
    asks_since: Option<Micros>,
    complain_at: Micros,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Standing {
    Waiting,
    /// Enough peers remember it; its own disk is about to.
    Admitted,
    Votes,
    Barred,
}

impl Identity {
    /// A node that has not begun a life. Where `guarded` is false (a classic group cannot register) it
    /// may vote at once.
    pub fn new(me: NodeId, n: u16, timing: Timing, guarded: bool) -> Identity {
        let standing = if guarded { Standing::Waiting } else { Standing::Votes };
        Identity {
            me,
            boot: Boot::default(),
            lives: BTreeMap::new(),
            timing,
            n,
            is_member: false,
            is_listed: false,
            remembers: BTreeMap::new(),
            registered_by: BTreeMap::new(),
            group: None,
            is_written: false,
            heard: Vec::new(),
            left_since: None,
            met: None,
            told_n: 0,
            standing,
            is_proven: false,
            asks_since: None,
            complain_at: Micros(0),
        }
    }

    /// Takes up what an earlier life has written down.
    pub fn recover(&mut self, record: &Record) {
        match record {
            Record::Start { start, boot } => self.live(*start, *boot),
            Record::Member => self.is_member = true,
            Record::Registered { node, boot } => drop(self.remembers.insert(*node, *boot)),
            Record::Founded { group } => {
                self.forget_another_group(*group);
                (self.group, self.is_written) = (Some(*group), true);
            }
            Record::Barred => (self.standing, self.is_proven) = (Standing::Barred, true),
            _ => {}
        }
    }

    /// What rebuilds this.
    pub fn checkpoint(&self) -> impl Iterator<Item = Record> {
        let lives = self.lives.iter().map(|(start, boot)| Record::Start { start: *start, boot: *boot });
        let member = self.is_member.then_some(Record::Member);
        let founded = self.group.map(|group| Record::Founded { group });
        let barred = self.is_proven.then_some(Record::Barred);
        let registered = |(node, boot): (&NodeId, &Boot)| Record::Registered { node: *node, boot: *boot };
        lives.chain(founded).chain(member).chain(barred).chain(self.remembers.iter().map(registered))
    }

    fn live(&mut self, start: u64, boot: u64) {
        self.lives.insert(start, boot);
        if self.lives.len() > LIVES {
            self.lives.pop_first();
        }
    }

    /// The boots of the starts before this one, the last one first.
    pub fn earlier(&self) -> Vec<u64> {
        let before = |back| self.lives.get(&self.boot.start.checked_sub(back)?).copied();
        (1..).map_while(before).collect()
    }

    /// Begins a life.
    pub fn begin(&mut self, boot: Boot) {
        self.boot = boot;
        self.live(boot.start, boot.boot);
        // A classic group has no identity.
        if self.standing == Standing::Votes {
            return;
        }
        // An earlier version did not write it down.
        let root = || match self.me {
            NodeId(0) => self.is_member.then_some(boot.incarnation),
            _ => self.remembers.get(&NodeId(0)).map(|root| root.incarnation),
        };
        self.group = self.group.or_else(|| root().map(GroupId));
    }

    /// Writes down that this life has begun, and of which group it is if that is known.
    pub fn start(&mut self, out: &mut Outbox) {
        let Boot { start, boot, .. } = self.boot;
        out.persist(Record::Start { start, boot });
        if let Some(group) = self.group.filter(|_| !self.is_written) {
            self.belong(group, out);
        }
        out.flush();
        if self.is_proven {
            self.bar_for_its_disk(
                "its disk was rolled back, or a copy of it was started elsewhere: a peer showed that to an earlier start",
                out,
            );
        }
    }

    /// The group that this node belongs to, if it knows it by now.
    pub fn group(&self) -> Option<GroupId> {
        self.group
    }

    /// A datagram says that its sender belongs to that group, or to none; whether enough have said so.
    fn hears(&mut self, group: Option<GroupId>) -> bool {
        let known = self.heard.iter().position(|(heard, _)| *heard == group);
        let (_, count) = known.map_or((group, 0), |at| self.heard.remove(at));
        if self.heard.len() == MAX_HEARD {
            self.heard.remove(0);
        }
        let count = ENOUGH.min(count + 1);
        self.heard.push((group, count));
        count == ENOUGH
    }

    /// A node that belongs to no group hears one; whether it may believe that there is one. Node 0 of a first group
    /// that is named after its own directory is enough for the others of it, and its own name is for node 0: no
    /// damage of one byte says that.
    pub fn hears_group(&mut self, from: (NodeId, u64), group: GroupId) -> bool {
        let is_whole = match self.me {
            NodeId(0) => group == GroupId(self.boot.incarnation),
            _ => self.n > 0 && from == (NodeId(0), group.0),
        };
        self.hears(Some(group)) || is_whole
    }

    /// Node 0 of a first group hears another one that belongs to none. If it does so twice, there is none yet, and this
    /// node founds it.
    pub fn hears_founder(&mut self, out: &mut Outbox) {
        if self.me == NodeId(0) && self.hears(None) {
            self.found(out);
        }
    }

    /// Node 0 of a first group, which is not there yet, founds it.
    fn found(&mut self, out: &mut Outbox) {
        if self.me == NodeId(0) && self.n > 0 && self.group.is_none() {
            self.belong(GroupId(self.boot.incarnation), out);
        }
    }

    /// A datagram is of another group than this node's; whether enough have said so. `is_left`: nobody of its own is
    /// heard that votes.
    pub fn hears_other(&mut self, group: GroupId, is_left: bool, now: Micros) -> bool {
        self.left_since = is_left.then(|| self.left_since.unwrap_or(now));
        self.hears(Some(group))
    }

    /// A node that has learned nothing hears another group while its own is nothing yet, as far as it knows. Node 0,
    /// which never remembered a peer that asked for it, so that nobody votes on its word, or has heard nobody who does
    /// for a long time: what made it found one was an old datagram, or somebody whose disk is lost as well; it is of
    /// that group, and has lost its disk. Any other: whom it took for the founder of its group says itself that it is
    /// of that one.
    pub fn reconsider(&mut self, from: (NodeId, u64), group: GroupId, now: Micros, out: &mut Outbox) {
        let is_founder_gone = from.0 == NodeId(0) && self.group == Some(GroupId(from.1));
        let has_given_its_word = self.remembers.values().any(|known| known.start > 0);
        let is_left = self.left_since.is_some_and(|since| now.since(since) >= self.timing.timeout() * LONG);
        let is_alone = self.me == NodeId(0) && self.is_root() && (!has_given_its_word || is_left);
        if !self.is_member && !self.is_listed && (is_alone || is_founder_gone) {
            self.belong(group, out);
        }
    }

    /// Whether the group was founded by this very directory.
    pub fn is_root(&self) -> bool {
        self.group == Some(GroupId(self.boot.incarnation))
    }

    /// What it knows of the peers of another group than this one says nothing about those of this one.
    fn forget_another_group(&mut self, group: GroupId) {
        if self.group.is_some_and(|own| own != group) {
            self.remembers.clear();
            self.registered_by.clear();
        }
    }

    /// This node belongs to that group, for ever.
    pub fn belong(&mut self, group: GroupId, out: &mut Outbox) {
        self.forget_another_group(group);
        (self.group, self.is_written, self.met) = (Some(group), true, None);
        (self.heard, self.left_since, self.told_n) = (Vec::new(), None, 0);
        out.persist(Record::Founded { group });
        // Every datagram says so from now on.
        out.flush();
        out.event(Event::Belongs(group));
        if self.me == NodeId(0) && self.n > 0 && !self.is_root() && self.standing == Standing::Waiting {
            let what = format!(
                "its disk is not the one that founded the group on this wire ({group}). Its directory may be new \
                 because it was started from another working directory, or as a member of another group, which needs a \
                 name of its own here (--group NAME)"
            );
            self.bar_for_its_disk(&what, out);
        }
    }

    /// The group that a node which is about to join has heard, and since when.
    pub fn met(&self) -> Option<(GroupId, Micros)> {
        self.met
    }

    /// A node that is about to join hears its first group.
    pub fn meet(&mut self, group: GroupId, now: Micros) {
        self.met = Some((group, now));
    }

    /// A beat tells a node that joins how large the first group was; whether the last one said the same.
    pub fn is_told_twice(&mut self, n: u16) -> bool {
        std::mem::replace(&mut self.told_n, n) == n
    }

    /// A node that is about to join hears two groups: which one is meant?
    pub fn on_two_groups(&mut self, one: GroupId, other: GroupId, out: &mut Outbox) {
        if self.standing != Standing::Barred {
            self.bar(
                format!(
                    "two groups without names of their own are on this wire ({one} and {other}), and it is not said \
                     which one to join; give each group a name (--group NAME for all of its nodes), and the same here"
                ),
                out,
            );
        }
    }

    /// Whether this life must not vote.
    pub fn is_barred(&self) -> bool {
        self.standing == Standing::Barred
    }

    /// Which life of which directory this is.
    pub fn boot(&self) -> Boot {
        self.boot
    }

    /// Whether this node's votes count.
    pub fn may_vote(&self) -> bool {
        self.standing == Standing::Votes
    }

    /// The incarnation of node 0, which the group's identity tells to whoever belongs to it.
    pub fn root(&self, id: NodeId) -> Option<u64> {
        self.group.filter(|_| id == NodeId(0)).map(|group| group.0)
    }

    /// Whether `boot` may speak for `id`: its incarnation is the one remembered, if one is.
    pub fn is_genuine(&self, id: NodeId, boot: Boot) -> bool {
        if let Some(root) = self.root(id) {
            return boot.incarnation == root;
        }
        self.remembers.get(&id).is_none_or(|known| known.incarnation == boot.incarnation)
    }

    /// The life that is remembered of a peer, if one is.
    pub fn remembered(&self, id: NodeId) -> Option<Boot> {
        self.remembers.get(&id).copied()
    }

    /// A beat of a peer that none is remembered of: its incarnation is remembered from now on. Who lost its disk, or
    /// joins, is asked by nobody, and has to know whom to believe. Which start it is, only its `Register` tells: the
    /// network may say a damaged beat again and again, and its number must not outbid all later lives.
    pub fn introduce(&mut self, from: NodeId, boot: Boot, out: &mut Outbox) {
        if !self.remembers.contains_key(&from) {
            self.remember(from, Boot::some(boot.incarnation), out);
        }
    }

    fn remember(&mut self, from: NodeId, boot: Boot, out: &mut Outbox) {
        self.remembers.insert(from, boot);
        out.persist(Record::Registered { node: from, boot });
    }

    /// A peer votes in another life than the one that this node remembers, which has lost its disk itself and was never
    /// a member since: whom it took for that peer before it was told so, was another one that began anew.
    pub fn correct(&mut self, from: NodeId, boot: Boot, out: &mut Outbox) {
        if self.standing == Standing::Barred && !self.is_member && !self.is_listed {
            self.remember(from, Boot::some(boot.incarnation), out);
        }
    }

    /// `Register`: remember a peer's life, or say what is remembered instead. A new one is remembered if the peer's
    /// last beat named it, too. It names the boots of its `earlier` starts: if the one remembered is not among them, the
    /// disk was rolled back, however often it was started since.
    pub fn on_register(
        &mut self,
        from: NodeId,
        (boot, earlier): (Boot, &[u64]),
        beats: bool,
        out: &mut Outbox,
    ) {
        if let Some(root) = self.root(from).filter(|root| *root != boot.incarnation) {
            return out.send(Message::Barred { node: from, boot: boot.boot, known: Boot::some(root) });
        }
        let known = self.remembers.get(&from);
        let accepts =
            |known: &Boot| is_successor(*known, boot, earlier) || mutant::is(Mutant::SecondIncarnation);
        if let Some(known) = known.filter(|known| !accepts(known)) {
            // The same life, with a number that was damaged on the way.
            if known.boot == boot.boot {
                return;
            }
            return out.send(Message::Barred { node: from, boot: boot.boot, known: *known });
        }
        if known != Some(&boot) {
            // Beats of a second incarnation are not heard: the mistake has to be made here, too.
            if !beats && !mutant::is(Mutant::SecondIncarnation) {
                return;
            }
            self.remember(from, boot, out);
        }
        out.after_sync(Message::Registered { node: from, boot: boot.boot });
    }

    /// `Registered`: a peer has durably remembered this life, if it is this one that it names.
    /// `incarnation` is that of who says so: it counts once it is the one that is registered for `from`.
    pub fn on_registered(&mut self, from: NodeId, incarnation: u64, node: NodeId, boot: u64) {
        if node == self.me && boot == self.boot.boot {
            self.registered_by.insert(from, incarnation);
        }
    }

    /// What is remembered of a peer instead of this life of it: a later life of the same directory, or another one
    /// of the same start. Two lives with one number: the disk between them was rolled back, or copied.
    pub fn later_life(&self, id: NodeId, boot: Boot) -> Option<Boot> {
        let is_later = |known: &&Boot| {
            // The same life, with a number that was damaged on the way, is no other one.
            let is_other = known.incarnation == boot.incarnation && known.boot != boot.boot;
            is_other && !is_successor(**known, boot, &[])
        };
        self.remembers.get(&id).filter(is_later).copied()
    }

    /// `Barred`: a peer remembers this id otherwise. While this node asks to vote, it believes any objection. Once
    /// it votes, it believes proof alone, so that a stray packet cannot silence a healthy member: a peer that
    /// names this very boot, a random number that no earlier life had, and remembers a later start of the same
    /// directory, or another boot of one of its starts; never this very life.
    pub fn on_barred(&mut self, from: NodeId, node: NodeId, boot: u64, known: Boot, out: &mut Outbox) {
        if node != self.me || boot != self.boot.boot || self.standing == Standing::Barred {
            return;
        }
        let Boot { incarnation, start, .. } = known;
        let is_same_disk = incarnation == self.boot.incarnation;
        let lived = self.lives.get(&start).filter(|_| known.boot > 0);
        let is_other_life = || lived.is_some_and(|boot| *boot != known.boot);
        let is_other = is_same_disk && known.boot != self.boot.boot;
        let is_proof = is_other && (start >= self.boot.start || is_other_life());
        let is_late = self.standing != Standing::Waiting;
        if (is_same_disk && !is_proof) || (is_late && (!is_proof || mutant::is(Mutant::LateProofIgnored))) {
            return;
        }
        if incarnation == 0 && (self.is_member || self.is_listed) {
            // This very disk was a member's. It learns the change that put it out, says so, and ends in good order: no
            // refusal, and there is nothing to do.
            self.standing = Standing::Barred;
            return out.event(Event::Warning(format!(
                "node {from} says that this node was put out of the group while it was away: it votes no more, and \
                 ends when it has learned that change"
            )));
        }
        if incarnation == 0 {
            return self.bar(
                format!(
                    "node {from} says that id {} was a member before, and ids are never used again. Join under \
                     a new id, with the network flags as here: upaxos-node --join -i NEW_ID",
                    self.me
                ),
                out,
            );
        }
        if is_proof {
            // The next start of this disk has a higher number than the peer remembers, and would pass.
            self.is_proven = true;
            out.persist(Record::Barred);
            out.flush();
        }
        let what = match is_same_disk {
            true if start > self.boot.start => format!(
                "its disk is older than what node {from} remembers of it (start {start}, here {}), or a copy of it was \
                 started elsewhere",
                self.boot.start
            ),
            true => format!(
                "its disk is an older one, put back since node {from} heard of start {start}, or a copy (start {} now)",
                self.boot.start
            ),
            false => format!(
                "its disk is not the one that node {from} remembers (incarnation {incarnation}, here {}). Its \
                 directory may be new because it was started from another working directory, or as a member of \
                 another group, which needs a name of its own on this wire (--group NAME)",
                self.boot.incarnation
            ),
        };
        self.bar_for_its_disk(&what, out);
    }

    /// The log names this node as a member of the group in force, with an incarnation perhaps: all the
    /// registration that who joins needs. Its peers are asked all the same, as at every start: they may
    /// remember a later life. Once is enough, before it votes: who votes is the one that is listed, and the time for
    /// objections need not begin anew with every change.
    pub fn on_listed(&mut self, listed: Option<u64>, out: &mut Outbox) {
        let Some(listed) = listed.filter(|_| self.standing == Standing::Waiting && !self.is_listed) else {
            return;
        };
        if listed == self.boot.incarnation {
            self.is_listed = true;
            self.asks_since = None;
        } else {
            let own = self.boot.incarnation;
            let what =
                format!("its disk is not the one that the log names (incarnation {listed}, here {own})");
            self.bar_for_its_disk(&what, out);
        }
    }

    /// This node asks to join in the place of a node that is no member, or never was.
    pub fn on_no_place(&mut self, old: NodeId, was_member: bool, out: &mut Outbox) {
        if self.standing == Standing::Waiting {
            let what = match was_member {
                true => "is no member of the group any more: it left, or another node took its place",
                false => "was never a member of the group",
            };
            self.bar(
                format!(
                    "node {old}, whose place it asks for, {what}. Name a member (`members` lists them), or start it \
                     without --replace, as one node more"
                ),
                out,
            );
        }
    }

    /// Whether this is a founder that was never in its group. (Who joined is listed, and its n is 0: each of the two
    /// alone would tell.)
    pub fn is_new_founder(&self) -> bool {
        self.standing == Standing::Waiting && !self.is_member && !self.is_listed && self.n > 0
    }

    /// Whether this directory was never a member's, and will not be: it is barred, or too late.
    pub fn never_took_part(&self) -> bool {
        self.is_new_founder() || (self.is_barred() && !self.is_member && !self.is_listed)
    }

    /// The group has changed since it was made: who was never in it cannot begin any more, since those who
    /// would remember it may be gone.
    pub fn on_late(&mut self, out: &mut Outbox) {
        if self.is_new_founder() {
            self.bar_for_its_disk(
                "the group has changed since it was made, and this disk was never in it",
                out,
            );
        }
    }

    /// Whoever votes, by its beats, is counted upon when the group changes: so it must be a member in its next
    /// life, too, which its disk has to know first.
    fn begin_to_vote(&mut self, out: &mut Outbox) {
        if self.is_member {
            self.standing = Standing::Votes;
            return out.event(Event::MayVote);
        }
        (self.standing, self.is_member) = (Standing::Admitted, true);
        out.persist(Record::Member);
        out.flush();
    }

    /// All that was handed out is durable.
    pub fn on_synced(&mut self, out: &mut Outbox) {
        if self.standing == Standing::Admitted {
            self.begin_to_vote(out);
        }
    }

    fn bar_for_its_disk(&mut self, what: &str, out: &mut Outbox) {
        let me = self.me;
        let text = format!(
            "{what}. What a lost disk promised is not known here, so a vote could undo an agreement. If another \
             node {me} still runs, this id is taken: choose another one. If not, bring \
             the old directory back, or come back under a new id in the place of {me}, with the network flags as \
             here: upaxos-node --join -i NEW_ID --replace {me}"
        );
        self.bar(text, out);
    }

    fn bar(&mut self, why: String, out: &mut Outbox) {
        self.standing = Standing::Barred;
        out.event(Event::MayNotVote(why));
    }

    /// Asks for registration until enough peers have answered, and then says that this node votes.
    pub fn tick(&mut self, membership: &Membership, now: Micros, out: &mut Outbox) {
        let asks_since = *self.asks_since.get_or_insert(now);
        if self.standing != Standing::Waiting {
            return;
        }
        let waited = now.since(asks_since);
        // Others that it had would have been heard by now, if nothing was lost. If anything was heard: again.
        let patience = if self.heard.is_empty() { 1 } else { LONG };
        if self.n == 1 && waited >= self.timing.timeout() * patience {
            self.found(out);
        }
        if self.is_registered(membership, waited) {
            self.begin_to_vote(out);
        } else if now >= self.complain_at {
            if now > asks_since {
                let missing = |id: &&NodeId| **id != self.me && !self.is_registered_by(**id, membership);
                let members = &membership.group().members;
                out.event(Event::WaitsFor(members.iter().filter(missing).copied().collect()));
            }
            self.complain_at = now + Micros::from_millis(2_000);
        }
    }

    /// Whether to ask for registration with the next beat: until all members remember this life, so that
    /// each of them can tell a lost or an older disk from this one. Who is no member yet has nothing to ask.
    pub fn wants_registration(&self, membership: &Membership) -> bool {
        let is_first_or_later = self.is_member || self.is_listed || self.me.0 < self.n;
        let (known_by, members) = (self.known_by(membership), membership.group().members.len());
        is_first_or_later && self.standing != Standing::Barred && known_by + 1 < members
    }

    /// Whether a peer remembers this life: the one that is registered for its id, not another one.
    fn is_registered_by(&self, id: NodeId, membership: &Membership) -> bool {
        let registered = || {
            if let Some(root) = self.root(id) {
                return Some(root);
            }
            let remembered = || Some(self.remembers.get(&id)?.incarnation);
            membership.incarnation(id).or_else(remembered)
        };
        self.registered_by.get(&id).is_some_and(|incarnation| registered() == Some(*incarnation))
    }

    /// How many of the other members remember this life.
    fn known_by(&self, membership: &Membership) -> usize {
        let others = membership.group().members.iter().filter(|id| **id != self.me);
        others.filter(|id| self.is_registered_by(**id, membership)).count()
    }

    fn is_registered(&self, membership: &Membership, waited: Micros) -> bool {
        // All get the time to object.
        let has_waited = waited >= self.timing.timeout();
        if !self.is_member && !self.is_listed {
            // Whoever came later never heard of it, and could not tell it from one that lost its disk.
            let others = usize::from(self.n.saturating_sub(1));
            let is_known = |id: u16| self.is_registered_by(NodeId(id), membership);
            let first = (0..self.n).filter(|id| is_known(*id)).count();
            let root_knows = match self.me {
                NodeId(0) => self.is_root(),
                _ => self.group.is_some() && is_known(0),
            };
            return self.me.0 < self.n && root_knows && first >= enough_peers(others) && has_waited;
        }
        // A member that comes back: a quorum with itself is enough.
        let (known_by, group) = (self.known_by(membership) + 1, membership.group());
        // Who is alone by what it knows may be an old disk of a group that has grown.
        let is_known_to_all = known_by >= group.members.len() && known_by > 1;
        is_known_to_all || (known_by >= group.quorum() && has_waited)
    }
}

/// How many of so many peers must remember a member before it votes for the first time. Of the minority
/// that may lose its disks one is the member itself, the rest are peers that have forgotten it: any two
/// sets of this size share one peer more than those.
fn enough_peers(others: usize) -> usize {
    let minority = others / 2;
    let too_few = usize::from(mutant::is(Mutant::FewPeers) && others > 1);
    (others + minority).div_ceil(2) - too_few
}

/// Whether `boot` can be the life that `known` was, or a later one of the same directory, whose `earlier` boots are
/// these, the last one first. Of how it was before that, or was never known by its start, nothing can be said.
fn is_successor(known: Boot, boot: Boot, earlier: &[u64]) -> bool {
    let since = boot.start.checked_sub(known.start);
    let is_same_life = match since {
        None => false,
        Some(0) => boot.boot == known.boot,
        Some(_) if mutant::is(Mutant::EarlierBootsIgnored) => true,
        Some(since) => earlier.get(since as usize - 1).is_none_or(|before| *before == known.boot),
    };
    boot.incarnation == known.incarnation && (known.start == 0 || is_same_life)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node in its first life, which these remember, after the time for objections.
    fn remembered_by(me: u16, n: u16, peers: &[u16]) -> Identity {
        let (me, group, timing) = (NodeId(me), Membership::new(n), Timing::default());
        let (mut identity, mut out) = (Identity::new(me, n, timing, true), Outbox::new(me));
        // As node 0 of it would have founded it.
        identity.begin(Boot { incarnation: 100 + u64::from(me.0), start: 1, boot: 0 });
        identity.belong(GroupId(100), &mut out);
        for peer in peers {
            let incarnation = 100 + u64::from(*peer);
            identity.introduce(NodeId(*peer), Boot { incarnation, start: 1, boot: 1 }, &mut out);
            identity.on_registered(NodeId(*peer), incarnation, me, 0);
        }
        identity.tick(&group, Micros(0), &mut out);
        identity.tick(&group, timing.timeout(), &mut out);
        identity.on_synced(&mut out);
        identity
    }

    #[test]
    fn the_ids_of_founders_end_before_n() {
        assert!(remembered_by(0, 3, &[1, 2]).may_vote());
        assert!(!remembered_by(0, 3, &[1, 3]).may_vote());
        assert!(!remembered_by(3, 3, &[0, 1, 2]).may_vote());
        assert!(remembered_by(2, 3, &[]).wants_registration(&Membership::new(3)));
        assert!(!remembered_by(3, 3, &[]).wants_registration(&Membership::new(3)));
    }

    #[test]
    fn two_registrations_share_a_peer_that_kept_its_disk_while_a_minority_lost_theirs() {
        for n in 2..100 {
            let (others, enough) = (n - 1, enough_peers(n - 1));
            let shared = 2 * enough - others;
            let forgetful = (others / 2).saturating_sub(1);
            assert!(enough <= others && shared > forgetful, "{enough} of {others}");
        }
    }
}
