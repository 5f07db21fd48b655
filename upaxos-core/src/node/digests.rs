//! Whether the scripts of all nodes compute the same: told with the beats, compared, and where not, traced back.
//!
//! Owns what peers said of their scripts' digests, and the search for the first instance at which two of them
//! part: a bisection, one question at a time. When it is found, all are asked about that instance: a node against
//! which a quorum of the others agrees must end, since what it reads is wrong. Where no quorum answers, that is said,
//! and asked again now and then: those who can tell may be down, or cut off. It believes only members, compares only
//! scripts of the same source, and changes nothing that scripts remember.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Node;
use super::outbox::{Event, Outbox};
use super::scripts::Scripts;
use crate::hooks::Script;
use crate::types::{Instance, NodeId};
use crate::wire::Message;

/// How many beats may pass without news before a search ends with what it knows.
const PATIENCE: u8 = 20;

/// After how many beats a node tells, or asks, again what it told or asked before: for those who came later.
const TELL_AGAIN: u8 = 10;

/// How much of what peers say is remembered.
const MAX_TOLD: usize = 1_024;

/// What peers computed, as far as this node was told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Digests {
    /// Up to where this node told what it computed, and how many beats ago.
    told: Instance,
    beats: u8,
    /// Up to where a peer has computed the same, by peer and number of the script.
    agreed: BTreeMap<(NodeId, usize), Instance>,
    /// What was said about instances that were not learned here at that time.
    ahead: BTreeMap<(NodeId, usize), (Instance, u64)>,
    searches: Vec<Search>,
    /// Whose scripts are other ones, by name: this was said.
    others: BTreeSet<(NodeId, Arc<str>, u64)>,
}

/// The search for the first instance at which a peer computed something else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Search {
    script: usize,
    peer: NodeId,
    /// The last instance known to be the same, and the first known to differ.
    low: Instance,
    high: Instance,
    /// The instance that was asked about.
    asks: Instance,
    beats: u8,
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Bisects,
    Polls(Poll),
    Done,
}

/// All were asked about an instance at which the two differ.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Poll {
    at: Instance,
    /// What members have answered.
    said: BTreeMap<NodeId, u64>,
    /// It was said that nobody can tell.
    is_told: bool,
}

impl Search {
    /// A beat has passed: what was not answered is asked again. What nobody could tell is asked anew, less often,
    /// about a later instance, which all have learned by now: of an earlier one, those that began again with a
    /// checkpoint know nothing.
    fn on_beat(&mut self, learned_by_all: Instance) {
        self.beats = self.beats.saturating_add(1);
        if let Stage::Polls(poll) = &mut self.stage
            && poll.is_told
        {
            if self.beats < TELL_AGAIN {
                return;
            }
            self.beats = 0;
            *poll = Poll { at: learned_by_all.max(self.high), said: BTreeMap::new(), is_told: true };
        }
        self.asks = Instance(0);
    }

    /// What to ask next; `None` when there is nothing to find between any more.
    fn next(&self, floor: Instance) -> Option<Instance> {
        let between = Instance(self.low.0.midpoint(self.high.0)).max(floor.min(Instance(self.high.0 - 1)));
        (between > self.low && between < self.high && between >= floor).then_some(between)
    }
}

impl Digests {
    fn search(&mut self, peer: NodeId, script: usize) -> Option<&mut Search> {
        self.searches.iter_mut().find(|search| (search.peer, search.script) == (peer, script))
    }

    /// A peer computed the same up to `instance`.
    fn on_same(&mut self, peer: NodeId, script: usize, instance: Instance) {
        if let Some(search) = self.search(peer, script) {
            match search.stage {
                Stage::Bisects if instance < search.high => search.low = search.low.max(instance),
                // It began anew, and is right now.
                _ if instance >= search.high => {
                    self.searches.retain(|search| (search.peer, search.script) != (peer, script));
                }
                _ => return,
            }
        }
        let agreed = self.agreed.entry((peer, script)).or_default();
        *agreed = instance.max(*agreed);
    }

