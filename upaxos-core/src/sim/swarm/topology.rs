//! Which links are cut, as shapes that have names.
//!
//! Owns the shapes alone: when they come and go, the plan says; what is lost in them, the network.

/// Which links are cut, as shapes that have names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// Two sides, by the bits of this mask, that do not hear each other.
    Split(u64),
    /// This node hears nobody and is not heard.
    Alone(u16),
    /// The side with a bit is not heard by the other, but hears it.
    OneWay(u64),
    /// Only this node has links: the others, a leader among them, lost the quorum.
    QuorumLoss(u16),
    /// The same, but it has no link with that other node, the old leader perhaps.
    Constrained(u16, u16),
    /// A line of nodes, beginning at this one: each hears its neighbours.
    Chained(u16),
    /// Any of the links, by the bits of this mask.
    Any(u64),
}

impl Topology {
    /// Whether the link is cut.
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

    /// Whether this node keeps two-way links that make, with itself, a quorum.
    pub fn leaves_quorum(&self, n: u16, id: u16) -> bool {
        let linked = |other: &u16| *other == id || !(self.cuts(n, id, *other) || self.cuts(n, *other, id));
        (0..n).filter(linked).count() > usize::from(n / 2)
    }

    /// Whether some node could lead.
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
