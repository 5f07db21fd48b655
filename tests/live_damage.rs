//! Claims about groups of real nodes whose disks are faulty: a bit is flipped anywhere in a node's directory, or
//! the power of all nodes fails. No acknowledged write is lost, no value is wrong, and every refusal says what to
//! do.
//!
//! `UPAXOS_FLIPS` and `UPAXOS_POWER_CUTS` set the number of trials. With `--nocapture` each test prints their
//! results. A power cut is the shutdown ioctl of an ext4 file system on a loop device: data that was not synced is
//! gone. It needs root.

mod live;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use upaxos_testbed::hosts::{Hosts, Isolation};

use live::group::{Group, Load, PATIENCE};
use live::{any_hosts, eventually};

/// A daemon logs this when it may vote again.
const IS_BACK: &str = "may vote";

/// Every refusal contains this.
const WAY_OUT: &str = "rejoin the group under a new id";

fn trials(name: &str, by_default: u64) -> u64 {
    env::var(name).map_or(by_default, |count| count.parse().expect("a number of trials"))
}

/// Pseudo-random numbers: different in each trial, and the same in every run (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end.max(1)
    }
}

/// Flips a bit in use: of any file, or every other time of the last block of the log.
fn flip(dir: &Path, chance: &mut Chance) -> (PathBuf, usize, u8) {
    let names = fs::read_dir(dir).expect("lists").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = names.filter(|path| used(path) > 0).collect();
    files.sort();
    let mut path = files[chance.below(files.len() as u64) as usize].clone();
    let mut from = 0;
    if chance.below(2) == 0 {
        let is_log = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "log");
        path = files.iter().filter(is_log).max().expect("it has a log").clone();
        let bytes = fs::read(&path).expect("reads");
        from = bytes[..used(&path)].windows(3).rposition(|three| three == b"\n# ").map_or(0, |at| at + 1);
    }
    let at = from + chance.below((used(&path) - from) as u64) as usize;
    let mask = 1 << chance.below(8);
    flip_at(&path, at, mask);
    (path, at, mask)
}

