//! The next segment, made by a thread while the log goes on, so that no commit waits for zeros.

use super::error::cannot;
use super::segment::{Head, Segment};
use std::io;
use std::path::Path;
use std::thread::{Builder, JoinHandle};

/// A segment in the making.
#[derive(Debug)]
pub(super) struct Prepared(Option<JoinHandle<io::Result<Segment>>>);

impl Prepared {
    /// Begins to make the segment that `head` describes.
    pub(super) fn begin(dir: &Path, head: Head) -> io::Result<Prepared> {
        let owned = dir.to_path_buf();
        let thread = Builder::new().name("segment".into());
        let thread = thread.spawn(move || Segment::open_or_create(&owned, &head));
        let thread = thread.map_err(cannot("start a thread to prepare a segment in", dir))?;
        Ok(Prepared(Some(thread)))
    }

    /// The segment; waits if it is not ready. A failure is told here, when it is needed.
    pub(super) fn finish(mut self) -> io::Result<Segment> {
        let thread = self.0.take().expect("only finish and drop take the thread");
        thread.join().expect("making a segment does not panic")
    }
}

impl Drop for Prepared {
    /// Waits: the thread must not work in a directory whose lock is gone.
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}
