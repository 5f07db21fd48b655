//! Claims about the disk. Segments are tiny, so that a few records cross many of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;
use upaxos_core::past::Whole;
use upaxos_core::record::block::HEADER_BYTES;

use super::*;
use crate::segment::{self, Head};

mod damage;
mod dialect;
mod foreign;
mod group;
mod space;

const WANTED: Wanted = Wanted { id: 1, n: 3, incarnation_if_new: 99, dialect: Dialect::Extended, name: None };
const SMALL: Options = Options { segment_bytes: 4096 };

fn append(disk: &mut Disk, record: &[u8]) {
    disk.append_with(|batch| batch.extend_from_slice(record));
}

/// A data directory that does not exist yet, in one that goes away with the test.
fn fresh() -> (TempDir, PathBuf) {
    let parent = TempDir::new().expect("a temporary directory");
    let dir = parent.path().join("data");
    (parent, dir)
}

fn try_open(dir: &Path) -> Result<(Opened, Vec<String>), DiskError> {
    let mut records = Vec::new();
    let opened = Disk::open(dir, &WANTED, &SMALL, &mut |found| {
        records.push(String::from_utf8_lossy(found.line).into_owned());
        Ok(())
    })?;
    Ok((opened, records))
}

fn open(dir: &Path) -> (Disk, Vec<String>) {
    let (opened, records) = try_open(dir).expect("the log opens");
    assert_eq!(opened.warnings, Vec::<String>::new());
    (opened.disk, records)
}

/// Writes records until `segments` are in use, some commits of several; returns them all.
fn fill(dir: &Path, segments: u64) -> Vec<String> {
    let (mut disk, mut records) = open(dir);
    while disk.store.segment() < segments {
        for i in 0..1 + records.len() % 3 {
            let record = format!("accept {} 1 {}", records.len(), "v".repeat(i * 50));
            append(&mut disk, record.as_bytes());
            records.push(record);
        }
        disk.commit(&Whole).expect("commits");
    }
    records
}

#[test]
fn every_reopening_finds_what_was_committed_across_many_segments() {
    let (_parent, dir) = fresh();
    let mut records = Vec::new();
    for segments in 1..12 {
        let (_, found) = open(&dir);
        assert_eq!(found, records);
        records = fill(&dir, segments);
    }
    assert_eq!(open(&dir).1, records);
}

#[test]
fn what_was_not_committed_is_not_there() {
    let (_parent, dir) = fresh();
    append(&mut open(&dir).0, b"accept 1 1 x");
    assert_eq!(open(&dir).1, Vec::<String>::new());
}

#[test]
fn a_commit_of_nothing_writes_nothing() {
    let (_parent, dir) = fresh();
    let (mut disk, _) = open(&dir);
    disk.commit(&Whole).expect("commits");
    assert_eq!(disk.store.sequence(), 0);
}

#[test]
fn a_batch_larger_than_a_segment_is_cut_between_records() {
    let (_parent, dir) = fresh();
    let (mut disk, _) = open(&dir);
    let records: Vec<String> = (0..500).map(|i| format!("accept {i} 1 value")).collect();
    records.iter().for_each(|record| disk.append_with(|batch| batch.extend(record.as_bytes())));
    disk.commit(&Whole).expect("commits");
    drop(disk);
    assert_eq!(open(&dir).1, records);
}

#[test]
fn a_record_longer_than_a_segment_gets_a_longer_one() {
    let (_parent, dir) = fresh();
    let (mut disk, _) = open(&dir);
    let long = "x".repeat(50_000);
    for record in ["a", &long, "b"] {
        append(&mut disk, record.as_bytes());
        disk.commit(&Whole).expect("commits");
    }
    drop(disk);
    assert_eq!(open(&dir).1, ["a", &long, "b"]);
}

#[test]
fn a_second_opening_is_refused_until_the_first_is_dropped() {
    let (_parent, dir) = fresh();
    let first = open(&dir);
    let refusal = try_open(&dir).expect_err("in use");
    assert!(matches!(refusal, DiskError::InUse { .. }), "{refusal}");
    assert!(refusal.to_string().contains("--dir"), "{refusal}");
    drop(first);
    open(&dir);
}

