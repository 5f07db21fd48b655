//! Whether the scripts of all nodes compute the same: told with the beats, compared, and where not, traced back.
//!
//! Owns what peers said of their scripts' digests, and the search for the first instance at which two of them
//! part: a bisection, one question at a time. When it is found, all are asked about that instance: a node against
//! which a quorum of the others agrees must end, since what it reads is wrong. It believes only members, compares
//! only scripts of the same source, and changes nothing that scripts remember.

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

/// After how many beats a node tells again what it told before: for those who came later.
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
    /// All were asked about `high`, and these have answered.
    Polls(BTreeMap<NodeId, u64>),
    Done,
}

impl Search {
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
            if let (Stage::Polls(said), true) = (&mut search.stage, search.high == instance)
                && search.script == number
            {
                said.insert(from, digest);
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
        for search in &mut self.digests.searches {
            search.beats = search.beats.saturating_add(1);
            search.asks = Instance(0);
        }
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
                        (search.stage, search.beats) = (Stage::Polls(BTreeMap::new()), 0);
                        search.asks = Instance(0);
                    }
                }
            }
            if let Stage::Polls(said) = &search.stage {
                match self.verdict_on(search, said) {
                    Some(event) => {
                        out.event(event);
                        search.stage = Stage::Done;
                    }
                    None => self.ask_digest(search, search.high, out),
                }
            }
        }
        self.digests.searches = searches;
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

    /// Who is right about the instance of a search, when that can be said.
    fn verdict_on(&self, search: &Search, said: &BTreeMap<NodeId, u64>) -> Option<Event> {
        let scripts: &Scripts = self.history.scripts();
        let own = scripts.digest_at(search.script, search.high)?;
        let members = &self.group.members;
        let mut by_digest: BTreeMap<u64, Vec<NodeId>> = BTreeMap::new();
        for (from, digest) in said.iter().filter(|(from, _)| members.contains(from)) {
            by_digest.entry(*digest).or_default().push(*from);
        }
        let quorum = self.group.quorum();
        let against = by_digest.iter().find(|(digest, nodes)| **digest != own && nodes.len() >= quorum);
        let name = &scripts.script(search.script).name;
        let instance = search.high;
        if let Some((_, nodes)) = against {
            return Some(Event::MustEnd(format!(
                "script {name} has computed something else here than at nodes {}, from instance {instance} on: what \
                 this node reads is wrong. Find out why (a script that remembers outside of `st`, another machine's \
                 floating point, damaged memory); then start it with --rebuild-state, which computes all anew",
                list(nodes)
            )));
        }
        let alike = by_digest.get(&own).map_or(0, Vec::len) + usize::from(members.contains(&self.id));
        let verdict = if alike >= quorum {
            format!("a quorum computed the same as this node: node {} is wrong", search.peer)
        } else if search.beats >= PATIENCE {
            "no quorum is known to agree: nobody can tell who is wrong".into()
        } else {
            return None;
        };
        Some(Event::Warning(format!("script {name}, instance {instance}: {verdict}")))
    }
}

fn list(nodes: &[NodeId]) -> String {
    let nodes: Vec<_> = nodes.iter().map(NodeId::to_string).collect();
    nodes.join(",")
}
