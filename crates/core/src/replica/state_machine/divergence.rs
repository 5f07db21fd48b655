//! The comparison of digests: whether all nodes have learned the same values, and their scripts computed the same
//! state. Nodes send digests with their heartbeats, compare them, and trace a difference back to its instance.
//!
//! This module owns the peers' statements about the digests of their logs and scripts, and the search for the first
//! instance at which two nodes diverge. The search is a bisection, one question at a time. When the instance is
//! found, all nodes are asked about it. A node that differs from an agreeing quorum must end, since its answers are
//! wrong. If no quorum answers, the log reports that, and the node asks again from time to time: the nodes that
//! could decide may be down or cut off. This module believes only members, and compares only scripts of the same
//! source. It changes nothing that is learned or remembered.

mod search;
mod subject;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::hooks::Script;
use crate::mutant::{self, Mutant};
use crate::replica::outbox::{Event, Outbox};
use crate::types::{Instance, NodeId};
use crate::wire::Message;
use search::{PATIENCE, Poll, Search, Stage, Subject, TELL_AGAIN};
pub use subject::OwnDigests;

/// How many statements of peers are remembered.
const MAX_TOLD: usize = 1_024;

/// The digests of peers, as far as this node has received them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Divergence {
    /// The last instance whose digests this node sent, and the number of heartbeats since then.
    told: Instance,
    beats: u8,
    /// Up to which instance a peer has the same digest.
    agreed: BTreeMap<(NodeId, Subject), Instance>,
    /// Statements about instances that were not learned here when they arrived.
    ahead: BTreeMap<(NodeId, Subject), (Instance, u128)>,
    searches: Vec<Search>,
    /// Peers with another source for a script of the same name, which the log has reported already.
    others: BTreeSet<(NodeId, Arc<str>, u64)>,
}

impl Divergence {
    fn search(&mut self, peer: NodeId, subject: Subject) -> Option<&mut Search> {
        self.searches.iter_mut().find(|search| (search.peer, search.subject) == (peer, subject))
    }

    /// Records that a peer has the same digest up to `instance`.
    fn on_same(&mut self, peer: NodeId, subject: Subject, instance: Instance) {
        if let Some(search) = self.search(peer, subject) {
            match search.stage {
                Stage::Bisects if instance < search.high => search.raise(instance),
                // The peer started anew, and is right now.
                _ if instance >= search.high => {
                    self.searches.retain(|search| (search.peer, search.subject) != (peer, subject));
                }
                _ => return,
            }
        }
        let agreed = self.agreed.entry((peer, subject)).or_default();
        *agreed = instance.max(*agreed);
    }

    /// Records that a peer has a different digest up to `instance`.
    fn on_other(&mut self, peer: NodeId, subject: Subject, instance: Instance) {
        let agreed = self.agreed.get(&(peer, subject)).copied().unwrap_or_default();
        match self.search(peer, subject) {
            Some(search) if search.stage == Stage::Bisects && instance > search.low => search.lower(instance),
            Some(_) => {}
            // Statements from before the peer started anew are of no use.
            None => {
                let low = if agreed < instance { agreed } else { Instance(0) };
                self.searches.push(Search::new(subject, peer, low, instance));
            }
        }
    }

    /// The peers whose logs are known to differ from this node's, each with the first different instance.
    pub fn parted(&self) -> impl Iterator<Item = (NodeId, Instance)> {
        let is_found = |search: &&Search| search.subject == Subject::Log && search.stage != Stage::Bisects;
        self.searches.iter().filter(is_found).map(|search| (search.peer, search.high))
    }

    /// Handles a member's question about a digest, or its own digest.
    pub fn on_message(&mut self, from: NodeId, message: Message, own: &mut OwnDigests<'_>, out: &mut Outbox) {
        match message {
            Message::AskDigest { instance, name } => own.on_ask_digest(instance, &name, out),
            Message::Digest { instance, digest, script } => {
                self.on_digest(from, (instance, digest), &script, own, out);
            }
            Message::AskChain { instance } => own.on_ask_chain(instance, out),
            Message::Chain { instance, digest } => self.on_chain(from, (instance, digest), own, out),
            _ => {}
        }
    }

    /// `Chain`: handles a peer's digest of the log up to an instance.
    fn on_chain(&mut self, from: NodeId, said: (Instance, u128), own: &mut OwnDigests<'_>, out: &mut Outbox) {
        if own.has_log() && !mutant::is(Mutant::ChainNotCompared) {
            self.on_said(from, Subject::Log, said, own, out);
        }
    }

    /// `Digest`: handles a peer's digest of a script.
    fn on_digest(
        &mut self,
        from: NodeId,
        (instance, digest): (Instance, u64),
        script: &Script,
        own: &mut OwnDigests<'_>,
        out: &mut Outbox,
    ) {
        let scripts = own.log.scripts();
        match scripts.named(&script.name).filter(|at| **scripts.script(*at) == *script) {
            Some(number) => {
                self.on_said(from, Subject::Script(number), (instance, u128::from(digest)), own, out);
            }
            None => self.on_other_script(from, script, own, out),
        }
    }

    /// Handles a peer's digest of the log, or of a script, up to an instance.
    fn on_said(
        &mut self,
        from: NodeId,
        subject: Subject,
        (instance, digest): (Instance, u128),
        own: &mut OwnDigests<'_>,
        out: &mut Outbox,
    ) {
        if instance > own.context.learned {
            self.ahead.entry((from, subject)).or_insert((instance, digest));
            return;
        }
        let Some(known) = own.digest_of(subject, instance) else { return own.dig(subject, instance, out) };
        for search in &mut self.searches {
            if let Stage::Polls(poll) = &mut search.stage
                && (search.subject, poll.at) == (subject, instance)
            {
                poll.said.insert(from, digest);
            }
        }
        if known == digest {
            self.on_same(from, subject, instance);
        } else {
            self.on_other(from, subject, instance);
        }
        self.search_on(own, out);
    }