    /// A peer computed something else up to `instance`.
    fn on_other(&mut self, peer: NodeId, script: usize, instance: Instance) {
        let agreed = self.agreed.get(&(peer, script)).copied().unwrap_or_default();
        match self.search(peer, script) {
            Some(search) if search.stage == Stage::Bisects && instance > search.low => {
                search.high = search.high.min(instance);
            }
            Some(_) => {}
            None => self.searches.push(Search {
                script,
                peer,
                // What it said before it began anew is of no use.
                low: if agreed < instance { agreed } else { Instance(0) },
                high: instance,
                asks: Instance(0),
                beats: 0,
                stage: Stage::Bisects,
            }),
        }
    }
}

impl Node {
    /// `AskDigest`: what a script has durably computed here.
    pub(super) fn on_ask_digest(&mut self, instance: Instance, name: &str, out: &mut Outbox) {
        if let Some(script) = self.history.scripts().named(name) {
            self.tell_digest(script, instance, out);
        }
    }

    fn tell_digest(&self, number: usize, instance: Instance, out: &mut Outbox) {
        let scripts = self.history.scripts();
        if let Some(digest) = scripts.digest_at(number, instance).filter(|_| instance <= self.durable) {
            let script = Script::clone(scripts.script(number));
            out.send(Message::Digest { instance, digest, script });
        }
    }

    /// `Digest`: what a script has computed at a peer.
    pub(super) fn on_digest(
        &mut self,
        from: NodeId,
        (instance, digest): (Instance, u64),
        script: &Script,
        out: &mut Outbox,
    ) {
        let scripts = self.history.scripts();
        let Some(number) = scripts.named(&script.name).filter(|at| **scripts.script(*at) == *script) else {
            return self.on_other_script(from, script, out);
        };
        if instance > self.learner.learned() {
            self.digests.ahead.entry((from, number)).or_insert((instance, digest));
            return;
        }
        let Some(own) = scripts.digest_at(number, instance) else { return };
        for search in &mut self.digests.searches {
            if let Stage::Polls(poll) = &mut search.stage
                && (search.script, poll.at) == (number, instance)
            {
                poll.said.insert(from, digest);
            }
        }
        if own == digest {
            self.digests.on_same(from, number, instance);
        } else {
            self.digests.on_other(from, number, instance);
        }
        self.search_on(out);
    }

