//! Threads beside the daemon's loop, one for each task of the store, so that no commit waits for a task.

use std::io;
use std::thread::{Builder, JoinHandle};

use crate::{Files, Task};

use super::dir::Dir;

/// The running tasks. The store has at most two at a time.
#[derive(Debug)]
pub(super) struct Worker {
    dir: Dir,
    running: Vec<JoinHandle<io::Result<Task<Dir>>>>,
}

impl Worker {
    pub(super) fn new(dir: Dir) -> Worker {
        Worker { dir, running: Vec::new() }
    }

    /// Starts a task in a thread of its own.
    pub(super) fn begin(&mut self, task: Task<Dir>) -> io::Result<()> {
        let dir = self.dir.clone();
        let thread = Builder::new().name("store".into()).spawn(move || task.run(&dir));
        let act = "start a thread for the store in";
        self.running.push(thread.map_err(crate::files::cannot(act, &self.dir.place("")))?);
        Ok(())
    }

    /// A finished task, if there is one, or the error with which it failed.
    pub(super) fn done(&mut self) -> Option<io::Result<Task<Dir>>> {
        let at = self.running.iter().position(JoinHandle::is_finished)?;
        Some(join(self.running.swap_remove(at)))
    }

    /// Waits for the task that was started first.
    ///
    /// # Panics
    /// When no task runs.
    pub(super) fn wait(&mut self) -> io::Result<Task<Dir>> {
        join(self.running.remove(0))
    }
}

fn join(thread: JoinHandle<io::Result<Task<Dir>>>) -> io::Result<Task<Dir>> {
    thread.join().expect("tasks of the store do not panic")
}

impl Drop for Worker {
    /// Waits for all tasks: a thread must not work in a directory whose lock is released.
    fn drop(&mut self) {
        for thread in self.running.drain(..) {
            let _ = thread.join();
        }
    }
}