    /// Compares the statements about instances that have been learned since. Callers do this often, before so much
    /// is learned that the digests of these instances are dropped again.
    pub fn compare_ahead(&mut self, own: &mut OwnDigests<'_>, out: &mut Outbox) {
        let learned = own.context.learned;
        let ready: Vec<_> = self.ahead.extract_if(.., |_, (at, _)| *at <= learned).collect();
        for ((from, subject), said) in ready {
            self.on_said(from, subject, said, own, out);
        }
    }

    /// Reports a script with another source. Its results may differ rightly, so they are not compared.
    fn on_other_script(&mut self, from: NodeId, theirs: &Script, own: &OwnDigests<'_>, out: &mut Outbox) {
        let said = (from, Arc::clone(&theirs.name), theirs.source);
        if self.others.len() >= MAX_TOLD || !self.others.insert(said) {
            return;
        }
        let scripts = own.log.scripts();
        out.event(Event::Warning(match scripts.named(&theirs.name) {
            Some(own) => format!(
                "node {from} runs another version of script {theirs}, this node runs source {:016x}: what they \
                 compute is not compared; start all nodes with the same file, budget and version",
                scripts.script(own).source
            ),
            None => format!(
                "node {from} runs script {theirs}, and this node does not: what it computes is not compared; start \
                 all nodes with the same --script files"
            ),
        }));
    }

    /// With every heartbeat: sends the digests of the durable prefix, and repeats unanswered questions.
    pub fn on_beat(&mut self, own: &mut OwnDigests<'_>, out: &mut Outbox) {
        let (told_before, durable) = (self.told, own.context.durable);
        self.beats = self.beats.saturating_add(1);
        if (durable > self.told || self.beats >= TELL_AGAIN) && durable.0 > 0 {
            (self.told, self.beats) = (durable, 0);
            own.subjects().for_each(|subject| own.tell(subject, durable, out));
        }
        self.compare_ahead(own, out);
        own.log.dig_with_beat(out);
        let digs = own.log.chain().digs();
        self.searches.iter_mut().for_each(|search| search.on_beat(told_before, digs));
        self.search_on(own, out);
        self.show_polls(own, out);
        for (peer, first) in self.parted() {
            out.send(Message::Differs { instance: first, node: peer });
        }
    }

    /// With every heartbeat until it is done once: sends this node's digests on both sides of each divergence, so
    /// that the peers find it as well.
    fn show_polls(&mut self, own: &OwnDigests<'_>, out: &mut Outbox) {
        for search in &mut self.searches {
            let Stage::Polls(poll) = &mut search.stage else { continue };
            if !poll.has_shown && search.high <= own.context.durable {
                poll.has_shown = true;
                own.tell(search.subject, search.low, out);
                own.tell(search.subject, search.high, out);
            }
        }
    }

    /// Takes every search one step further.
    fn search_on(&mut self, own: &OwnDigests<'_>, out: &mut Outbox) {
        for search in &mut self.searches {
            if search.stage == Stage::Bisects {
                let next = search.next(own.floor_of(search.subject));
                match next.filter(|_| search.beats < PATIENCE) {
                    Some(instance) => own.ask(search, instance, out),
                    None => {
                        out.event(own.divergence(search));
                        search.poll();
                    }
                }
            }
            poll_on(search, own, out);
        }
    }
}

/// Ends a poll that has a result, and reports a poll that has none.
fn poll_on(search: &mut Search, own: &OwnDigests<'_>, out: &mut Outbox) {
    let Stage::Polls(poll) = &mut search.stage else { return };
    if let Some(event) = verdict_on((search.subject, search.peer), search.high, poll, own) {
        if matches!(event, Event::MustEnd(_)) && !poll.has_shown {
            return;
        }
        out.event(event);
        search.stage = Stage::Done;
        return;
    }
    if search.beats >= PATIENCE && !poll.is_told {
        (poll.is_told, search.beats) = (true, 0);
        out.event(Event::Warning(format!(
            "{}, instance {}: no quorum is known to agree: no node can tell which one is wrong",
            own.name_of(search.subject),
            search.high
        )));
    }
    let at = poll.at;
    own.ask(search, at, out);
}

/// Decides which side is right from the instance `first` on, once a quorum agrees.
fn verdict_on(
    (subject, peer): (Subject, NodeId),
    first: Instance,
    poll: &Poll,
    own: &OwnDigests<'_>,
) -> Option<Event> {
    let known = own.digest_of(subject, poll.at)?;
    let members = &own.log.group().members;
    let mut by_digest: BTreeMap<u128, Vec<NodeId>> = BTreeMap::new();
    for (from, digest) in poll.said.iter().filter(|(from, _)| members.contains(from)) {
        by_digest.entry(*digest).or_default().push(*from);
    }
    let quorum = own.log.group().quorum();
    let against = by_digest.iter().find(|(digest, nodes)| **digest != known && nodes.len() >= quorum);
    if let Some((_, nodes)) = against {
        return Some(Event::MustEnd(own.why_to_end(subject, first, nodes)));
    }
    let alike = by_digest.get(&known).map_or(0, Vec::len) + usize::from(members.contains(&own.context.me));
    (alike >= quorum).then(|| {
        Event::Warning(format!(
            "{}, instance {first}: a quorum has the same as this node: node {peer} is wrong",
            own.name_of(subject)
        ))
    })
}