    /// Scripts of other sources may well differ in what they compute: that is named as what it is.
    fn on_other_script(&mut self, from: NodeId, theirs: &Script, out: &mut Outbox) {
        let said = (from, Arc::clone(&theirs.name), theirs.source);
        if self.digests.others.len() >= MAX_TOLD || !self.digests.others.insert(said) {
            return;
        }
        let scripts = self.history.scripts();
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

    /// With every beat: tells what the scripts computed, compares what was said before it was learned here, and
    /// asks again what was not answered.
    pub(super) fn tell_digests(&mut self, out: &mut Outbox) {
        let count = self.history.scripts().len();
        if count == 0 {
            return;
        }
        let Digests { told, beats, .. } = &mut self.digests;
        let told_before = *told;
        *beats += 1;
        if (self.durable > *told || *beats >= TELL_AGAIN) && self.durable.0 > 0 {
            (*told, *beats) = (self.durable, 0);
            (0..count).for_each(|number| self.tell_digest(number, self.durable, out));
        }
        let learned = self.learner.learned();
        let ready: Vec<_> = self.digests.ahead.extract_if(.., |_, (at, _)| *at <= learned).collect();
        for ((from, number), said) in ready {
            let script = Arc::clone(self.history.scripts().script(number));
            self.on_digest(from, said, &script, out);
        }
        self.digests.searches.iter_mut().for_each(|search| search.on_beat(told_before));
        self.search_on(out);
    }

    /// Takes every search a step further.
    fn search_on(&mut self, out: &mut Outbox) {
        let mut searches = std::mem::take(&mut self.digests.searches);
        for search in &mut searches {
            let floor = self.history.scripts().floor(search.script);
            if search.stage == Stage::Bisects {
                match search.next(floor).filter(|_| search.beats < PATIENCE) {
                    Some(instance) => self.ask_digest(search, instance, out),
                    None => {
                        out.event(self.divergence(search));
                        // So that peers can tell as much, should this node be the one that has to end.
                        self.tell_digest(search.script, search.low, out);
                        self.tell_digest(search.script, search.high, out);
                        let poll = Poll { at: search.high, said: BTreeMap::new(), is_told: false };
                        (search.stage, search.beats) = (Stage::Polls(poll), 0);
                        search.asks = Instance(0);
                    }
                }
            }
            self.poll_on(search, out);
        }
        self.digests.searches = searches;
    }

    /// Ends a poll that has an answer; tells of one that has none.
    fn poll_on(&self, search: &mut Search, out: &mut Outbox) {
        let Stage::Polls(poll) = &mut search.stage else { return };
        let name = &self.history.scripts().script(search.script).name;
        if let Some(event) = self.verdict_on((search.script, search.peer), search.high, poll) {
            out.event(event);
            search.stage = Stage::Done;
            return;
        }
        if search.beats >= PATIENCE && !poll.is_told {
            (poll.is_told, search.beats) = (true, 0);
            out.event(Event::Warning(format!(
                "script {name}, instance {}: no quorum is known to agree: nobody can tell who is wrong",
                search.high
            )));
        }
        let at = poll.at;
        self.ask_digest(search, at, out);
    }

    fn ask_digest(&self, search: &mut Search, instance: Instance, out: &mut Outbox) {
        if search.asks != instance {
            search.asks = instance;
            let name = Arc::clone(&self.history.scripts().script(search.script).name);
            out.send(Message::AskDigest { instance, name });
        }
    }

    fn divergence(&self, search: &Search) -> Event {
        Event::Diverged {
            script: Arc::clone(self.history.scripts().script(search.script)),
            peer: search.peer,
            after: search.low,
            first: search.high,
        }
    }

    /// Who is right from the instance `first` on, when that can be said.
    fn verdict_on(&self, (script, peer): (usize, NodeId), first: Instance, poll: &Poll) -> Option<Event> {
        let scripts: &Scripts = self.history.scripts();
        let own = scripts.digest_at(script, poll.at)?;
        let members = &self.group.members;
        let mut by_digest: BTreeMap<u64, Vec<NodeId>> = BTreeMap::new();
        for (from, digest) in poll.said.iter().filter(|(from, _)| members.contains(from)) {
            by_digest.entry(*digest).or_default().push(*from);
        }
        let quorum = self.group.quorum();
        let against = by_digest.iter().find(|(digest, nodes)| **digest != own && nodes.len() >= quorum);
        let name = &scripts.script(script).name;
        if let Some((_, nodes)) = against {
            return Some(Event::MustEnd(format!(
                "script {name} has computed something else here than at nodes {}, from instance {first} on: what \
                 this node reads is wrong. Find out why (a script that remembers outside of `st`, another machine's \
                 floating point, damaged memory); then start it with --rebuild-state, which computes all anew",
                list(nodes)
            )));
        }
        let alike = by_digest.get(&own).map_or(0, Vec::len) + usize::from(members.contains(&self.id));
        (alike >= quorum).then(|| {
            Event::Warning(format!(
                "script {name}, instance {first}: a quorum computed the same as this node: node {peer} is wrong"
            ))
        })
    }
}

fn list(nodes: &[NodeId]) -> String {
    let nodes: Vec<_> = nodes.iter().map(NodeId::to_string).collect();
    nodes.join(",")
}
