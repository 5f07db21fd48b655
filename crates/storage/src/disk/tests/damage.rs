//! Claims about damage. A state that a crash may leave is cut; any other damage stops the start.

use crate::Files;

use super::*;

/// A log of one segment, its bytes, and where its blocks begin and the last ends.
fn one_segment() -> (TempDir, PathBuf, Vec<String>, Vec<usize>) {
    let (parent, dir) = fresh();
    let (mut disk, _) = open(&dir);
    let records: Vec<String> = (0..4).map(|i| format!("accept {i} 1 value")).collect();
    let mut lengths = vec![];
    for record in &records {
        append(&mut disk, record.as_bytes());
        disk.commit(&Whole).expect("commits");
        lengths.push(HEADER_BYTES + record.len() + 1);
    }
    drop(disk);
    let bytes = fs::read(path(&dir, 1)).expect("reads");
    let mut starts = vec![Head::parse(&bytes).expect("has a head").1];
    starts.extend(lengths.iter().scan(starts[0], |at, length| {
        *at += length;
        Some(*at)
    }));
    (parent, dir, records, starts)
}

fn change(dir: &Path, number: u64, change: impl FnOnce(&mut Vec<u8>)) {
    let path = path(dir, number);
    let mut bytes = fs::read(&path).expect("reads");
    change(&mut bytes);
    fs::write(&path, bytes).expect("writes");
}

fn refusal(dir: &Path) -> String {
    let before = contents(dir);
    let refusal = try_open(dir).expect_err("refused");
    assert!(
        matches!(refusal, DiskError::Store(StoreError::Damaged { .. } | StoreError::Record { .. })),
        "{refusal}"
    );
    assert_eq!(contents(dir), before, "a refusal changes nothing");
    refusal.to_string()
}

fn contents(dir: &Path) -> Vec<Vec<u8>> {
    (1..20).map_while(|number| fs::read(path(dir, number)).ok()).collect()
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(segment::name(number))
}

/// The end of the block that begins at `at`. Callers pass the first block of a segment, its checkpoint.
fn end_of_block(bytes: &[u8], at: usize) -> usize {
    let length = str::from_utf8(&bytes[at + 29..at + 37]).expect("digits").parse::<usize>();
    at + HEADER_BYTES + length.expect("a number")
}

#[test]
fn a_last_block_torn_anywhere_is_cut_once_with_a_warning() {
    let (_parent, dir, records, starts) = one_segment();
    let whole = fs::read(path(&dir, 1)).expect("reads");
    for cut in starts[3] + 1..starts[4] {
        change(&dir, 1, |bytes| bytes[cut..].fill(0));
        let (opened, found) = try_open(&dir).expect("opens");
        assert_eq!(found, records[..3], "torn at {cut}");
        let says = format!("00000001.log: cut {} bytes at byte {}", cut - starts[3], starts[3]);
        assert!(opened.warnings[0].contains(&says), "{:?}", opened.warnings);
        drop(opened);
        open(&dir);
        fs::write(path(&dir, 1), &whole).expect("restores");
    }
}

#[test]
fn the_log_goes_on_where_a_torn_tail_was_cut() {
    let (_parent, dir, records, starts) = one_segment();
    change(&dir, 1, |bytes| bytes[starts[4] - 1] = 0);
    let (mut opened, _) = try_open(&dir).expect("opens");
    append(&mut opened.disk, b"x");
    opened.disk.commit(&Whole).expect("commits");
    drop(opened);
    assert_eq!(open(&dir).1, [&records[..3], &["x".to_string()]].concat());
}

#[test]
fn a_file_cut_short_stops_the_start() {
    let (_parent, dir, _, starts) = one_segment();
    for length in [4095, starts[3] + 5, starts[2], starts[1] - 1] {
        change(&dir, 1, |bytes| bytes.truncate(length));
        let refusal = refusal(&dir);
        assert!(refusal.contains("made with 4096"), "{refusal}");
    }
}

#[test]
fn any_flipped_bit_stops_the_start_or_takes_a_value_in_the_last_block_too() {
    let (_parent, dir, records, starts) = one_segment();
    for at in 0..starts[4] {
        change(&dir, 1, |bytes| bytes[at] ^= 1 << (at % 8));
        let number = starts.iter().rposition(|start| *start <= at);
        let block = number.map_or(0, |number| starts[number]);
        let value_at = block + HEADER_BYTES + "accept 0 1 ".len();
        if number.is_some() && (value_at..value_at + "value".len()).contains(&at) {
            let (opened, found) = try_open(&dir).expect("opens without the value");
            let says = format!("00000001.log: the block at byte {block} is damaged inside values");
            let warning = opened.warnings.iter().find(|warning| warning.contains(&says));
            let lost = &records[number.unwrap_or_default()][.."accept 0 1".len()];
            assert!(warning.is_some_and(|warning| warning.contains(lost)), "{at}: {:?}", opened.warnings);
            assert_eq!(found.len(), records.len(), "{at}: nothing is cut");
            drop(opened);
            assert_eq!(
                try_open(&dir).expect("opens again").1.len(),
                records.len(),
                "{at}: nor at the next start"
            );
        } else {
            let refusal = refusal(&dir);
            assert!(refusal.contains(&format!("00000001.log at byte {block}:")), "{at}: {refusal}");
            assert!(refusal.contains("--join -i NEW_ID --replace ID"), "{refusal}");
        }
        change(&dir, 1, |bytes| bytes[at] ^= 1 << (at % 8));
    }
    open(&dir);
}

