//! Claims about foreign files in a data directory, and about paths that are no directory.

use std::os::unix::fs::symlink;

use super::*;

/// Names that editors, shells and people leave in a directory.
const FOREIGN: [&str; 14] = [
    "node.log",
    "a.values",
    "00000001.log~",
    ".00000001.log.swp",
    "#00000001.log#",
    "00000001.log.bak",
    "+0000009.log",
    "1.log",
    "000000002.log",
    "notes.log.tmp",
    "x.values.tmp",
    "00000002.log.tmp.tmp",
    "identity~",
    "lock.old",
];

fn put_foreign(dir: &Path) {
    for name in FOREIGN {
        fs::write(dir.join(name), "not of upaxos\n").expect("writes");
    }
    fs::create_dir(dir.join("old.log")).expect("makes a directory");
}

fn assert_untouched(dir: &Path) {
    for name in FOREIGN {
        assert_eq!(fs::read_to_string(dir.join(name)).expect(name), "not of upaxos\n", "{name}");
    }
    assert!(dir.join("old.log").is_dir());
}

#[test]
fn files_of_others_are_neither_judged_nor_touched_at_the_first_start_and_later() {
    let (_parent, dir) = fresh();
    fs::create_dir(&dir).expect("makes a directory");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).expect("chmod");
    put_foreign(&dir);
    let records = fill(&dir, 5);
    assert_untouched(&dir);
    let (opened, found) = try_open(&dir).expect("opens");
    assert_eq!(found, records);
    assert_untouched(&dir);
    assert_eq!(opened.notices.len(), 1, "{:?}", opened.notices);
    assert!(opened.notices[0].contains("left alone: #00000001.log#, "), "{}", opened.notices[0]);
    assert!(opened.notices[0].ends_with("and 10 more"), "{}", opened.notices[0]);
}

#[test]
fn a_directory_of_its_own_files_alone_has_nothing_to_notice() {
    let (_parent, dir) = fresh();
    fill(&dir, 3);
    assert_eq!(try_open(&dir).expect("opens").0.notices, Vec::<String>::new());
}

#[test]
fn a_foreign_file_under_a_name_of_the_node_is_told_and_kept() {
    let (_parent, dir) = fresh();
    fs::create_dir(&dir).expect("makes a directory");
    fs::write(dir.join("00000001.log"), "a log that was redirected\n").expect("writes");
    let refusal = try_open(&dir).map(drop).expect_err("refused").to_string();
    for part in ["identity", "first check", "no other program put a file there", "without deleting it"] {
        assert!(refusal.contains(part), "{part}: {refusal}");
    }
    assert!(dir.join("00000001.log").exists());
}

#[test]
fn a_directory_under_a_name_of_the_node_is_named_with_what_to_do() {
    for name in ["00000002.log.tmp", "lock", "identity"] {
        let (_parent, dir) = fresh();
        open(&dir);
        let _ = fs::remove_file(dir.join(name));
        fs::create_dir(dir.join(name)).expect("makes a directory");
        let refusal = try_open(&dir).map(drop).expect_err("refused").to_string();
        assert!(refusal.contains(name) && refusal.contains("move that one away"), "{refusal}");
    }
}

#[test]
fn no_advice_destroys_a_healthy_disk() {
    let (_parent, dir) = fresh();
    open(&dir);
    fs::write(identity::path(&dir), "format 2\n").expect("writes");
    for dialect in [Dialect::Extended, Dialect::Classic] {
        let wanted = Wanted { dialect, ..WANTED };
        let refusal = Disk::open(&dir, &wanted, &SMALL, &mut |_| Ok(())).map(drop).expect_err("refused");
        let text = refusal.to_string();
        for word in ["wipe", "delete it", "remove"] {
            assert!(!text.replace("without deleting it", "").contains(word), "{word}: {text}");
        }
        let (check, disk) = (text.find("first check"), text.find("If the disk is damaged"));
        assert!(check.is_some() && check < disk, "{text}");
        assert!(text.contains("--dir") && text.contains("version"), "{text}");
    }
}

#[test]
fn what_is_no_directory_is_told_with_what_it_is() {
    let (parent, dir) = fresh();
    fs::write(&dir, "a file").expect("writes");
    let refusal = |dir: &Path| try_open(dir).map(drop).expect_err("refused").to_string();
    let text = refusal(&dir);
    assert!(text.starts_with("cannot use ") && text.contains("it is a file; choose another --dir"), "{text}");
    let link = parent.path().join("link");
    symlink(parent.path().join("gone"), &link).expect("links");
    let text = refusal(&link);
    assert!(text.contains("symbolic link") && text.contains("choose another --dir"), "{text}");
    let target = parent.path().join("target");
    fs::create_dir(&target).expect("makes a directory");
    let good = parent.path().join("good");
    symlink(&target, &good).expect("links");
    assert!(try_open(&good).expect("a link to a directory is one").0.is_new);
}

#[test]
fn a_fifo_under_the_name_of_a_file_of_ours_is_named_and_does_not_block_the_start() {
    for name in ["identity", "lock", "00000001.log"] {
        let (_parent, dir) = fresh();
        fill(&dir, 1);
        let path = dir.join(name);
        fs::remove_file(&path).expect("removes");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("makes a fifo");
        let error = try_open(&dir).map(|_| ()).expect_err("it is no file").to_string();
        assert!(error.contains(&format!("{name} is no regular file")), "{error}");
    }
}
