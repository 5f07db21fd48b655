//! The order of the code: files and crates import downwards only.
//!
//! A circle of imports makes one file out of several. These tests name the circle's files, and the path behind each
//! import. To mend one, move what is shared into a file below, or the function that joins both into a file above.

#[path = "support/imports.rs"]
mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use imports::Imports;

/// The crates that each crate may depend on.
const CRATES: [(&str, &[&str]); 11] = [
    ("crates/core", &[]),
    ("crates/storage", &["core"]),
    ("crates/net", &["core"]),
    ("crates/cli", &["core"]),
    ("crates/sim", &["core", "storage"]),
    ("crates/script", &["core", "storage"]),
    ("crates/testbed", &["core", "storage", "net", "cli", "sim", "script"]),
    ("crates/lab", &["core", "storage", "net", "cli", "sim", "script", "testbed"]),
    ("upaxos-node", &["core", "storage", "net", "cli", "sim", "script", "testbed", "lab"]),
    ("upaxos-send", &["core", "net", "cli"]),
    ("upaxos-repl", &["core", "net", "cli"]),
];

/// The rooms of the replica, the lowest first: folders and files below `replica`. Names of one row share a rank.
const ROOMS: [&[&str]; 8] = [
    &["config", "limits", "outbox", "drop_counters", "context"],
    &["reconfig"],
    &["state_machine"],
    &["clients"],
    &["paxos"],
    &["election"],
    &["classic"],
    &["dispatch", "advance", "store_source", "recovery", "twin", "replica"],
];

/// The files that still stand in a circle with the replica. The list only gets shorter.
const CIRCLES: &[&str] = &[
    "driver",
    "replica",
    "replica/dispatch/senders",
    "replica/paxos/proposer",
    "replica/paxos/proposer/phase_1",
    "replica/state_machine/divergence/search",
    "replica/state_machine/divergence/subject",
];

/// The files in rooms of the replica that still import upwards, or name `Replica`. The list only gets shorter.
const UPWARDS: &[&str] = &["replica/classic", "replica/reconfig/group_view"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace")
}

/// Fails unless the exempt files are exactly those that need it.
fn compare(exempt: &[&str], needed: &BTreeMap<String, String>) {
    let exempt: BTreeSet<_> = exempt.iter().map(|file| (*file).to_owned()).collect();
    let (new, why): (Vec<_>, BTreeSet<_>) = needed.iter().filter(|(file, _)| !exempt.contains(*file)).unzip();
    assert!(new.is_empty(), "{new:?}:{}", why.into_iter().map(String::as_str).collect::<String>());
    let done: Vec<_> = exempt.iter().filter(|file| !needed.contains_key(*file)).collect();
    assert!(done.is_empty(), "these files need no exemption any more: {done:?}");
}

#[test]
fn no_files_of_a_crate_import_from_each_other_in_a_circle() {
    let mut found = String::new();
    let mut exempt = BTreeMap::new();
    for (name, _) in CRATES {
        let imports = imports::read(&root().join(name));
        for circle in imports::circles(&imports) {
            let text = format!(
                "\n{name}, {} files in a circle:{}",
                circle.len(),
                imports::describe(&imports, &circle)
            );
            if name == "crates/core" && circle.iter().any(|file| is_of_the_replica(file)) {
                exempt.extend(circle.into_iter().map(|file| (file, text.clone())));
            } else {
                found.push_str(&text);
            }
        }
    }
    assert!(found.is_empty(), "{found}");
    compare(CIRCLES, &exempt);
}

fn is_of_the_replica(file: &str) -> bool {
    file == "replica" || file.starts_with("replica/")
}

#[test]
fn every_crate_depends_on_crates_below_it_only() {
    let folders = fs::read_dir(root().join("crates")).expect("the crates").flatten();
    let mut folders: BTreeSet<_> =
        folders.map(|entry| format!("crates/{}", entry.file_name().to_string_lossy())).collect();
    folders.extend(["upaxos-node", "upaxos-send", "upaxos-repl"].map(str::to_owned));
    assert_eq!(
        folders,
        CRATES.iter().map(|(name, _)| (*name).to_owned()).collect(),
        "CRATES lists all crates"
    );
    for (name, below) in CRATES {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).expect("a manifest");
        for other in dependencies(&manifest) {
            assert!(below.contains(&other.as_str()), "{name} depends on {other}; it may on {below:?} only");
        }
    }
}

/// The crates of the workspace that a manifest depends on, other than for tests.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut is_section = false;
    let mut found = Vec::new();
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            is_section = section.ends_with("dependencies]") && !section.ends_with("dev-dependencies]");
        } else if is_section && let Some(line) = line.strip_prefix("upaxos-") {
            found.push(line.split(['.', ' ', '=']).next().unwrap_or(line).to_owned());
        }
    }
    found
}

#[test]
fn rooms_of_the_replica_import_downwards_only_and_never_name_it() {
    let core = root().join("crates/core");
    let imports = imports::read(&core);
    let mut found = BTreeMap::new();
    for (file, rank) in imports.keys().filter_map(|file| Some((file, rank(file)?))) {
        let mut why = upward(&imports, file, rank);
        let text = fs::read_to_string(core.join(format!("src/{file}.rs"))).expect("a source");
        if rank + 1 < ROOMS.len() && imports::words_of(&imports::code_of(&text)).contains("Replica") {
            why.push_str(&format!("\n  {file}.rs names `Replica`"));
        }
        if !why.is_empty() {
            found.insert(file.clone(), why);
        }
    }
    compare(UPWARDS, &found);
}

/// The imports of a file from higher rooms.
fn upward(imports: &Imports, file: &str, own: usize) -> String {
    let is_higher = |target: &str| rank(target).is_some_and(|rank| rank > own);
    let edges = imports[file].iter().filter(|(target, _)| is_higher(target));
    edges.map(|(target, path)| format!("\n  {file}.rs: {path} -> {target}.rs")).collect()
}

/// The place of a file's room in [`ROOMS`]. `None` outside of the replica.
fn rank(file: &str) -> Option<usize> {
    let name = match file.strip_prefix("replica/") {
        Some(inner) => inner.split('/').next().unwrap_or(inner),
        None if file == "replica" => "replica",
        None => return None,
    };
    let rank = ROOMS.iter().position(|names| names.contains(&name));
    Some(rank.unwrap_or_else(|| panic!("{file}.rs stands in no room: add its name to ROOMS")))
}
