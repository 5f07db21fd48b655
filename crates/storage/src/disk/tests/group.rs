//! Claims about the name of the group that a directory belongs to.

use super::*;

/// Starts a node under that group name and lets it hear another node of its group.
fn meets(dir: &Path, name: Option<&str>) {
    let mut disk = opened_with(dir, name).expect("opens").disk;
    append(&mut disk, b"start 1 77");
    append(&mut disk, b"registered 1 1001 0 0");
    disk.commit(&Whole).expect("commits");
    disk.confirm_name().expect("the name is written down");
}

fn opened_with(dir: &Path, name: Option<&str>) -> Result<Opened, DiskError> {
    let name = name.map(|name| name.parse().expect("a name"));
    Disk::open(dir, &Wanted { name, ..WANTED }, &SMALL, &mut |_| Ok(()))
}

#[test]
fn a_directory_is_refused_under_another_name_or_none_and_says_how_to_start() {
    for (first, then, way_out) in [
        (Some("kitchen"), Some("cellar"), "start it with --group kitchen,"),
        (Some("kitchen"), None, "start it with --group kitchen,"),
    ] {
        let (_parent, dir) = fresh();
        meets(&dir, first);
        let refusal = opened_with(&dir, then).expect_err("another name").to_string();
        assert!(refusal.contains(way_out), "{refusal}");
        assert!(opened_with(&dir, first).is_ok(), "nothing was changed");
    }
}

#[test]
fn a_group_without_a_name_may_be_given_one_and_keeps_it() {
    let (_parent, dir) = fresh();
    meets(&dir, None);
    meets(&dir, Some("kitchen"));
    assert!(opened_with(&dir, None).is_err(), "it keeps that");
    assert!(opened_with(&dir, Some("kitchen")).is_ok());
}

#[test]
fn a_name_under_which_none_of_the_group_was_heard_is_not_written_down() {
    let (_parent, dir) = fresh();
    let known = || identity(&dir).expect("an identity").group;
    let mut disk = opened_with(&dir, Some("kitchne")).expect("opens").disk;
    append(&mut disk, b"start 1 77");
    append(&mut disk, b"registered 1 1001 0 0");
    disk.commit(&Whole).expect("commits");
    drop(disk);
    assert_eq!(known(), Named::Unsaid);
    meets(&dir, Some("kitchen"));
    assert_eq!(known(), Named::As("kitchen".parse().expect("a name")));
    assert!(opened_with(&dir, Some("kitchne")).is_err(), "now it is one of the kitchen's");
}

#[test]
fn a_nameless_directory_keeps_that_when_it_is_started_alone_under_a_mistyped_name() {
    let (_parent, dir) = fresh();
    meets(&dir, None);
    drop(opened_with(&dir, Some("kitchne")).expect("opens"));
    assert_eq!(identity(&dir).expect("an identity").group, Named::Nameless);
    drop(opened_with(&dir, Some("kitchen")).expect("opens under the right one"));
    assert!(opened_with(&dir, None).is_ok());
}

#[test]
fn a_directory_that_does_not_know_the_name_of_its_group_is_told_by_the_first_that_is_confirmed() {
    for (first, then) in [(Some("kitchen"), None), (Some("kitchen"), Some("cellar"))] {
        let (_parent, dir) = fresh();
        let identity = opened_with(&dir, None).expect("opens").identity;
        let old = Identity { group: Named::Unsaid, ..identity };
        fs::write(identity::path(&dir), old.to_string()).expect("the identity can be written");
        assert_eq!(super::identity(&dir).expect("an identity"), old);
        meets(&dir, first);
        assert!(opened_with(&dir, then).is_err(), "it is written down");
        assert!(opened_with(&dir, first).is_ok());
    }
}

#[test]
fn a_classic_directory_knows_no_name() {
    let (_parent, dir) = fresh();
    let opened = dialect::opened_as(&dir, Dialect::Classic).expect("opens");
    assert_eq!(opened.identity.group, Named::Unsaid);
    let text = fs::read_to_string(identity::path(&dir)).expect("an identity");
    assert!(!text.contains("group"), "{text}");
}

#[test]
fn an_identity_is_read_as_it_was_written_whatever_its_group_is_called() {
    for group in [Named::Unsaid, Named::Nameless, Named::As("a.b-c_9".parse().expect("a name"))] {
        for dialect in [None, Some(Dialect::Extended)] {
            let (_parent, dir) = fresh();
            let identity = opened_with(&dir, None).expect("opens").identity;
            let identity = Identity { group, dialect, ..identity };
            fs::write(identity::path(&dir), identity.to_string()).expect("the identity can be written");
            assert_eq!(super::identity(&dir).expect("an identity"), identity);
        }
    }
}
