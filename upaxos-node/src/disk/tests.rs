//! What a data directory promises.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

const WANTED: Wanted = Wanted { id: 1, n: 3, incarnation_if_new: 99 };
const SMALL: Options = Options { segment_bytes: 4096 };

fn open(dir: &TempDir) -> Result<(Opened, Vec<String>), DiskError> {
    let mut records = Vec::new();
    let opened = Disk::open(&dir.path().join("data"), &WANTED, &SMALL, &mut |line| {
        records.push(String::from_utf8_lossy(line).into_owned());
        Ok(())
    })?;
    Ok((opened, records))
}

/// A directory with `count` blocks of two records each, closed.
fn filled(count: usize) -> (TempDir, Vec<String>) {
    let dir = TempDir::new().unwrap();
    let mut disk = open(&dir).unwrap().0.disk;
    let records: Vec<_> = (0..2 * count).map(|i| format!("accept {i} 1 value number {i}")).collect();
    for pair in records.chunks(2) {
        pair.iter().for_each(|record| disk.append(record.as_bytes()));
        disk.commit().unwrap();
    }
    (dir, records)
}

fn segment_path(dir: &TempDir, number: u64) -> PathBuf {
    segment::path(&dir.path().join("data"), number)
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn used(path: &Path) -> usize {
    fs::read(path).unwrap().iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
}

#[test]
fn what_was_committed_is_there_after_every_reopening_across_segments() {
    let dir = TempDir::new().unwrap();
    let mut written = Vec::new();
    for round in 0..20 {
        let (opened, records) = open(&dir).unwrap();
        assert_eq!(records, written, "round {round}");
        assert_eq!(opened.warnings, Vec::<String>::new());
        let mut disk = opened.disk;
        for i in 0..30 {
            let record = format!("accept {round} {i} {}", "x".repeat(i * 7));
            disk.append(record.as_bytes());
            written.push(record);
            if i % 3 == 2 {
                disk.commit().unwrap();
            }
        }
    }
    assert!(segment::list(&dir.path().join("data")).unwrap().len() > 10);
}

#[test]
fn what_was_not_committed_is_not_there() {
    let (dir, records) = filled(3);
    open(&dir).unwrap().0.disk.append(b"accept 9 9 lost");
    assert_eq!(open(&dir).unwrap().1, records);
}

#[test]
fn a_batch_larger_than_a_segment_is_committed_in_parts() {
    let dir = TempDir::new().unwrap();
    let mut disk = open(&dir).unwrap().0.disk;
    let records: Vec<_> = (0..100).map(|i| format!("accept {i} 1 {}", "y".repeat(100))).collect();
    records.iter().for_each(|record| disk.append(record.as_bytes()));
    disk.commit().unwrap();
    drop(disk);
    assert_eq!(open(&dir).unwrap().1, records);
}

#[test]
fn a_write_cut_short_anywhere_is_removed_with_a_warning() {
    let (dir, records) = filled(4);
    let path = segment_path(&dir, 1);
    let whole = fs::read(&path).unwrap();
    let end = used(&path);
    let last = whole[..end - 1].windows(3).rposition(|w| w == b"\n# ").unwrap() + 1;
    for cut in last + 1..end {
        change(&path, |bytes| bytes[cut..end].fill(0));
        let (opened, found) = open(&dir).unwrap();
        assert_eq!(found, records[..6], "cut at {cut}");
        assert_eq!(opened.warnings.len(), 1);
        drop(opened);
        assert_eq!(open(&dir).unwrap().0.warnings, Vec::<String>::new(), "cut once");
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn a_flipped_bit_before_valid_blocks_stops_the_start_with_file_and_offset() {
    let (dir, _) = filled(4);
    let path = segment_path(&dir, 1);
    let whole = fs::read(&path).unwrap();
    let last = whole[..used(&path) - 1].windows(3).rposition(|w| w == b"\n# ").unwrap() + 1;
    for at in 0..last {
        change(&path, |bytes| bytes[at] ^= 4);
        let error = open(&dir).unwrap_err();
        assert!(matches!(error, DiskError::Damaged { .. }), "byte {at}: {error}");
        assert!(error.to_string().contains("00000001.log at byte"), "{error}");
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn damage_before_a_later_segment_is_never_cut() {
    let (dir, _) = filled(60);
    let path = segment_path(&dir, 1);
    let end = used(&path);
    change(&path, |bytes| bytes[end - 3] ^= 1);
    let error = open(&dir).unwrap_err();
    assert!(error.to_string().contains("later segment"), "{error}");
}

#[test]
fn a_lost_block_at_the_end_of_a_segment_is_seen() {
    let (dir, _) = filled(60);
    let path = segment_path(&dir, 1);
    let end = used(&path);
    let bytes = fs::read(&path).unwrap();
    let last = bytes[..end - 1].windows(3).rposition(|w| w == b"\n# ").unwrap() + 1;
    change(&path, |bytes| bytes[last..].fill(0));
    assert!(open(&dir).unwrap_err().to_string().contains("does not follow"));
}

#[test]
fn a_missing_segment_or_identity_stops_the_start() {
    let (dir, _) = filled(60);
    let identity = dir.path().join("data/identity");
    let kept = fs::read(&identity).unwrap();
    fs::remove_file(&identity).unwrap();
    assert!(open(&dir).unwrap_err().to_string().contains("identity is missing"));
    fs::write(&identity, kept).unwrap();
    fs::remove_file(segment_path(&dir, 1)).unwrap();
    assert!(open(&dir).unwrap_err().to_string().contains("00000001.log is missing"));
}

#[test]
fn a_segment_of_another_directory_is_refused() {
    let (dir, _) = filled(2);
    let other = TempDir::new().unwrap();
    let wanted = Wanted { incarnation_if_new: 100, ..WANTED };
    let mut disk = Disk::open(other.path(), &wanted, &SMALL, &mut |_| Ok(())).unwrap().disk;
    disk.append(b"member");
    disk.commit().unwrap();
    fs::copy(segment::path(other.path(), 1), segment_path(&dir, 1)).unwrap();
    assert!(matches!(open(&dir).unwrap_err(), DiskError::Damaged { .. }));
}

#[test]
fn two_processes_cannot_open_one_directory() {
    let (dir, _) = filled(1);
    let first = open(&dir).unwrap();
    let error = open(&dir).unwrap_err();
    assert!(matches!(error, DiskError::InUse(_)) && error.to_string().contains("--dir"), "{error}");
    drop(first);
    open(&dir).unwrap();
}

#[test]
fn a_directory_of_another_node_is_refused_and_says_whose_it_is() {
    let (dir, _) = filled(1);
    let wanted = Wanted { id: 2, ..WANTED };
    let error = Disk::open(&dir.path().join("data"), &wanted, &SMALL, &mut |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("node 1 of a first group of 3"), "{error}");
}

#[test]
fn nobody_else_may_read_it() {
    let (dir, _) = filled(60);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let data = dir.path().join("data");
    assert_eq!(mode(&data), 0o700);
    for entry in fs::read_dir(&data).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[test]
fn a_log_can_be_read_while_it_is_written() {
    let (dir, records) = filled(5);
    let opened = open(&dir).unwrap().0;
    let mut found = Vec::new();
    read(&dir.path().join("data"), &mut |line| {
        found.push(String::from_utf8_lossy(line).into_owned());
        Ok(())
    })
    .unwrap();
    assert_eq!(found, records);
    drop(opened);
}

#[test]
fn a_record_that_makes_no_sense_is_damage() {
    let (dir, _) = filled(2);
    let mut count = 0;
    let error = Disk::open(&dir.path().join("data"), &WANTED, &SMALL, &mut |_| {
        count += 1;
        if count == 3 { Err("it makes no sense".into()) } else { Ok(()) }
    });
    assert!(error.unwrap_err().to_string().contains("it makes no sense"));
}
