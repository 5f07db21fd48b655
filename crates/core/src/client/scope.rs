//! The choice of a group for a client, where several groups share a wire.
//!
//! This module owns the decision which datagrams a client accepts, and the head of its own datagrams. A client with
//! the name of its group sends that name, and accepts only nodes that do the same. A client without a name accepts
//! only nodes without one. Both first ask which groups are present, listen for a moment, and then use the one group
//! that they have heard, so that no request is carried out by two groups. A client that hears two groups before its
//! first request uses neither. A classic group has no identity: its clients accept everything.

use std::collections::BTreeMap;

use super::view::View;
use crate::types::{GroupId, Micros};
use crate::wire::{self, Dialect, GroupName, Head, Lines, MAX_PACE_MS, ParseError};

/// The time that a client listens for a second group after it has heard the first: many round trips, yet too short
/// for people to notice.
const LISTEN: Micros = Micros::from_millis(5);

/// The time before it asks again which groups are present.
const ASK_AGAIN: Micros = Micros::from_millis(100);

/// The maximum number of other groups that are remembered.
const OTHERS: usize = 16;

/// The time that other groups are remembered after they were heard. No node beats more slowly.
const REMEMBERED: Micros = Micros::from_millis(MAX_PACE_MS);

/// The name of a group, if it has one, and its id, if the sender belongs to it already.
type Other = (Option<GroupName>, Option<GroupId>);

/// The group that a client uses, where several share a wire.
#[derive(Clone, Debug)]
pub struct Scope {
    dialect: Dialect,
    name: Option<GroupName>,
    is_any: bool,
    group: Option<GroupId>,
    /// The time when the first group was heard.
    since: Option<Micros>,
    /// Whether a request was sent. From then on the group is fixed.
    has_begun: bool,
    /// Other groups, and the time when each was heard last.
    others: BTreeMap<Other, Micros>,
    /// The time when a classic client heard a node that is not classic.
    heard_extended: Option<Micros>,
    /// The time when a node was heard that sends no checksums.
    heard_older: Option<Micros>,
    refusal: Option<String>,
    ask_at: Micros,
}

impl Scope {
    /// Accepts every group and names none, for callers that know that there is only one group.
    pub fn any(dialect: Dialect) -> Scope {
        Scope { is_any: true, ..Scope::new(dialect, None) }
    }

    /// Accepts the group with this name; without a name, the only unnamed group on the wire.
    pub fn new(dialect: Dialect, name: Option<GroupName>) -> Scope {
        Scope {
            dialect,
            name,
            is_any: dialect == Dialect::Classic,
            group: None,
            since: None,
            has_begun: false,
            others: BTreeMap::new(),
            heard_extended: None,
            heard_older: None,
            refusal: None,
            ask_at: Micros(0),
        }
    }

    /// Whether requests may be sent at `now`.
    pub fn is_open(&self, now: Micros) -> bool {
        let has_listened = || self.since.is_some_and(|since| now.since(since) >= LISTEN);
        self.is_any || (self.refusal.is_none() && has_listened())
    }

    /// Whether to ask now which groups are present (`members`), before any request.
    pub fn asks(&mut self, now: Micros) -> bool {
        let is_due = !self.is_open(now) && self.group.is_none() && now >= self.ask_at;
        if is_due {
            self.ask_at = now + ASK_AGAIN;
        }
        is_due
    }

    /// Records that the first request is sent.
    pub fn begin(&mut self) {
        self.has_begun = true;
    }

    /// Whether a request was sent.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// The time when [`is_open`](Self::is_open) or [`asks`](Self::asks) may change; `None` once requests may be
    /// sent.
    pub fn deadline(&self, now: Micros) -> Option<Micros> {
        let opens = self.since.map(|since| since + LISTEN);
        (!self.is_open(now)).then(|| opens.unwrap_or(self.ask_at))
    }

    /// The reason why no request is sent at all, if there is one.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// The head of the client's datagrams.
    pub fn head(&self) -> Head {
        Head { from: None, group: self.group, name: self.name }
    }

    /// The identity of the group, once it is known.
    pub fn group(&self) -> Option<GroupId> {
        self.group
    }

    /// The name of the group, if the client was given one.
    pub fn name(&self) -> Option<GroupName> {
        self.name
    }

    /// The names and ids of other groups that were heard in the last seconds.
    pub fn others(&self, now: Micros) -> impl Iterator<Item = (Option<GroupName>, Option<GroupId>)> {
        let fresh = self.others.iter().filter(move |(_, at)| now.since(**at) < REMEMBERED);
        fresh.map(|(other, _)| *other)
    }