/// The length of a file without the zeros at its end.
fn used(path: &Path) -> usize {
    let bytes = fs::read(path).expect("reads");
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

fn flip_at(path: &Path, at: usize, mask: u8) {
    let mut bytes = fs::read(path).expect("reads");
    bytes[at] ^= mask;
    fs::write(path, bytes).expect("writes");
}

#[test]
fn a_flipped_bit_anywhere_loses_nothing_and_every_refusal_says_what_to_do() {
    let Some(hosts) = any_hosts() else { return };
    let mut group = Group::start(hosts);
    let (mut client, mut load, mut chance) = (group.client(), Load::default(), Chance(1));
    group.leader(&mut client);
    let (mut refused, mut without_values, mut unhurt) = (0, 0, 0);
    for _ in 0..trials("UPAXOS_FLIPS", 8) {
        let count = 1 + chance.below(20) as usize;
        load.ask(&mut client, count);
        load.take(&group, &client, count);
        let index = chance.below(3) as usize;
        group.nodes[index].kill9();
        let (path, at, mask) = flip(&group.hosts.node_dir(index), &mut chance);
        group.nodes[index].start().expect("its process begins");
        // The others continue with or without it.
        load.ask(&mut client, 5);
        load.take(&group, &client, 5);
        let mut is_refused = false;
        eventually("it refuses, or is back", || {
            is_refused = !group.nodes[index].is_running();
            is_refused || group.nodes[index].wait_for_line(IS_BACK, Duration::from_millis(1)).is_ok()
        });
        if is_refused {
            let said = group.nodes[index].wait_for_line(WAY_OUT, PATIENCE);
            let said = said.unwrap_or_else(|error| panic!("{} {at}: {error}", path.display()));
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            assert!(said.contains(&name) && said.contains("at byte"), "{name} {at}: {said}");
            let status = group.nodes[index].wait_exit(PATIENCE).expect("it ended by itself");
            assert_eq!(status.code(), Some(1), "{said}");
            refused += 1;
            // One of the remedies: the file as it was at the last sync.
            flip_at(&path, at, mask);
            group.nodes[index].start().expect("it starts again");
        } else if group.nodes[index].log().contains("damaged inside values") {
            without_values += 1;
        } else {
            unhurt += 1;
        }
        group.check_after(&load, &mut client, &[0, 1, 2]);
    }
    println!("{refused} refused, {without_values} started without values, {unhurt} were not affected");
}

/// A file system whose power can be cut.
struct Device {
    dir: TempDir,
}

impl Device {
    /// Makes a file system of 128 MiB. The error says why that is not possible.
    fn new() -> Result<Device, String> {
        let device = Device { dir: TempDir::new().expect("a temporary directory") };
        // Other processes create mount namespaces at any time, and each copies this mount. Below a shared mount, the copies
        // are unmounted together with the original.
        run(Command::new("mount").arg("--bind").args([device.dir.path(); 2]))?;
        run(Command::new("mount").arg("--make-shared").arg(device.dir.path()))?;
        fs::create_dir(device.root()).expect("makes a mount point");
        let image = fs::File::create(device.image()).expect("makes an image");
        image.set_len(128 << 20).expect("grows");
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(device.image()))?;
        device.mount()?;
        Ok(device)
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("mount")
    }

    fn mount(&self) -> Result<(), String> {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(self.root()))
    }

    /// EXT4_IOC_SHUTDOWN without a flush of the journal: synced data stays, the rest is gone.
    fn cut_power(&self) -> Result<(), String> {
        let program = "import fcntl, os, struct, sys\n\
             fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
        run(Command::new("python3").args(["-c", program]).arg(self.root()))
    }

    fn unmount(&self) -> Result<(), String> {
        run(Command::new("umount").arg(self.root()))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.unmount();
        let _ = run(Command::new("umount").arg(self.dir.path()));
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let done = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let words = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    if done.status.success() { Ok(()) } else { Err(format!("{command:?}: {words}")) }
}

#[test]
fn a_power_cut_of_the_whole_group_loses_nothing_that_was_acknowledged() {
    let device = match Device::new() {
        Ok(device) => device,
        Err(why) => {
            println!("skipped: no file system whose power can be cut (this needs root): {why}");
            return;
        }
    };
    let hosts = Hosts::on(Isolation::Udp, 3).expect("UDP works everywhere");
    for index in 0..3 {
        let place = device.root().join(index.to_string());
        fs::create_dir(&place).expect("makes a directory");
        std::os::unix::fs::symlink(&place, hosts.node_dir(index)).expect("links it");
    }
    let mut group = Group::start(hosts);
    let (mut load, mut chance, mut torn) = (Load::default(), Chance(2), 0);
    let cuts = trials("UPAXOS_POWER_CUTS", 3);
    for _ in 0..cuts {
        let mut client = group.client();
        group.leader(&mut client);
        let count = 50 + chance.below(400) as usize;
        load.ask(&mut client, count + 200);
        load.take(&group, &client, count);
        device.cut_power().expect("the ioctl is there");
        group.nodes.iter_mut().for_each(|node| node.kill9());
        // A killed process keeps the file system mounted for a moment. Then the new mount still has no power.
        eventually("it is mounted again", || {
            let is_mounted = device.unmount().is_ok() && device.mount().is_ok();
            is_mounted && fs::write(device.root().join("probe"), b"power").is_ok()
        });
        group.nodes.iter_mut().for_each(|node| node.start().expect("it starts again"));
        load.take_all(&group, &client);
        group.check_after(&load, &mut client, &[0, 1, 2]);
        torn += group.nodes.iter().filter(|node| node.log().contains("a crash cut short")).count();
    }
    println!("{cuts} power cuts, {} acknowledged, {torn} torn writes", load.acknowledged.len());
    group.nodes.iter_mut().for_each(|node| node.kill9());
}
