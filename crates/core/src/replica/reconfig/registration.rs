//! The identity of this node, and whether it may vote.
//!
//! This module owns the registration of incarnations among the members of the first group. A node that lost its
//! disk has forgotten its promises, so it must never vote again under the same id. Therefore a member votes for the
//! first time only after [`enough_peers`] of the n-1 others have durably remembered its incarnation. Any two such
//! sets share a peer that kept its disk while a minority lost theirs, and no peer remembers two incarnations for
//! one id. The log names each later joiner with its incarnation; a joiner needs no other registration.
//!
//! It also owns the membership in one group. The incarnation of node 0 of the first group is the group's identity.
//! Node 0 must be among the peers that remember a member before its first vote, and it remembers one incarnation
//! for each id. So of two directories made for one id (two joined wires, or two groups on one wire), only one can
//! ever be the group's.

use std::collections::BTreeMap;

use crate::mutant::{self, Mutant};
use crate::record::Record;
use crate::replica::config::Timing;
use crate::replica::outbox::{Event, Outbox};
use crate::replica::reconfig::membership::Membership;
use crate::types::{GroupId, Micros, NodeId};
use crate::wire::{Boot, Message};

/// How many of its last starts a directory remembers. A peer that missed more starts cannot check them.
const LIVES: usize = 32;

/// For how many groups this node counts the datagrams heard.
const MAX_HEARD: usize = 8;

/// How many timeouts without a sign of life pass before this node stops waiting for a peer.
const LONG: u64 = 10;

/// How many datagrams must name the same group before it is believed. A single one may be damaged or old.
const ENOUGH: u8 = 2;

/// This node's identity, and the identities that it remembers of its peers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Registration {
    me: NodeId,
    boot: Boot,
    /// The boots of its last starts, this one included, by the numbers of the starts.
    lives: BTreeMap<u64, u64>,
    timing: Timing,
    /// The size of the first group; 0 for a node that joins.
    n: u16,
    /// Whether an earlier run of this directory has been registered.
    is_member: bool,
    /// Whether the log names this directory as a member's.
    is_listed: bool,
    remembers: BTreeMap<NodeId, Boot>,
    /// The peers that have remembered this run, each with the incarnation of its statement.
    registered_by: BTreeMap<NodeId, u64>,
    group: Option<GroupId>,
    /// Whether `group` is in the log.
    is_written: bool,
    /// Groups other than this node's that datagrams named (`None`: no group), and how many datagrams did.
    heard: Vec<(Option<GroupId>, u8)>,
    /// Since when this node has heard another group, and no voter of its own.
    left_since: Option<Micros>,
    /// For a joiner without a group: the group that it has heard, and since when. It listens for other groups
    /// meanwhile.
    met: Option<(GroupId, Micros)>,
    /// For a joiner: the size of the first group by the last heartbeat; 0 if there was none.
    told_n: u16,
    standing: Standing,
    /// Whether a peer has proved that this disk was rolled back. Then no later run of it votes either.
    is_proven: bool,
    /// Since when it has been asking its peers.
    asks_since: Option<Micros>,
    complain_at: Micros,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Standing {
    Waiting,
    /// Enough peers remember this node. Its own disk has yet to record that.
    Admitted,
    Votes,
    Barred,
}

