//! Standard input of the client, awaited together with its socket.
//!
//! Owns the bytes that were read but not handed out: at most one read and an unfinished line. Requests beyond the
//! limit of requests in flight therefore wait in the pipe.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

/// Maximum bytes per read.
const ROOM: usize = 1 << 16;

/// The lines of standard input that were read and not handed out.
#[derive(Debug)]
pub(super) struct Input {
    lines: VecDeque<Vec<u8>>,
    /// A line whose newline has not arrived.
    begun: Vec<u8>,
    is_open: bool,
}

impl Input {
    pub fn new() -> Input {
        Input { lines: VecDeque::new(), begun: Vec::new(), is_open: true }
    }

    /// The next line without its newline, if one was read.
    pub fn next(&mut self) -> Option<Vec<u8>> {
        self.lines.pop_front()
    }

    /// Whether the stream has ended and every line was handed out.
    pub fn has_ended(&self) -> bool {
        !self.is_open && self.lines.is_empty()
    }

    /// Waits until `socket` is readable, until a line is there if one is wanted, and for `most` at most.
    pub fn wait(&mut self, socket: BorrowedFd<'_>, wants_line: bool, most: Duration) -> io::Result<()> {
        let stdin = io::stdin();
        let stdin = (wants_line && self.is_open && self.lines.is_empty()).then(|| stdin.as_fd());
        let most = if wants_line && !self.lines.is_empty() { Duration::ZERO } else { most };
        let mut fds: Vec<_> = [Some(socket), stdin]
            .into_iter()
            .flatten()
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match ppoll(&mut fds, Some(TimeSpec::from_duration(most)), None) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
        match fds.get(1) {
            Some(stdin) if stdin.any() == Some(true) => self.read(),
            _ => Ok(()),
        }
    }

    /// Reads without a buffer: `ppoll` does not see what a buffer holds.
    fn read(&mut self) -> io::Result<()> {
        let mut room = [0; ROOM];
        let length = nix::unistd::read(io::stdin().as_fd(), &mut room)?;
        self.take(&room[..length]);
        Ok(())
    }

    /// Cuts the bytes of one read into lines. A read of no bytes is the end of the stream.
    fn take(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            self.is_open = false;
            if !self.begun.is_empty() {
                self.lines.push_back(std::mem::take(&mut self.begun));
            }
            return;
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(part);
            if self.begun.pop_if(|byte| *byte == b'\n').is_some() {
                self.lines.push_back(std::mem::take(&mut self.begun));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_they_come_and_the_last_needs_no_end() {
        let mut input = Input::new();
        let mut lines = Vec::new();
        for read in ["on", "e\ntwo\n\nthr", "ee", ""] {
            input.take(read.as_bytes());
            lines.extend(std::iter::from_fn(|| input.next()));
            assert_eq!(input.has_ended(), read.is_empty());
        }
        assert_eq!(lines, [&b"one"[..], b"two", b"", b"three"]);
    }
}