    /// The ids of those other groups whose name is the same as this client's, or that have no name if it has none.
    pub fn namesakes(&self, now: Micros) -> impl Iterator<Item = GroupId> {
        self.others(now).filter(|(name, _)| *name == self.name).filter_map(|(_, group)| group)
    }

    fn remember(&mut self, other: Other, now: Micros) {
        self.others.retain(|_, at| now.since(*at) < REMEMBERED);
        if self.others.len() < OTHERS || self.others.contains_key(&other) {
            self.others.insert(other, now);
        }
    }

    /// The lines of a datagram, if it is of this group.
    pub fn hear<'a>(&mut self, datagram: &'a [u8], now: Micros) -> Option<Lines<'a>> {
        match wire::open(datagram, self.dialect) {
            Ok((head, lines)) => self.is_ours(&head, now).then_some(lines),
            Err(ParseError::HeadInClassic) => {
                self.heard_extended = Some(now);
                None
            }
            Err(ParseError::NoSum(Some(_))) => {
                self.heard_older = Some(now);
                None
            }
            Err(_) => None,
        }
    }

    fn is_ours(&mut self, head: &Head, now: Micros) -> bool {
        if self.is_any {
            return true;
        }
        // A node that belongs to no group yet has nothing for clients.
        let (Some(_), Some(group), true) = (head.from, head.group, head.name == self.name) else {
            if head.from.is_some() && head.name != self.name {
                self.remember((head.name, head.group), now);
            }
            return false;
        };
        match self.group {
            Some(own) if own == group => true,
            Some(own) => {
                if !self.has_begun {
                    self.refuse(own, group);
                }
                self.remember((head.name, head.group), now);
                false
            }
            None => {
                (self.group, self.since) = (Some(group), Some(now));
                true
            }
        }
    }

    /// The explanation for a request without an answer: the groups that were heard in the place of this client's
    /// group, or else the explanation of the beats.
    pub fn explain_silence(&self, view: &View, now: Micros) -> String {
        if self.heard_extended.is_some_and(|at| now.since(at) < REMEMBERED) {
            return "nodes were heard that do not speak the classic grammar: leave out --classic".into();
        }
        let is_silent = view.nodes(now).next().is_none();
        if is_silent && self.heard_older.is_some_and(|at| now.since(at) < REMEMBERED) {
            return "only datagrams without checksums were heard, as nodes of an older version send them: run the \
                    same version everywhere"
                .into();
        }
        let others = (is_silent && view.trouble().is_none()).then(|| self.explain_others(now)).flatten();
        others.unwrap_or_else(|| view.explain_silence(now))
    }

    /// The explanation for a request that was never sent, if nodes of other groups were heard and none of this
    /// client's.
    pub fn explain_unsent(&self, now: Micros) -> Option<String> {
        self.group.is_none().then(|| self.explain_others(now)).flatten()
    }

    /// A text about the other groups that were heard, if there are any.
    fn explain_others(&self, now: Micros) -> Option<String> {
        let mut names: Vec<_> =
            self.others(now).map(|(name, _)| name).filter(|name| *name != self.name).collect();
        names.dedup();
        let names = names.into_iter().map(called);
        let others = names.chain(self.namesakes(now).map(|group| format!("the group {group}")));
        let others = others.collect::<Vec<_>>().join(", ");
        (!others.is_empty()).then(|| match self.group {
            None => format!("only other groups were heard: {others}"),
            Some(own) => format!("the group {own} is silent; others were heard: {others}"),
        })
    }

    fn refuse(&mut self, one: GroupId, other: GroupId) {
        self.refusal = Some(match self.name {
            Some(name) => format!(
                "two groups with the name {name} are on this wire ({one} and {other}): give one of them a \
                 wire of its own (-p, -a)"
            ),
            None => format!(
                "two groups without names are on this wire ({one} and {other}): stop one of them, start all of its \
                 nodes with a name (--group NAME), and say here which one is meant; or give it a wire of its own (-p, -a)"
            ),
        });
    }
}