#[test]
fn only_the_first_opening_is_new_and_the_incarnation_stays() {
    let (_parent, dir) = fresh();
    assert!(try_open(&dir).expect("opens").0.is_new);
    let again = Wanted { incarnation_if_new: 100, ..WANTED };
    let opened = Disk::open(&dir, &again, &SMALL, &mut |_| Ok(())).expect("opens");
    assert!(!opened.is_new);
    assert_eq!(opened.identity.incarnation, 99);
}

#[test]
fn a_directory_of_another_id_or_group_is_refused_with_what_it_is() {
    let (_parent, dir) = fresh();
    open(&dir);
    for (wanted, says) in
        [(Wanted { id: 2, ..WANTED }, "started with -i 1"), (Wanted { n: 5, ..WANTED }, "started with -n 3")]
    {
        let refusal = Disk::open(&dir, &wanted, &SMALL, &mut |_| Ok(())).expect_err("refused");
        assert!(refusal.to_string().contains(says), "{refusal}");
    }
}

#[test]
fn who_joined_and_who_was_there_first_are_told_how_to_start() {
    for (made_with, asked, says) in [
        (0, 3, "start it with --join -i 1"),
        (3, 0, "start it with -n 3 -i 1"),
        (3, 0, "with --replace 1 if that takes this node's place"),
    ] {
        let (_parent, dir) = fresh();
        drop(Disk::open(&dir, &Wanted { n: made_with, ..WANTED }, &SMALL, &mut |_| Ok(())).expect("opens"));
        let refusal = Disk::open(&dir, &Wanted { n: asked, ..WANTED }, &SMALL, &mut |_| Ok(()));
        let refusal = refusal.expect_err("refused").to_string();
        assert!(refusal.contains(says), "{refusal}");
    }
}

#[test]
fn a_directory_left_half_made_is_made_anew() {
    let (_parent, dir) = fresh();
    open(&dir);
    fs::rename(identity::path(&dir), identity::draft_path(&dir)).expect("as create leaves it");
    let (opened, _) = try_open(&dir).expect("opens");
    assert!(opened.is_new);
}

#[test]
fn drafts_of_segments_are_removed() {
    let (_parent, dir) = fresh();
    open(&dir);
    let draft = dir.join("00000002.log.tmp");
    fs::write(&draft, "half").expect("writes");
    open(&dir);
    assert!(!draft.exists());
}

#[test]
fn a_missing_parent_is_told_and_not_made() {
    let (_parent, dir) = fresh();
    let failure = try_open(&dir.join("deep")).expect_err("no parent");
    assert!(failure.to_string().contains("create what is missing"), "{failure}");
}

#[test]
fn the_owner_alone_may_read_the_directory() {
    let (_parent, dir) = fresh();
    fill(&dir, 3);
    let mode = |path: &Path| fs::metadata(path).expect("exists").permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for entry in fs::read_dir(&dir).expect("lists") {
        assert_eq!(mode(&entry.expect("lists").path()), 0o600);
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("chmod");
    let (opened, _) = try_open(&dir).expect("opens");
    assert!(opened.warnings[0].contains("755"), "{:?}", opened.warnings);
}

#[test]
fn a_reader_beside_a_writer_never_sees_damage() {
    let (_parent, dir) = fresh();
    open(&dir);
    let writer = std::thread::spawn({
        let dir = dir.clone();
        move || fill(&dir, 30)
    });
    let mut most = 0;
    while !writer.is_finished() {
        let mut count = 0;
        read(&dir, &mut |_| Ok(()), &mut |found| {
            assert!(found.line.starts_with(format!("accept {count} ").as_bytes()));
            count += 1;
            Ok(())
        })
        .expect("no damage");
        assert!(count >= most, "a reader never goes back");
        most = count;
    }
    writer.join().expect("writes");
}

#[test]
fn a_directory_without_a_log_is_told_from_a_damaged_one() {
    let (_parent, dir) = fresh();
    let failure = read(&dir, &mut |_| Ok(()), &mut |_| Ok(())).expect_err("nothing there");
    assert!(matches!(failure, DiskError::NoLog { .. }), "{failure}");
}
