//! What is going to happen, in order of time; at one moment, in the order in which it was planned.

use std::rc::Rc;

use crate::sim::network::Datagram;
use crate::types::Micros;

/// Something that is going to happen.
#[derive(Debug)]
pub(super) enum Next {
    Deliver(u16, Rc<Datagram>),
    Wake(u16),
    Synced(u16, u64),
    GoOn(u16, u64),
    Start(u16, u64),
    Client(usize),
    Fault(usize),
    Join(u64),
    Isolate(u16, bool),
    Retire(u16, u64),
}

#[derive(Debug)]
pub(super) struct Scheduled(pub Micros, pub u64, pub Next);

impl Ord for Scheduled {
    fn cmp(&self, other: &Scheduled) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scheduled {}
