//! Named shapes of cut links.
//!
//! It owns the shapes alone. The plan says when a shape is in force, and the network drops the datagrams.

/// A shape of cut links. Masks have one bit for each node, unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// Two sides that do not hear each other. The mask gives the nodes of one side.
    Split(u64),
    /// This node has no links.
    Alone(u16),
    /// The nodes of the mask are not heard by the others, but hear them.
    OneWay(u64),
    /// Only this node has links: the others, perhaps with the leader, have lost the quorum.
    QuorumLoss(u16),
    /// The same, but the first node has no link with the second, perhaps the old leader.
    Constrained(u16, u16),
    /// A line of nodes that begins at this one: each hears its neighbours.
    Chained(u16),
    /// Any set of links is cut: those from `from` to `to` with bit `(from * n + to) % 64` of the mask.
    Any(u64),
}

impl Topology {
    /// Whether the link from `from` to `to` is cut in a group of `n`.
    pub fn cuts(&self, n: u16, from: u16, to: u16) -> bool {
        let has = |mask: u64, at: u16| (mask >> (at % 64)) & 1 == 1;
        match *self {
            Topology::Split(mask) => has(mask, from) != has(mask, to),
            Topology::Alone(node) => from == node || to == node,
            Topology::OneWay(mask) => has(mask, from) && !has(mask, to),
            Topology::QuorumLoss(center) => from != center && to != center,
            Topology::Constrained(center, other) => {
                (from != center && to != center) || from == other || to == other
            }
            Topology::Chained(first) => {
                let place = |id: u16| (id + n - first % n) % n;
                place(from).abs_diff(place(to)) != 1
            }
            Topology::Any(mask) => has(mask, from * n + to),
        }
    }

    /// Whether this node keeps two-way links that make a quorum together with itself.
    pub fn leaves_quorum(&self, n: u16, id: u16) -> bool {
        let linked = |other: &u16| *other == id || !(self.cuts(n, id, *other) || self.cuts(n, *other, id));
        (0..n).filter(linked).count() > usize::from(n / 2)
    }

    /// Whether any node could lead.
    pub fn allows_leader(&self, n: u16) -> bool {
        (0..n).any(|id| self.leaves_quorum(n, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_shapes_leave_the_links_that_their_names_say() {
        let left = |topology: Topology| {
            let pairs = (0..5u16).flat_map(|a| (0..a).map(move |b| (b, a)));
            pairs.filter(|(a, b)| !topology.cuts(5, *a, *b)).collect::<Vec<_>>()
        };
        assert_eq!(left(Topology::QuorumLoss(0)), [(0, 1), (0, 2), (0, 3), (0, 4)]);
        assert_eq!(left(Topology::Constrained(0, 3)), [(0, 1), (0, 2), (0, 4)]);
        assert_eq!(left(Topology::Chained(0)), [(0, 1), (1, 2), (2, 3), (3, 4)]);
        assert_eq!(left(Topology::Split(0b11)), [(0, 1), (2, 3), (2, 4), (3, 4)]);
    }

    #[test]
    fn a_leader_is_possible_where_one_node_keeps_two_way_links_with_a_quorum() {
        assert!(Topology::QuorumLoss(6).allows_leader(7));
        assert!(Topology::Chained(2).allows_leader(5) && !Topology::Chained(2).allows_leader(6));
        assert!(Topology::OneWay(0b001).allows_leader(3) && !Topology::OneWay(0b001).leaves_quorum(3, 0));
        assert!(!Topology::Split(0b0011).allows_leader(4));
    }
}
