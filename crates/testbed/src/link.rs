//! The behaviour of one link, as a lab and the switch describe it.

use upaxos_core::types::Micros;

/// How a link behaves in one direction. The default is a link without faults.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link {
    /// Whether the link drops every datagram.
    pub is_cut: bool,
    /// The share of datagrams that are lost, 0 to 1.
    pub loss: f64,
    /// The share of datagrams that arrive twice, 0 to 1.
    pub duplicate: f64,
    /// The share of datagrams that arrive with damaged bytes, 0 to 1.
    pub corrupt: f64,
    /// A fixed delay for every datagram.
    pub delay: Micros,
    /// The maximum extra delay, drawn evenly for each datagram. It makes datagrams overtake each other.
    pub jitter: Micros,
}
