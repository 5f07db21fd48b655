//! The script's settings of the links, and the named shapes of partitions.
//!
//! Owns the state of all links, so that cuts and other faults can be set independently. A world receives only the
//! changes. Cuts nothing itself.

use std::collections::BTreeMap;

use upaxos_core::types::NodeId;
use upaxos_sim::fault_plan::Topology;
use upaxos_testbed::link::Link;

use super::backend::Party;

/// All links of a world, each direction on its own. Keeps only links that were ever changed.
#[derive(Debug)]
pub struct Links {
    nodes: u16,
    set: BTreeMap<(Party, Party), Link>,
}

/// A link in one direction, and its new behaviour.
pub type Change = (Party, Party, Link);

impl Links {
    /// Makes links without faults between so many nodes, and between them and the clients.
    pub fn new(nodes: u16) -> Links {
        Links { nodes, set: BTreeMap::new() }
    }

    /// All ends of links: the nodes by id, the clients last.
    pub fn parties(&self) -> Vec<Party> {
        let nodes = (0..self.nodes).map(|id| Party::Node(NodeId(id)));
        nodes.chain([Party::Clients]).collect()
    }

    /// All nodes, by id.
    pub fn nodes(&self) -> Vec<Party> {
        (0..self.nodes).map(|id| Party::Node(NodeId(id))).collect()
    }

    /// Changes the links from any of `from` to any of `to`, except from a party to itself. Returns only the links
    /// that changed.
    pub fn set(
        &mut self,
        from: &[Party],
        to: &[Party],
        set: impl Fn(Party, Party, &mut Link),
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        for &from in from {
            for &to in to.iter().filter(|to| **to != from) {
                let known = self.set.get(&(from, to)).cloned().unwrap_or_default();
                let mut link = known.clone();
                set(from, to, &mut link);
                if link != known {
                    self.set.insert((from, to), link.clone());
                    changes.push((from, to, link));
                }
            }
        }
        changes
    }

    /// Removes every fault of every link.
    pub fn heal(&mut self) -> Vec<Change> {
        let all = self.parties();
        self.set(&all, &all, |_, _, link| *link = Link::default())
    }

    /// Cuts exactly the links between nodes that `cuts` selects. The clients' links keep their state.
    pub fn shape(&mut self, cuts: impl Fn(u16, u16) -> bool) -> Vec<Change> {
        let nodes = self.nodes();
        self.set(&nodes, &nodes, |from, to, link| {
            if let (Party::Node(from), Party::Node(to)) = (from, to) {
                link.is_cut = cuts(from.0, to.0);
            }
        })
    }
}

/// The named shapes, with the links that each leaves.
pub const SHAPES: [(&str, &str); 6] = [
    ("alone", "`center` hears no other node and is not heard"),
    ("star", "only `center` has links, to all others"),
    ("quorum_loss", "the same as star: every other node, a leader among them, loses its quorum"),
    ("constrained", "a star around `center`, which has no link with `old`, such as the old leader"),
    ("chained", "a line that begins at `center`: each hears its neighbours"),
    ("ring", "the same, and the last hears the first"),
];

/// The links that the shape of that name cuts among `n` nodes.
pub fn shape(name: &str, n: u16, center: u16, old: u16) -> Option<Box<dyn Fn(u16, u16) -> bool>> {
    let topology = match name {
        "alone" => Topology::Alone(center),
        "star" | "quorum_loss" => Topology::QuorumLoss(center),
        "constrained" => Topology::Constrained(center, old),
        "chained" => Topology::Chained(center),
        "ring" => {
            return Some(Box::new(move |from, to| {
                !matches!(from.abs_diff(to), 1) && from.abs_diff(to) != n - 1
            }));
        }
        _ => return None,
    };
    Some(Box::new(move |from, to| topology.cuts(n, from, to)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn node(id: u16) -> Party {
        Party::Node(NodeId(id))
    }

    #[test]
    fn cuts_and_bad_behaviour_do_not_undo_each_other() {
        let mut links = Links::new(3);
        let all = links.parties();
        assert_eq!(links.set(&all, &all, |_, _, link| link.loss = 0.5).len(), 12);
        let cut = links.shape(|from, to| from == 0 || to == 0);
        assert_eq!(cut.len(), 4);
        assert!(cut.iter().all(|(_, _, link)| link.is_cut && link.loss == 0.5));
        assert_eq!(links.shape(|from, to| from == 0 || to == 0), [], "nothing new, nothing said");
        assert_eq!(links.heal().len(), 12);
    }

    #[test]
    fn every_shape_with_a_name_leaves_what_its_name_says() {
        let left = |name: &str| {
            let cuts = shape(name, 4, 0, 3).unwrap();
            let pairs = (0..4u16).flat_map(|a| (0..a).map(move |b| (b, a)));
            pairs.filter(|(a, b)| !cuts(*a, *b)).collect::<Vec<_>>()
        };
        assert_eq!(left("alone"), [(1, 2), (1, 3), (2, 3)]);
        assert_eq!(left("star"), [(0, 1), (0, 2), (0, 3)]);
        assert_eq!(left("constrained"), [(0, 1), (0, 2)]);
        assert_eq!(left("chained"), [(0, 1), (1, 2), (2, 3)]);
        assert_eq!(left("ring"), [(0, 1), (1, 2), (0, 3), (2, 3)]);
        assert!(SHAPES.iter().all(|(name, _)| shape(name, 4, 0, 3).is_some()));
        assert!(shape("tree", 4, 0, 3).is_none());
    }

    #[test]
    fn a_node_has_no_link_with_itself() {
        let mut links = Links::new(2);
        let changes = links.set(&[node(0)], &[node(0), node(1)], |_, _, link| link.is_cut = true);
        assert_eq!(changes.len(), 1);
    }
}
