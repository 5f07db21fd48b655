//! Plays labs with many seeds: on all cores where worlds do not disturb each other.
//!
//! Owns the list of plays, and when a lab ends early: the first failing seed ends its sweep. [`super::command`]
//! decides what is printed.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use upaxos_cli as cli;

use super::backend::BackendError;
use super::error::LabError;
use super::panics;
use super::run::Say;
use super::runner::{self, Open, Order};
use super::script::Script;
use super::verdict::{End, Verdict};

/// A lab to play.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The script that declares the lab.
    pub script: Script,
    /// The title of the lab.
    pub title: String,
    /// The first part of the names of its plays' folders; the seed follows. No two labs share it.
    pub folder: String,
}

impl Entry {
    /// A lab of a script, to be played together with `others`.
    pub fn new(script: &Script, title: &str, others: &[Entry]) -> Entry {
        let plain = |c: char| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let name: String = title.chars().map(plain).collect();
        let is_free = |name: &String| others.iter().all(|other| other.folder != *name);
        let again = (2..).map(|count| format!("{name}-{count}"));
        let folder = [name.clone()].into_iter().chain(again).find(is_free).unwrap_or_default();
        Entry { script: script.clone(), title: title.to_owned(), folder }
    }

    /// The folder below `out` in which one of its plays is saved.
    pub fn folder_in(&self, out: &Path, seed: u64) -> PathBuf {
        out.join(format!("{}-{seed}", self.folder))
    }
}

/// The plays to run, and their settings.
pub struct Sweep<'s> {
    /// The labs, in order.
    pub entries: &'s [Entry],
    /// The seeds for each lab.
    pub seeds: Range<u64>,
    /// The number of plays at once.
    pub threads: usize,
    /// The constructor of a world.
    pub open: Open<'s>,
    /// The directory in which each play is saved. `None`: nothing is saved.
    pub out: Option<&'s Path>,
    /// Whether the script's lines are printed at once, instead of kept for the verdict.
    pub prints: bool,
}

/// Receives each verdict with the index of its lab, while the sweep runs.
pub type Tell<'t> = &'t mut (dyn FnMut(usize, Verdict) + Send);

impl Sweep<'_> {
    /// Plays everything, and passes on each verdict when its play ends. After a lab has failed with a seed, no
    /// higher seed of it starts.
    ///
    /// # Errors
    /// When no world is available.
    pub fn run(&self, tell: Tell) -> Result<(), BackendError> {
        let next = AtomicUsize::new(0);
        let failed: Vec<AtomicU64> = self.entries.iter().map(|_| AtomicU64::new(u64::MAX)).collect();
        let (tell, broken) = (Mutex::new(tell), Mutex::new(None));
        let each = (self.seeds.end - self.seeds.start) as usize;
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let (entry, seed) = (number / each, self.seeds.start + (number % each) as u64);
                if entry >= self.entries.len() || broken.lock().is_ok_and(|broken| broken.is_some()) {
                    return;
                }
                if failed[entry].load(Ordering::Relaxed) < seed {
                    continue;
                }
                match self.play(entry, seed) {
                    Ok(verdict) => {
                        if matches!(verdict.end, End::Failed { .. }) {
                            failed[entry].fetch_min(seed, Ordering::Relaxed);
                        }
                        tell.lock().expect("telling does not panic")(entry, verdict);
                    }
                    Err(error) => *broken.lock().expect("nothing panics with it") = Some(error),
                }
            }
        };
        std::thread::scope(|scope| (0..self.threads).for_each(|_| drop(scope.spawn(work))));
        match broken.into_inner().expect("nothing panics with it") {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Plays one lab with one seed. A node's panic is a failure like any other.
    fn play(&self, entry: usize, seed: u64) -> Result<Verdict, BackendError> {
        let entry = &self.entries[entry];
        let said = Arc::new(Mutex::new(Vec::new()));
        let (kept, prints) = (Arc::clone(&said), self.prints);
        let say: Say = Arc::new(move |line| match prints {
            // A closed pipe does not change the exit status.
            true => cli::tell(line),
            false => kept.lock().expect("nothing panics with it").push(line.to_owned()),
        });
        let caught = || {
            catch_unwind(AssertUnwindSafe(|| {
                let out = self.out.map(|out| entry.folder_in(out, seed));
                let Entry { script, title, .. } = entry;
                runner::play(&Order { script, title, seed, out, say }, self.open)
            }))
        };
        let (played, panicked_at) = panics::noticed(caught);
        let said = std::mem::take(&mut *said.lock().expect("nothing panics with it"));
        let mut verdict = played.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words");
            Ok(Verdict::failed(seed, LabError::expected("no panic", text)))
        })?;
        if let (End::Failed { views, .. }, Some(place)) = (&mut verdict.end, panicked_at) {
            *views += &format!("\nthe panic began at {place}\n");
        }
        Ok(Verdict { said, ..verdict })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_failure_that_says_where_it_began() {
        panics::hush();
        let script = Script::embedded("a.lua", "lab.test('a lab', {}, function() end)");
        let entries = [Entry::new(&script, "a lab", &[])];
        let open = |_: &_| panic!("no world today");
        let sweep =
            Sweep { entries: &entries, seeds: 1..2, threads: 1, open: &open, out: None, prints: false };
        let mut told = Vec::new();
        sweep.run(&mut |_, verdict| told.push(verdict.end)).unwrap();
        let [End::Failed { trouble, views }] = &told[..] else { panic!("{told:?}") };
        assert_eq!(trouble.to_string(), "expected no panic; got no world today");
        assert!(views.contains("the panic began at") && views.contains("sweep.rs:"), "{views}");
    }

    #[test]
    fn no_play_is_saved_over_that_of_another_lab() {
        let script = Script::embedded("a.lua", "");
        let mut entries: Vec<Entry> = Vec::new();
        for title in ["It's over", "it s over", "it-s-over", "it-s-over-2"] {
            entries.push(Entry::new(&script, title, &entries));
        }
        let folders: Vec<_> = entries.iter().map(|entry| entry.folder_in(Path::new("out"), 7)).collect();
        let expected = ["out/it-s-over-7", "out/it-s-over-2-7", "out/it-s-over-3-7", "out/it-s-over-2-2-7"];
        assert_eq!(folders, expected.map(PathBuf::from));
    }
}
