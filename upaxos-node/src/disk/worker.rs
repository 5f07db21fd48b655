//! Threads beside the loop, one for each task of the store, so that no commit waits for one.

use std::io;
use std::thread::{Builder, JoinHandle};

use upaxos_core::store::{Files, Task};

use super::dir::Dir;

/// The tasks under way; the store gives out two at most.
#[derive(Debug)]
pub(super) struct Worker {
    dir: Dir,
    running: Vec<JoinHandle<io::Result<Task<Dir>>>>,
}

impl Worker {
    pub(super) fn new(dir: Dir) -> Worker {
        Worker { dir, running: Vec::new() }
    }

    /// Begins a task.
    pub(super) fn begin(&mut self, task: Task<Dir>) -> io::Result<()> {
        let dir = self.dir.clone();
        let thread = Builder::new().name("store".into()).spawn(move || task.run(&dir));
        let act = "start a thread for the store in";
        self.running.push(thread.map_err(upaxos_core::store::files::cannot(act, &self.dir.place("")))?);
        Ok(())
    }

    /// A task that is done, if one is. Its failure is told here.
    pub(super) fn done(&mut self) -> Option<io::Result<Task<Dir>>> {
        let at = self.running.iter().position(JoinHandle::is_finished)?;
        Some(join(self.running.swap_remove(at)))
    }

    /// Waits for the task that was begun first.
    ///
    /// # Panics
    /// When there is none.
    pub(super) fn wait(&mut self) -> io::Result<Task<Dir>> {
        join(self.running.remove(0))
    }
}

fn join(thread: JoinHandle<io::Result<Task<Dir>>>) -> io::Result<Task<Dir>> {
    thread.join().expect("tasks of the store do not panic")
}

impl Drop for Worker {
    /// Waits: a thread must not work in a directory whose lock is gone.
    fn drop(&mut self) {
        for thread in self.running.drain(..) {
            let _ = thread.join();
        }
    }
}
