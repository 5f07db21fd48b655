//! Future events in order of time. Events of one moment keep the order in which they were scheduled.

use std::rc::Rc;

use upaxos_core::types::Micros;

use crate::network::Datagram;

/// A future event of the cluster.
#[derive(Debug)]
pub(super) enum Next<C> {
    Deliver(u16, Rc<Datagram>),
    Wake(u16),
    Synced(u16, u64),
    GoOn(u16, u64),
    Start(u16, u64),
    Cue(C),
}

#[derive(Debug)]
pub(super) struct Scheduled<C>(pub Micros, pub u64, pub Next<C>);

impl<C> Ord for Scheduled<C> {
    fn cmp(&self, other: &Scheduled<C>) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

impl<C> PartialOrd for Scheduled<C> {
    fn partial_cmp(&self, other: &Scheduled<C>) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<C> PartialEq for Scheduled<C> {
    fn eq(&self, other: &Scheduled<C>) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<C> Eq for Scheduled<C> {}
