//! A full disk, in a mount namespace that only this test's thread sees.

use super::*;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Mounts a tmpfs of `kib` KiB on `dir`, or returns the reason why that is impossible.
fn small_disk(dir: &Path, kib: u32) -> nix::Result<()> {
    let none = None::<&str>;
    fs::create_dir(dir).expect("creates");
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let size = format!("size={kib}k,mode=700");
    mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), Some(size.as_str()))
}

#[test]
fn a_full_disk_ends_the_log_and_keeps_what_was_committed() {
    let (_parent, dir) = fresh();
    if let Err(cause) = small_disk(&dir, 40) {
        assert!(std::env::var_os("CI").is_none(), "CI must run this: {cause}");
        eprintln!("skipped: cannot mount a small file system here: {cause}");
        return;
    }
    let (mut disk, _) = open(&dir);
    let mut committed = Vec::new();
    let failure = loop {
        let record = format!("accept {} 1 {}", committed.len(), "v".repeat(100));
        append(&mut disk, record.as_bytes());
        match disk.commit(&Whole) {
            Ok(()) => committed.push(record),
            Err(failure) => break failure,
        }
    };
    assert_eq!(failure.kind(), io::ErrorKind::StorageFull);
    assert!(failure.to_string().contains("free some space"), "{failure}");
    append(&mut disk, b"more");
    disk.commit(&Whole).expect_err("poisoned");
    drop(disk);
    let (mut disk, found) = open(&dir);
    assert_eq!(found, committed, "recovery needs no space");
    append(&mut disk, b"x");
    drop(disk);
}
