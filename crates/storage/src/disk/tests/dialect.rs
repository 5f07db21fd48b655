//! Claims about the grammar that a directory belongs to.

use super::*;

pub(super) fn opened_as(dir: &Path, dialect: Dialect) -> Result<Opened, DiskError> {
    Disk::open(dir, &Wanted { dialect, ..WANTED }, &SMALL, &mut |_| Ok(()))
}

/// Creates a directory as the first version did, with these records.
fn old(dir: &Path, records: &[&str]) {
    let mut opened = opened_as(dir, Dialect::Extended).expect("opens");
    records.iter().for_each(|record| append(&mut opened.disk, record.as_bytes()));
    opened.disk.commit(&Whole).expect("commits");
    let old = Identity { dialect: None, group: Named::Unsaid, ..opened.identity };
    fs::write(identity::path(dir), old.to_string()).expect("the identity can be written");
}

#[test]
fn a_directory_is_refused_in_the_other_grammar_and_says_how_to_start() {
    for (first, then, way_out) in [
        (Dialect::Extended, Dialect::Classic, "start it without --classic"),
        (Dialect::Classic, Dialect::Extended, "start it with --classic"),
    ] {
        let (_parent, dir) = fresh();
        drop(opened_as(&dir, first).expect("opens"));
        let refusal = opened_as(&dir, then).expect_err("the other grammar").to_string();
        assert!(refusal.contains(way_out), "{refusal}");
        assert!(opened_as(&dir, first).is_ok(), "nothing was changed");
    }
}

#[test]
fn a_directory_of_the_first_version_is_known_by_its_records() {
    for (records, spoken) in [
        (&["start 1 7", "promise 1 2", "accept 1 2 one", "chosen 1 1 2"][..], Some(Dialect::Classic)),
        (&["start 1 7", "learn 1 one"], Some(Dialect::Classic)),
        (&["start 1 7", "member", "promise 2", "accept 1 2 one"], Some(Dialect::Extended)),
        (&["start 1 7", "registered 0 1 2 3"], Some(Dialect::Extended)),
        (&["start 1 7", "genesis 3", "learn 1 one"], Some(Dialect::Extended)),
        (&["start 1 7"], None),
    ] {
        for wanted in [Dialect::Extended, Dialect::Classic] {
            let (_parent, dir) = fresh();
            old(&dir, records);
            let is_fit = spoken.is_none_or(|spoken| spoken == wanted);
            assert_eq!(opened_as(&dir, wanted).is_ok(), is_fit, "{records:?} as {wanted:?}");
            let known = identity(&dir).expect("an identity").dialect;
            assert_eq!(known, is_fit.then_some(wanted), "{records:?}: it is written down");
        }
    }
}

#[test]
fn the_way_out_of_a_damaged_classic_log_is_none_that_a_classic_group_refuses() {
    let (_parent, dir) = fresh();
    let mut opened = opened_as(&dir, Dialect::Classic).expect("opens");
    for record in ["promise 1 2", "promise 2 2", "promise 3 2"] {
        append(&mut opened.disk, record.as_bytes());
        opened.disk.commit(&Whole).expect("commits");
    }
    drop(opened);
    let segment = dir.join(segment::name(1));
    let mut bytes = fs::read(&segment).expect("the segment");
    let at = bytes.windows(11).position(|text| text == b"promise 2 2").expect("the second record");
    bytes[at] ^= 1;
    fs::write(&segment, bytes).expect("written");
    let refusal = opened_as(&dir, Dialect::Classic).expect_err("it is damaged").to_string();
    assert!(refusal.contains("begin a new log") && !refusal.contains("--join"), "{refusal}");
}
