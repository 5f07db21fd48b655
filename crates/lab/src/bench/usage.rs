//! The usage of a process so far, as the kernel counts it.

use std::fs;
use std::ops::Sub;

use serde::{Deserialize, Serialize};

/// Ticks per second in `/proc/PID/stat`: the same on every Linux system.
const TICKS: f64 = 100.0;

/// The usage of a process, or its usage between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time in user mode and in the kernel, in seconds.
    pub cpu_s: f64,
    /// Packets that its host has sent. `None` where the host has no network of its own.
    pub packets: Option<u64>,
    /// The maximum memory that it ever used, in bytes.
    pub peak_bytes: u64,
}

impl Usage {
    /// The usage of process `pid`: zeros if it does not exist. `interface` is the name of its host's own interface,
    /// if any.
    pub fn of(pid: u32, interface: Option<&str>) -> Usage {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        Usage {
            cpu_s: cpu_s(&read("stat")).unwrap_or(0.0),
            packets: interface.and_then(|interface| packets(&read("net/dev"), interface)),
            peak_bytes: peak_bytes(&read("status")).unwrap_or(0),
        }
    }
}

impl Sub for Usage {
    type Output = Usage;

    /// The usage since `earlier`. The peak is that of the whole life of the process.
    fn sub(self, earlier: Usage) -> Usage {
        let packets = self.packets.zip(earlier.packets);
        Usage {
            cpu_s: (self.cpu_s - earlier.cpu_s).max(0.0),
            packets: packets.map(|(now, before)| now.saturating_sub(before)),
            peak_bytes: self.peak_bytes,
        }
    }
}

/// Reads fields 14 and 15 of proc(5)'s stat. The second field, the name, may contain blanks.
fn cpu_s(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS)
}

/// The tenth number after an interface's name: packets sent.
fn packets(dev: &str, interface: &str) -> Option<u64> {
    let line = dev.lines().find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'))?;
    line.split_ascii_whitespace().nth(9)?.parse().ok()
}

fn peak_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 100 0 0";
        assert_eq!(cpu_s(stat), Some(3.0));
        let dev = "Inter-|   Receive\n face |bytes\n    lo: 1 2 0 0 0 0 0 0 9 8 0 0 0 0 0 0\n  \
                   eth0: 1 2 0 0 0 0 0 0 900 41 0 0 0 0 0 0\n";
        assert_eq!(packets(dev, "eth0"), Some(41));
        assert_eq!(packets(dev, "eth1"), None);
        assert_eq!(peak_bytes("VmPeak:\t 9 kB\nVmHWM:\t     12 kB\n"), Some(12_288));
    }

    #[test]
    fn a_process_that_is_gone_has_used_nothing_and_this_one_something() {
        assert_eq!(Usage::of(u32::MAX, None), Usage::default());
        assert!(Usage::of(std::process::id(), None).peak_bytes > 0);
    }
}
