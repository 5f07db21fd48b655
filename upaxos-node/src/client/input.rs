//! Standard input of the client, awaited together with its socket.
//!
//! Owns the bytes that came and are not taken up yet: never more than one read of them and an unfinished line, so
//! whoever asks more than may be under way waits in the pipe.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

/// Bytes per read, at most.
const ROOM: usize = 1 << 16;

/// Lines of standard input.
#[derive(Debug)]
pub(super) struct Input {
    lines: VecDeque<Vec<u8>>,
    /// A line whose end has not come.
    begun: Vec<u8>,
    is_open: bool,
}

impl Input {
    pub fn new() -> Input {
        Input { lines: VecDeque::new(), begun: Vec::new(), is_open: true }
    }

    /// The next line, without its end, if it is there.
    pub fn next(&mut self) -> Option<Vec<u8>> {
        self.lines.pop_front()
    }

    /// Whether no line will come any more.
    pub fn has_ended(&self) -> bool {
        !self.is_open && self.lines.is_empty()
    }

    /// Waits until `socket` has something, until there is a line if one is wanted, and for so long at most.
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

    /// Unbuffered: what a buffer held would not end the wait.
    fn read(&mut self) -> io::Result<()> {
        let mut room = [0; ROOM];
        let length = nix::unistd::read(io::stdin().as_fd(), &mut room)?;
        self.take(&room[..length]);
        Ok(())
    }

    /// Takes in what was read; nothing at all means that there is no more.
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
