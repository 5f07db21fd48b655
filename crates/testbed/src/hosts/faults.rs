//! The faults of the network between the hosts: how each link behaves, in each direction.
//!
//! Owns the requested state of the links. The switch alone carries it out. Hosts without a switch have no such
//! faults and report that.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::PoisonError;

use upaxos_core::types::Micros;

use super::error::HostsError;
use super::host::Host;
use super::isolation::Isolation;
use super::namespaces::Shape;
use super::network::Hosts;
use super::weather::{Weather, record};
use crate::link::Link;
use crate::switch::order::{Losses, Order};

impl Hosts {
    /// Sets how a link behaves in one direction. Replaces the earlier setting.
    ///
    /// # Errors
    ///
    /// Where no link can fail, or the switch has ended.
    pub fn link(&self, from: impl Into<Host>, to: impl Into<Host>, link: Link) -> Result<(), HostsError> {
        let ends = (from.into(), to.into());
        self.change("a change of a link", |links| {
            links.insert(ends, link);
        })
    }

    /// Loses `percent` of the datagrams on every link, the client's included. 0 ends the loss.
    ///
    /// # Errors
    ///
    /// As [`Hosts::link`].
    ///
    /// # Panics
    ///
    /// If `percent` is above 100.
    pub fn loss(&self, percent: u8) -> Result<(), HostsError> {
        assert!(percent <= 100, "a loss of {percent} %");
        let loss = f64::from(percent) / 100.0;
        self.change("loss", |links| {
            for from in self.everyone() {
                for to in self.everyone().filter(|to| *to != from) {
                    links.entry((from, to)).or_default().loss = loss;
                }
            }
        })
    }

    /// Cuts one direction of one link: `to` no longer hears `from`.
    ///
    /// # Errors
    ///
    /// As [`Hosts::link`].
    pub fn cut(&self, from: impl Into<Host>, to: impl Into<Host>) -> Result<(), HostsError> {
        let ends = (from.into(), to.into());
        self.change("a one-way cut", |links| links.entry(ends).or_default().is_cut = true)
    }

    /// Cuts or restores every link between nodes at once, each direction on its own: `to` hears `from` where
    /// `hears(from, to)`. The client's links keep their state.
    ///
    /// # Errors
    ///
    /// As [`Hosts::link`].
    pub fn links(&self, hears: impl Fn(usize, usize) -> bool) -> Result<(), HostsError> {
        self.change("a change of links", |links| {
            for (from, to) in self.pairs() {
                links.entry((from.into(), to.into())).or_default().is_cut = !hears(from, to);
            }
        })
    }

    /// Splits the nodes into islands that do not hear one another. A node in none of them is alone. The client
    /// still reaches all nodes. Earlier cuts remain.
    ///
    /// # Errors
    ///
    /// As [`Hosts::link`].
    pub fn partition(&self, islands: &[&[usize]]) -> Result<(), HostsError> {
        let together = |a: usize, b: usize| islands.iter().any(|i| i.contains(&a) && i.contains(&b));
        self.change("a partition", |links| {
            for (from, to) in self.pairs().filter(|&(from, to)| !together(from, to)) {
                links.entry((from.into(), to.into())).or_default().is_cut = true;
            }
        })
    }

    /// Ends all faults of the network.
    ///
    /// # Errors
    ///
    /// As [`Hosts::link`].
    pub fn heal(&self) -> Result<(), HostsError> {
        self.change("healing", BTreeMap::clear)
    }

    /// Sets the clock of the record to `now`.
    ///
    /// # Errors
    ///
    /// As [`Hosts::link`].
    pub fn set_clock(&self, now: Micros) -> Result<(), HostsError> {
        self.with_switch("a record", |weather| weather.switch.tell(&[Order::Clock(now)]))
    }

    /// Returns once the switch has passed on, or queued for later, all earlier frames. Hosts without a switch
    /// return at once.
    ///
    /// # Errors
    ///
    /// When the switch has ended.
    pub fn drain(&self) -> Result<(), HostsError> {
        match self.lacks_faults() {
            Some(_) => Ok(()),
            None => self.with_switch("a switch", |weather| weather.switch.tell(&[Order::Flush])),
        }
    }

    /// The frames that the switch itself has lost so far, apart from those that its links had to lose. `None` where
    /// there is no switch.
    ///
    /// # Errors
    ///
    /// When the switch has ended.
    pub fn losses(&self) -> Result<Option<Losses>, HostsError> {
        match self.lacks_faults() {
            Some(_) => Ok(None),
            None => self.with_switch("a switch", |weather| weather.switch.losses()).map(Some),
        }
    }

    /// The file with all datagrams so far, if these hosts record them: see [`switched_on`](Hosts::switched_on).
    ///
    /// # Errors
    ///
    /// As [`Hosts::link`].
    pub fn record(&self) -> Result<Option<PathBuf>, HostsError> {
        let Shape::Switched { records: true, .. } = self.shape else { return Ok(None) };
        self.with_switch("a record", |weather| weather.switch.tell(&[Order::Flush]))?;
        Ok(Some(record(self.dir())))
    }

    /// Why links cannot fail here. `None` where they can.
    #[must_use]
    pub fn lacks_faults(&self) -> Option<&'static str> {
        match (self.ground, self.shape) {
            (Isolation::Udp, _) => Some("the machine's own loopback is not ours to break"),
            (_, Shape::Loopback) => Some("its hosts are one host"),
            (_, Shape::Bridged) => Some("the kernel joins its hosts, and does not fail"),
            (_, Shape::Switched { .. }) => None,
        }
    }

    fn change(
        &self,
        fault: &'static str,
        change: impl FnOnce(&mut BTreeMap<(Host, Host), Link>),
    ) -> Result<(), HostsError> {
        self.with_switch(fault, |weather| {
            let mut links = weather.bad.clone();
            change(&mut links);
            links.retain(|_, link| *link != Link::default());
            weather.become_like(links)
        })
    }

    fn with_switch<T>(
        &self,
        fault: &'static str,
        act: impl FnOnce(&mut Weather) -> Result<T, HostsError>,
    ) -> Result<T, HostsError> {
        if let Some(weather) = &self.weather {
            return act(&mut weather.lock().unwrap_or_else(PoisonError::into_inner));
        }
        let reason = self.lacks_faults().unwrap_or("it has no switch");
        Err(HostsError::Unsupported { fault, ground: self.ground, reason })
    }

    fn everyone(&self) -> impl Iterator<Item = Host> {
        (0..self.count).map(Host::Node).chain([Host::Client])
    }

    /// Every pair of nodes, in both orders.
    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let count = self.count;
        let all = (0..count).flat_map(move |from| (0..count).map(move |to| (from, to)));
        all.filter(|(from, to)| from != to)
    }
}