/// Names a group for people, with or without a name: `the group kitchen (--group kitchen)`.
pub fn called(name: Option<GroupName>) -> String {
    match name {
        Some(name) => format!("the group {name} (--group {name})"),
        None => "a group without a name (no --group)".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Micros = Micros(1_000);

    fn beat(group: u64, name: &str) -> Vec<u8> {
        let mut datagram = format!("0 From 7 {}{name}\n0 NotYet 9 4", GroupId(group)).into_bytes();
        wire::complete(&mut datagram);
        datagram
    }

    #[test]
    fn a_client_asks_the_one_group_that_it_hears() {
        let mut scope = Scope::new(Dialect::Extended, None);
        assert!(scope.asks(NOW) && !scope.is_open(NOW));
        assert_eq!(scope.hear(&beat(1, ""), NOW).map(Iterator::count), Some(1));
        assert!(!scope.is_open(NOW) && scope.is_open(NOW + LISTEN));
        scope.begin();
        assert_eq!(scope.head().group, Some(GroupId(1)));
        assert!(scope.hear(&beat(2, ""), NOW + LISTEN).is_none(), "it is spoken to by its own group only");
        assert!(scope.is_open(NOW + LISTEN) && scope.refusal().is_none());
    }

    #[test]
    fn a_client_that_hears_two_groups_before_it_asks_refuses() {
        let mut scope = Scope::new(Dialect::Extended, None);
        scope.hear(&beat(1, ""), NOW);
        scope.hear(&beat(2, ""), NOW);
        assert!(!scope.is_open(NOW + LISTEN));
        assert!(scope.refusal().is_some_and(|why| why.contains("--group")));
    }

    #[test]
    fn a_client_that_hears_two_groups_of_its_name_before_it_asks_refuses() {
        let mut scope = Scope::new(Dialect::Extended, Some("lab".parse().expect("a name")));
        assert!(scope.asks(NOW) && !scope.is_open(NOW));
        scope.hear(&beat(1, " lab"), NOW);
        scope.hear(&beat(2, " lab"), NOW);
        assert!(!scope.is_open(NOW + LISTEN));
        assert!(scope.refusal().is_some_and(|why| why.contains("two groups with the name lab")));
    }

    #[test]
    fn another_group_is_forgotten_when_it_has_been_silent_for_a_while() {
        let mut scope = Scope::new(Dialect::Extended, None);
        scope.hear(&beat(1, ""), NOW);
        scope.begin();
        scope.hear(&beat(2, ""), NOW);
        scope.hear(&beat(3, " lab"), NOW);
        let later = NOW + REMEMBERED;
        let ids = |scope: &Scope, now| scope.namesakes(now).collect::<Vec<_>>();
        assert_eq!(ids(&scope, NOW), [GroupId(2)], "of the other one its name tells");
        assert_eq!(scope.others(NOW).count(), 2);
        scope.hear(&beat(2, ""), NOW + LISTEN);
        assert_eq!(scope.others(later).collect::<Vec<_>>(), [(None, Some(GroupId(2)))]);
        assert!(scope.explain_others(later).is_some() && ids(&scope, later + LISTEN).is_empty());
        assert!(scope.explain_others(later + LISTEN).is_none());
    }

    #[test]
    fn only_so_many_other_groups_are_remembered() {
        let mut scope = Scope::new(Dialect::Extended, None);
        (0..100).for_each(|group| drop(scope.hear(&beat(group, " lab"), NOW)));
        assert_eq!(scope.others(NOW).count(), OTHERS);
        scope.hear(&beat(0, " lab"), NOW + LISTEN);
        assert_eq!(
            scope.others(NOW + REMEMBERED).count(),
            1,
            "those that are remembered stay so while they are heard"
        );
    }

    #[test]
    fn a_classic_client_says_that_the_group_is_not_classic() {
        let mut scope = Scope::any(Dialect::Classic);
        let view = View::new(Dialect::Classic);
        assert_eq!(scope.explain_silence(&view, NOW), super::super::CLASSIC);
        assert!(scope.hear(&beat(1, ""), NOW).is_none());
        assert!(scope.explain_silence(&view, NOW).contains("leave out --classic"));
    }

    #[test]
    fn a_client_says_that_the_nodes_send_no_checksums() {
        let mut scope = Scope::new(Dialect::Extended, None);
        let view = View::new(Dialect::Extended);
        let datagram = beat(1, "");
        let old = wire::without_sum(&datagram).expect("it has one");
        assert!(scope.hear(old, NOW).is_none() && scope.group().is_none());
        assert!(scope.explain_silence(&view, NOW).contains("older version"));
        assert!(!scope.explain_silence(&view, NOW + REMEMBERED).contains("older version"));
    }

    #[test]
    fn a_client_with_a_name_hears_what_names_it_and_nothing_else() {
        let name: GroupName = "lab".parse().expect("a name");
        let mut scope = Scope::new(Dialect::Extended, Some(name));
        assert!(scope.hear(&beat(1, ""), NOW).is_none());
        assert!(scope.hear(&beat(2, " other"), NOW).is_none());
        assert!(!scope.is_open(NOW + LISTEN) && scope.explain_unsent(NOW).is_some());
        assert!(scope.hear(&beat(3, " lab"), NOW).is_some());
        assert!(!scope.is_open(NOW) && scope.is_open(NOW + LISTEN));
        assert_eq!(scope.head(), Head { from: None, group: Some(GroupId(3)), name: Some(name) });
    }
}