#[test]
fn a_log_goes_on_behind_a_last_block_that_lost_a_value() {
    let (_parent, dir, records, starts) = one_segment();
    change(&dir, 1, |bytes| bytes[starts[4] - 2] ^= 1);
    let (mut opened, _) = try_open(&dir).expect("opens without the value");
    append(&mut opened.disk, b"promise 2");
    opened.disk.commit(&Whole).expect("commits");
    drop(opened);
    let (opened, found) = try_open(&dir).expect("opens");
    assert_eq!(found[..3], records[..3]);
    assert_eq!(found[4], "promise 2");
    assert!(opened.warnings.iter().any(|warning| warning.contains("damaged inside values")));
}

#[test]
fn a_damaged_vote_in_the_last_block_stops_the_start_and_says_what_to_do() {
    let (_parent, dir, _, starts) = one_segment();
    for at in [1, 30, HEADER_BYTES, HEADER_BYTES + 8] {
        change(&dir, 1, |bytes| bytes[starts[3] + at] ^= 1);
        let refusal = refusal(&dir);
        assert!(refusal.contains(&format!("00000001.log at byte {}", starts[3])), "{refusal}");
        assert!(
            refusal.contains("no part of it is missing") && refusal.contains("--join -i NEW_ID --replace ID"),
            "{refusal}"
        );
        change(&dir, 1, |bytes| bytes[starts[3] + at] ^= 1);
    }
}

#[test]
fn an_emptied_or_zeroed_segment_stops_the_start() {
    let (_parent, dir, _, _) = one_segment();
    let whole = fs::read(path(&dir, 1)).expect("reads");
    change(&dir, 1, |bytes| bytes.fill(0));
    assert!(refusal(&dir).contains("head is missing"));
    change(&dir, 1, Vec::clear);
    assert!(refusal(&dir).contains("head is missing"));
    fs::write(path(&dir, 1), whole).expect("restores");
    open(&dir);
}

#[test]
fn a_torn_end_of_a_segment_is_damage_once_the_next_is_in_use() {
    let (_parent, dir) = fresh();
    fill(&dir, 3);
    change(&dir, 2, |bytes| {
        let end = bytes.iter().rposition(|byte| *byte != 0).expect("in use");
        bytes[end] = 0;
    });
    assert!(refusal(&dir).contains("a later segment is in use"));
}

#[test]
fn a_segment_whose_last_block_is_hurt_inside_a_value_is_read_without_it_and_the_next_one_follows() {
    let (_parent, dir) = fresh();
    let mut disk = open(&dir).0;
    while disk.store.segment() < 3 {
        append(&mut disk, b"accept 1 1 value");
        disk.commit(&Whole).expect("commits");
    }
    drop(disk);
    let whole = open(&dir).1;
    change(&dir, 2, |bytes| {
        let end = bytes.iter().rposition(|byte| *byte != 0).expect("in use");
        bytes[end - 2] ^= 1;
    });
    let (opened, found) = try_open(&dir).expect("opens without the value");
    assert_eq!(found.len(), whole.len());
    assert!(opened.warnings.iter().any(|warning| warning.contains("00000002.log: the block at byte")));
}

#[test]
fn garbage_in_a_later_segment_is_evidence_too() {
    let (_parent, dir) = fresh();
    fill(&dir, 3);
    let (_, at) = Head::parse(&contents(&dir)[2]).expect("has a head");
    change(&dir, 2, |bytes| {
        let end = bytes.iter().rposition(|byte| *byte != 0).expect("in use");
        bytes[end] = 0;
    });
    change(&dir, 3, |bytes| bytes[at] ^= 1);
    assert!(refusal(&dir).contains("00000002.log"));
}

#[test]
fn blocks_lost_from_the_end_of_a_segment_are_missed_by_the_next() {
    let (_parent, dir) = fresh();
    fill(&dir, 3);
    let (_, at) = Head::parse(&contents(&dir)[1]).expect("has a head");
    change(&dir, 2, |bytes| {
        let end = end_of_block(bytes, at);
        bytes[end..].fill(0);
    });
    let refusal = refusal(&dir);
    assert!(refusal.contains("00000003.log"), "{refusal}");
    assert!(refusal.contains("does not follow"), "{refusal}");
}

#[test]
fn a_missing_segment_stops_the_start() {
    let (_parent, dir) = fresh();
    fill(&dir, 3);
    for (number, says) in [(2, "there is 00000003.log"), (1, "there is 00000002.log")] {
        let kept = fs::read(path(&dir, number)).expect("reads");
        fs::remove_file(path(&dir, number)).expect("removes");
        assert!(refusal(&dir).contains(says));
        fs::write(path(&dir, number), kept).expect("restores");
    }
}