impl Registration {
    /// An identity before `begin`. If `guarded` is false (a classic group cannot register), the node may vote at
    /// once.
    pub fn new(me: NodeId, n: u16, timing: Timing, guarded: bool) -> Registration {
        let standing = if guarded { Standing::Waiting } else { Standing::Votes };
        Registration {
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

    /// Restores one record of an earlier run.
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

    /// The records that rebuild this identity.
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

    /// The boots of the starts before this one, the latest first.
    pub fn earlier(&self) -> Vec<u64> {
        let before = |back| self.lives.get(&self.boot.start.checked_sub(back)?).copied();
        (1..).map_while(before).collect()
    }

    /// Starts a run of this directory.
    pub fn begin(&mut self, boot: Boot) {
        self.boot = boot;
        self.live(boot.start, boot.boot);
        // A classic group has no identity.
        if self.standing == Standing::Votes {
            return;
        }
        // An earlier version did not record the group.
        let root = || match self.me {
            NodeId(0) => self.is_member.then_some(boot.incarnation),
            _ => self.remembers.get(&NodeId(0)).map(|root| root.incarnation),
        };
        self.group = self.group.or_else(|| root().map(GroupId));
    }

    /// Records the start of this run, and the group if it is known.
    pub fn start(&mut self, out: &mut Outbox) {
        let Boot { start, boot, .. } = self.boot;
        out.persist(Record::Start { start, boot });
        if let Some(group) = self.group.filter(|_| !self.is_written) {
            self.belong(group, out);
        }
        out.flush();
        if self.is_proven {
            self.bar_for_its_disk(
                "its disk was rolled back, or a copy of it was started elsewhere: a peer proved that to an earlier run",
                out,
            );
        }
    }

    /// The group of this node; `None` until it knows one.
    pub fn group(&self) -> Option<GroupId> {
        self.group
    }

    /// Counts a datagram that names `group`, or no group. True once enough have named it.
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

    /// A node without a group hears one. True when it may believe that the group exists. One datagram is enough if
    /// it comes from node 0 of a first group and names that node's own directory, or if it names this node 0's own
    /// directory: no damage of one byte produces that.
    pub fn hears_group(&mut self, from: (NodeId, u64), group: GroupId) -> bool {
        let is_whole = match self.me {
            NodeId(0) => group == GroupId(self.boot.incarnation),
            _ => self.n > 0 && from == (NodeId(0), group.0),
        };
        self.hears(Some(group)) || is_whole
    }

    /// Node 0 of a first group hears a node without a group. If that happens twice, there is no group yet, and this
    /// node founds it.
    pub fn hears_founder(&mut self, out: &mut Outbox) {
        if self.me == NodeId(0) && self.hears(None) {
            self.found(out);
        }
    }

    /// Founds the group, if this is node 0 of a first group that does not exist yet.
    fn found(&mut self, out: &mut Outbox) {
        if self.me == NodeId(0) && self.n > 0 && self.group.is_none() {
            self.belong(GroupId(self.boot.incarnation), out);
        }
    }

    /// Counts a datagram of another group. True once enough have named it. `is_left`: this node hears no voter of
    /// its own group.
    pub fn hears_other(&mut self, group: GroupId, is_left: bool, now: Micros) -> bool {
        self.left_since = is_left.then(|| self.left_since.unwrap_or(now));
        self.hears(Some(group))
    }

    /// A node that has learned nothing hears another group. It changes over if its own group is nothing yet, as far
    /// as it knows. Node 0 does so if it never remembered a peer on request, so that no node votes on its word, or
    /// if it has heard no voter for a long time. It then founded its group because of an old datagram, or of a node
    /// that has lost its disk too. It belongs to the other group, and has lost its disk. Any other node does so if
    /// the node that it took for its founder itself names the other group.
    pub fn reconsider(&mut self, from: (NodeId, u64), group: GroupId, now: Micros, out: &mut Outbox) {
        let is_founder_gone = from.0 == NodeId(0) && self.group == Some(GroupId(from.1));
        let has_given_its_word = self.remembers.values().any(|known| known.start > 0);
        let is_left = self.left_since.is_some_and(|since| now.since(since) >= self.timing.timeout() * LONG);
        let is_alone = self.me == NodeId(0) && self.is_root() && (!has_given_its_word || is_left);
        if !self.is_member && !self.is_listed && (is_alone || is_founder_gone) {
            self.belong(group, out);
        }
    }

    /// Whether this very directory founded the group.
    pub fn is_root(&self) -> bool {
        self.group == Some(GroupId(self.boot.incarnation))
    }

    /// Forgets the peers of another group: they prove nothing about the peers of this one.
    fn forget_another_group(&mut self, group: GroupId) {
        if self.group.is_some_and(|own| own != group) {
            self.remembers.clear();
            self.registered_by.clear();
        }
    }

    /// Makes this node belong to `group` for good, and records that.
    pub fn belong(&mut self, group: GroupId, out: &mut Outbox) {
        self.forget_another_group(group);
        (self.group, self.is_written, self.met) = (Some(group), true, None);
        (self.heard, self.left_since, self.told_n) = (Vec::new(), None, 0);
        out.persist(Record::Founded { group });
        // From now on, every datagram names the group, so the record must be durable first.
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

    /// The group that a joiner without a group has heard, and since when.
    pub fn met(&self) -> Option<(GroupId, Micros)> {
        self.met
    }

    /// Records the first group that a joiner hears.
    pub fn meet(&mut self, group: GroupId, now: Micros) {
        self.met = Some((group, now));
    }

    /// Records the size of the first group from a heartbeat. True when the last heartbeat named the same size.
    pub fn is_told_twice(&mut self, n: u16) -> bool {
        std::mem::replace(&mut self.told_n, n) == n
    }

    /// Refuses to join, because two groups are heard and the operator must choose one.
    pub fn on_two_groups(&mut self, one: GroupId, other: GroupId, out: &mut Outbox) {
        if self.standing != Standing::Barred {
            self.bar(
                format!(
                    "two groups without names of their own are on this wire ({one} and {other}), and this node \
                     cannot tell which one to join; give each group a name (--group NAME for all of its nodes), \
                     and the same here"
                ),
                out,
            );
        }
    }

    /// Whether this run must not vote.
    pub fn is_barred(&self) -> bool {
        self.standing == Standing::Barred
    }

    /// The boot of this run: its directory's incarnation, its number, and its random number.
    pub fn boot(&self) -> Boot {
        self.boot
    }

    /// Whether this node's votes count.
    pub fn may_vote(&self) -> bool {
        self.standing == Standing::Votes
    }

    /// The incarnation of node 0, which follows from the group's identity.
    pub fn root(&self, id: NodeId) -> Option<u64> {
        self.group.filter(|_| id == NodeId(0)).map(|group| group.0)
    }

    /// Whether `boot` may speak for `id`: its incarnation is the remembered one, or none is remembered.
    pub fn is_genuine(&self, id: NodeId, boot: Boot) -> bool {
        if let Some(root) = self.root(id) {
            return boot.incarnation == root;
        }
        self.remembers.get(&id).is_none_or(|known| known.incarnation == boot.incarnation)
    }

    /// The boot that this node remembers of a peer.
    pub fn remembered(&self, id: NodeId) -> Option<Boot> {
        self.remembers.get(&id).copied()
    }

    /// Remembers the incarnation in a peer's heartbeat if none is remembered. A joiner, or a node that lost its
    /// disk, gets no `Register`, and must know which peer to believe. Only a `Register` gives the number of the
    /// start. The network may repeat a damaged heartbeat, and its number must not outbid all later runs.
    pub fn introduce(&mut self, from: NodeId, boot: Boot, out: &mut Outbox) {
        if !self.remembers.contains_key(&from) {
            self.remember(from, Boot::some(boot.incarnation), out);
        }
    }

    fn remember(&mut self, from: NodeId, boot: Boot, out: &mut Outbox) {
        self.remembers.insert(from, boot);
        out.persist(Record::Registered { node: from, boot });
    }

    /// Corrects the remembered incarnation of a voting peer. Only a node that has lost its disk itself, and was
    /// never a member since, does so: before it knew of its loss, it may have taken another new node for that peer.
    pub fn correct(&mut self, from: NodeId, boot: Boot, out: &mut Outbox) {
        if self.standing == Standing::Barred && !self.is_member && !self.is_listed {
            self.remember(from, Boot::some(boot.incarnation), out);
        }
    }

    /// `Register`: remembers a peer's boot, or answers with the one remembered instead. A new boot is remembered
    /// only if the peer's last heartbeat named it, too. The peer names the boots of its `earlier` starts. If the
    /// remembered one is not among them, the disk was rolled back, however often it was started since.
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
            // The same run, with a start number that was damaged on the way.
            if known.boot == boot.boot {
                return;
            }
            return out.send(Message::Barred { node: from, boot: boot.boot, known: *known });
        }
        if known != Some(&boot) {
            // Heartbeats of a second incarnation are ignored, so the mutant has to skip this check, too.
            if !beats && !mutant::is(Mutant::SecondIncarnation) {
                return;
            }
            self.remember(from, boot, out);
        }
        out.after_sync(Message::Registered { node: from, boot: boot.boot });
    }

    /// `Registered`: a peer has durably remembered this run, if it names this run. `incarnation` is the peer's own.
    /// The statement counts once that incarnation is the one registered for `from`.
    pub fn on_registered(&mut self, from: NodeId, incarnation: u64, node: NodeId, boot: u64) {
        if node == self.me && boot == self.boot.boot {
            self.registered_by.insert(from, incarnation);
        }
    }

    /// The remembered boot of a peer, if it shows that `boot` is outdated: it is a later run of the same directory,
    /// or another run with the same start number. Two runs with one number show that the disk was rolled back or
    /// copied.
    pub fn later_life(&self, id: NodeId, boot: Boot) -> Option<Boot> {
        let is_later = |known: &&Boot| {
            // The same run, with a start number that was damaged on the way, is no other run.
            let is_other = known.incarnation == boot.incarnation && known.boot != boot.boot;
            is_other && !is_successor(**known, boot, &[])
        };
        self.remembers.get(&id).filter(is_later).copied()
    }

    /// `Barred`: a peer remembers another boot for this id. While this node asks to vote, it believes any
    /// objection. Once it votes, it believes only proof, so that a stray packet cannot silence a healthy member.
    /// Proof names this very boot, a random number that no earlier run had, and shows a later start of the same
    /// directory, or another boot for one of its starts. A statement about this very run is never proof.
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
            // This very disk was a member's. This node learns the change that removed it, reports that, and exits
            // in good order. That is no refusal, and the operator has nothing to do.
            self.standing = Standing::Barred;
            return out.event(Event::Warning(format!(
                "node {from} says that this node was put out of the group while it was away: it no longer votes, \
                 and exits when it has learned that change"
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

    /// The log names this node as a member of the group in force, perhaps with its incarnation. A joiner needs no
    /// other registration. The peers are asked all the same, as at every start: they may remember a later run. Once
    /// before the first vote is enough. A voter is the listed one already, and the time for objections need not
    /// start again with every change.
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

    /// Refuses to join in the place of `old`, which is no member any more, or never was one.
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

    /// Whether this is a founder that was never in its group. (A joiner is listed, and its n is 0: either of the
    /// two alone would tell.)
    pub fn is_new_founder(&self) -> bool {
        self.standing == Standing::Waiting && !self.is_member && !self.is_listed && self.n > 0
    }

    /// Whether this directory was never a member's, and will not be one: it is barred, or too late.
    pub fn never_took_part(&self) -> bool {
        self.is_new_founder() || (self.is_barred() && !self.is_member && !self.is_listed)
    }

    /// The group has changed since this node's directory was made. A founder that was never in the group cannot
    /// start any more, since the peers that would remember it may be gone.
    pub fn on_late(&mut self, out: &mut Outbox) {
        if self.is_new_founder() {
            self.bar_for_its_disk(
                "the group has changed since it was made, and this disk was never in it",
                out,
            );
        }
    }

    /// A node whose heartbeats say that it votes is counted upon when the group changes. So it must be a member in
    /// its next run, too, and its disk has to know that first.
    fn begin_to_vote(&mut self, out: &mut Outbox) {
        if self.is_member {
            self.standing = Standing::Votes;
            return out.event(Event::MayVote);
        }
        (self.standing, self.is_member) = (Standing::Admitted, true);
        out.persist(Record::Member);
        out.flush();
    }

    /// Everything handed out so far is durable.
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
             here (without --replace if {me} is no member any more): upaxos-node --join -i NEW_ID --replace {me}"
        );
        self.bar(text, out);
    }

    fn bar(&mut self, why: String, out: &mut Outbox) {
        self.standing = Standing::Barred;
        out.event(Event::MayNotVote(why));
    }

    /// Asks for registration until enough peers have answered, and then reports that this node votes.
    pub fn tick(&mut self, membership: &Membership, now: Micros, out: &mut Outbox) {
        let asks_since = *self.asks_since.get_or_insert(now);
        if self.standing != Standing::Waiting {
            return;
        }
        let waited = now.since(asks_since);
        // If nothing was lost, the other nodes of the group would have been heard by now. If any datagram was
        // heard, wait longer.
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

    /// Whether to ask for registration with the next heartbeat: until all members remember this run, so that each
    /// of them can detect a lost or an older disk. A node that is no member yet does not ask.
    pub fn wants_registration(&self, membership: &Membership) -> bool {
        let is_first_or_later = self.is_member || self.is_listed || self.me.0 < self.n;
        let (known_by, members) = (self.known_by(membership), membership.group().members.len());
        is_first_or_later && self.standing != Standing::Barred && known_by + 1 < members
    }

    /// Whether a peer remembers this run. Only the statement of the incarnation registered for its id counts.
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

    /// How many of the other members remember this run.
    fn known_by(&self, membership: &Membership) -> usize {
        let others = membership.group().members.iter().filter(|id| **id != self.me);
        others.filter(|id| self.is_registered_by(**id, membership)).count()
    }

    fn is_registered(&self, membership: &Membership, waited: Micros) -> bool {
        // All peers get the time to object.
        let has_waited = waited >= self.timing.timeout();
        if !self.is_member && !self.is_listed {
            // A later member never knew this node, and could not detect that its disk was lost.
            let others = usize::from(self.n.saturating_sub(1));
            let is_known = |id: u16| self.is_registered_by(NodeId(id), membership);
            let first = (0..self.n).filter(|id| is_known(*id)).count();
            let root_knows = match self.me {
                NodeId(0) => self.is_root(),
                _ => self.group.is_some() && is_known(0),
            };
            return self.me.0 < self.n && root_knows && first >= enough_peers(others) && has_waited;
        }
        // A returning member needs only a quorum, itself included.
        let (known_by, group) = (self.known_by(membership) + 1, membership.group());
        // A node that is alone as far as it knows may be an old disk of a group that has grown.
        let is_known_to_all = known_by >= group.members.len() && known_by > 1;
        is_known_to_all || (known_by >= group.quorum() && has_waited)
    }
}

/// How many of `others` peers must remember a member before its first vote. A minority may lose its disks: the
/// member itself is one of them, and the rest are peers that have forgotten it. Any two sets of this size share one
/// peer more than that rest.
fn enough_peers(others: usize) -> usize {
    let minority = others / 2;
    let too_few = usize::from(mutant::is(Mutant::FewPeers) && others > 1);
    (others + minority).div_ceil(2) - too_few
}

/// Whether `boot` can be the run `known`, or a later run of the same directory. `earlier` holds its earlier boots,
/// the latest first. If `known` is older than these, or its start is not known, nothing speaks against it.
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

    /// A node in its first run that `peers` remember, after the time for objections.
    fn remembered_by(me: u16, n: u16, peers: &[u16]) -> Registration {
        let (me, group, timing) = (NodeId(me), Membership::new(n), Timing::default());
        let (mut identity, mut out) = (Registration::new(me, n, timing, true), Outbox::new(me));
        // As node 0 of the group would have founded it.
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
