//! The switch between the hosts, with the state of its links.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::binary;
use super::error::HostsError;
use super::host::Host;
use super::isolation::Isolation;
use super::namespaces::{Holder, Shape};
use super::switch::Switch;
use crate::link::Link;
use crate::switch::order::Order;

/// The switch, and the last state that it received for each link.
#[derive(Debug)]
pub(super) struct Weather {
    pub(super) switch: Switch,
    count: usize,
    /// The links that differ from a good link.
    pub(super) bad: BTreeMap<(Host, Host), Link>,
}

impl Weather {
    /// Starts the switch, if hosts of this shape have one.
    pub(super) fn over(holder: &Holder, count: usize, dir: &Path) -> Result<Option<Weather>, HostsError> {
        let Shape::Switched { seed, records } = holder.shape else { return Ok(None) };
        if holder.ground == Isolation::Udp {
            let said = "without namespaces there is nothing between them".into();
            return Err(HostsError::Failed { act: "put a switch between the hosts".into(), said });
        }
        let command = holder.command_between(&binary("upaxos-node")?);
        let record = records.then(|| record(dir));
        let switch = Switch::start(command, count + 1, seed, record.as_deref())?;
        Ok(Some(Weather { switch, count, bad: BTreeMap::new() }))
    }

    /// Brings every link into its state in `wanted`.
    pub(super) fn become_like(&mut self, wanted: BTreeMap<(Host, Host), Link>) -> Result<(), HostsError> {
        let ends: BTreeSet<_> = self.bad.keys().chain(wanted.keys()).collect();
        let changed = ends.into_iter().filter(|ends| self.bad.get(ends) != wanted.get(ends));
        let order = |(from, to): &(Host, Host)| {
            let link = wanted.get(&(*from, *to)).cloned().unwrap_or_default();
            Order::Link { from: self.port(*from), to: self.port(*to), link }
        };
        let orders: Vec<Order> = changed.map(order).collect();
        self.switch.tell(&orders)?;
        self.bad = wanted;
        Ok(())
    }

    fn port(&self, host: Host) -> usize {
        let port = match host {
            Host::Node(index) => index,
            Host::Client => self.count,
        };
        assert!(port <= self.count, "no host {host}");
        port
    }
}

/// The file of the record, below the directory of the hosts.
pub(super) fn record(dir: &Path) -> PathBuf {
    dir.join("wire.jsonl")
}