#[test]
fn an_identity_without_segments_and_segments_without_one_stop_the_start() {
    let (_parent, dir, _, _) = one_segment();
    let kept = fs::read(identity::path(&dir)).expect("reads");
    fs::remove_file(identity::path(&dir)).expect("removes");
    assert!(refusal(&dir).contains("identity at byte 0: it is missing"));
    fs::write(identity::path(&dir), kept).expect("restores");
    fs::remove_file(path(&dir, 1)).expect("removes");
    assert!(refusal(&dir).contains("the directory has an identity"));
}

#[test]
fn any_flipped_bit_of_the_identity_stops_the_start() {
    let (_parent, dir, _, _) = one_segment();
    let whole = fs::read(identity::path(&dir)).expect("reads");
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(identity::path(&dir), bytes).expect("writes");
        refusal(&dir);
    }
}

#[test]
fn a_segment_of_another_directory_or_place_is_named() {
    let (_parent, dir) = fresh();
    fill(&dir, 3);
    let (_other_parent, other) = fresh();
    let theirs = Wanted { incarnation_if_new: 100, ..WANTED };
    Disk::open(&other, &theirs, &SMALL, &mut |_| Ok(())).expect("opens");
    let kept = fs::read(path(&dir, 1)).expect("reads");
    fs::copy(path(&other, 1), path(&dir, 1)).expect("copies");
    assert!(refusal(&dir).contains("belongs to another directory"));
    fs::copy(path(&dir, 2), path(&dir, 1)).expect("copies");
    assert!(refusal(&dir).contains("written as segment 00000002"));
    fs::write(path(&dir, 1), kept).expect("restores");
    open(&dir);
}

#[test]
fn a_record_that_means_nothing_is_named_with_its_place() {
    let (_parent, dir, _, starts) = one_segment();
    let failure = Disk::open(&dir, &WANTED, &SMALL, &mut |found| match found.line {
        b"accept 2 1 value" => Err("never heard of it".into()),
        _ => Ok(()),
    });
    let failure = failure.expect_err("refused").to_string();
    let says = format!("at byte {}: never heard of it", starts[2] + HEADER_BYTES);
    assert!(failure.contains(&says), "{failure}");
}

/// The records that a reader of a damaged log gets, and the error that follows them.
fn read_damaged(dir: &Path) -> (Vec<String>, String) {
    let mut records = Vec::new();
    let read = read(dir, &mut |_| Ok(()), &mut |found| {
        records.push(String::from_utf8_lossy(found.line).into_owned());
        Ok(())
    });
    (records, read.expect_err("it is damaged").to_string())
}

#[test]
fn a_reader_of_a_file_cut_short_is_told_all_before_the_cut_and_then_the_error() {
    let (_parent, dir, records, starts) = one_segment();
    for (length, whole) in [(4095, 4), (starts[3] + 5, 3), (starts[2], 2), (starts[1] - 1, 0)] {
        change(&dir, 1, |bytes| bytes.truncate(length));
        let (read, error) = read_damaged(&dir);
        assert_eq!(read, records[..whole], "{length}");
        assert!(error.contains("made with 4096"), "{error}");
    }
}

#[test]
fn a_reader_of_a_log_with_a_segment_missing_or_hurt_is_told_all_before_it_and_then_the_error() {
    let (_parent, dir) = fresh();
    let records = fill(&dir, 3);
    let kept = fs::read(path(&dir, 2)).expect("reads");
    fs::remove_file(path(&dir, 2)).expect("removes");
    let (read, error) = read_damaged(&dir);
    assert!(error.contains("the segment is missing, though there is 00000003.log"), "{error}");
    assert!(!read.is_empty() && records.starts_with(&read));
    fs::write(path(&dir, 2), kept).expect("restores");
    change(&dir, 3, |bytes| bytes[0] ^= 1);
    let (more, error) = read_damaged(&dir);
    assert!(error.contains("its head is missing or damaged"), "{error}");
    assert!(more.len() > read.len() && records.starts_with(&more));
}

#[test]
fn a_reader_needs_no_right_to_write() {
    let (_parent, dir) = fresh();
    let records = fill(&dir, 2);
    let before = contents(&dir);
    // Root may write in any case; there the test checks how the files are opened.
    let files = Dir::to_read(&dir);
    let file = files.open(&segment::name(1)).expect("opens");
    files.write_at(&file, b"x", 0).expect_err("it is open to be read");
    for entry in fs::read_dir(&dir).expect("lists") {
        let may_read = fs::Permissions::from_mode(0o444);
        fs::set_permissions(entry.expect("lists").path(), may_read).expect("it is ours");
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o555)).expect("it is ours");
    let mut count = 0;
    read(&dir, &mut |_| Ok(()), &mut |_| {
        count += 1;
        Ok(())
    })
    .expect("reads");
    assert_eq!(count, records.len());
    assert_eq!(contents(&dir), before);
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("it is ours");
}
