//! Datagrams that are longer than a packet, at the socket: [`Parts`] with a clock, for all sockets of a process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use upaxos_core::parts::{Lost, Parts, Taken};
use upaxos_core::types::Micros;
use upaxos_core::wire::Dialect;

/// The large datagrams of a process, in pieces. Clones share one state. If one socket sends and another one
/// receives, both need the same pieces, because requests for missing pieces arrive at the one that receives.
#[derive(Clone, Debug)]
pub struct Pieces {
    parts: Arc<Mutex<Parts>>,
    origin: Instant,
}

impl Pieces {
    /// Numbers datagrams from `first` on. `first` must be random, so that processes use different numbers. `None`
    /// for a classic group, which has no pieces.
    pub fn of(first: u64, dialect: Dialect) -> Option<Pieces> {
        let parts = Parts::new(first, usize::MAX);
        (dialect == Dialect::Extended)
            .then(|| Pieces { parts: Arc::new(Mutex::new(parts)), origin: Instant::now() })
    }

    /// Counts of datagrams that were never completed.
    pub fn lost(&self) -> Lost {
        self.lock().lost()
    }

    pub(super) fn limit(&self, bytes: usize) {
        self.lock().limit(bytes);
    }

    pub(super) fn cut(&self, datagrams: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
        self.lock().cut(datagrams, self.now())
    }

    pub(super) fn take(&self, datagram: &[u8], now: Micros, each: &mut dyn FnMut(&[u8])) {
        let taken = self.lock().take(datagram, now);
        match taken {
            Taken::AsItIs => each(datagram),
            Taken::Whole(whole) => each(&whole),
            Taken::Nothing => {}
        }
    }

    /// The datagrams to send. `now` is the time, if the caller has read the clock already.
    pub(super) fn due(&self, now: Option<Micros>) -> Vec<Vec<u8>> {
        let mut parts = self.lock();
        match parts.deadline() {
            Some(_) => parts.tick(now.unwrap_or_else(|| self.now())),
            None => Vec::new(),
        }
    }

    pub(super) fn is_mending(&self) -> bool {
        let parts = self.lock();
        // Where nothing is missing, there is nothing to ask the clock for.
        parts.deadline().is_some() && parts.is_mending(self.now())
    }

    /// Shortens a wait so that it ends when something is due.
    pub(super) fn shorten(&self, wait: Option<Duration>) -> Option<Duration> {
        let due = self.lock().deadline().map(|at| Duration::from(at.since(self.now())));
        [wait, due].into_iter().flatten().min()
    }

    pub(super) fn now(&self) -> Micros {
        self.origin.elapsed().into()
    }

    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
