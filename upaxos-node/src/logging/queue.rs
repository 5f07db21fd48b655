//! Log lines on their way to standard error: a bounded queue and a thread that writes it.
//!
//! Owns the rule that a log line never makes the daemon's loop wait. A pipe that is not read, or a stopped
//! terminal, takes nothing. The queue then fills, and further lines are dropped and counted. The thread logs their
//! number when it can write again.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Bounds of the lines that wait in the queue. The batch that the thread is writing may be as large again.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Maximum number of waiting lines.
    pub lines: usize,
    /// Maximum bytes of all waiting lines together.
    pub bytes: usize,
}

/// Formats the message about dropped lines as a log line.
pub type Form = Box<dyn Fn(&str) -> Vec<u8> + Send>;

/// The logger's sink. Clones share one queue.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bounds: Bounds,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

/// The lines that the thread has not taken yet.
#[derive(Debug, Default)]
struct Waiting {
    text: Vec<u8>,
    lines: usize,
    dropped: u64,
    /// Whether the thread has taken a batch and has not finished writing it.
    is_writing: bool,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.lines == 0 && self.dropped == 0
    }
}

impl Queue {
    /// Starts the thread that writes to `sink`. Lines of a failed write are lost and count as dropped.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(bounds: Bounds, sink: impl Write + Send + 'static, form: Form) -> io::Result<Queue> {
        let shared = Arc::new(Shared { bounds, waiting: Mutex::default(), changed: Condvar::new() });
        let queue = Queue(Arc::clone(&shared));
        thread::Builder::new().name("log".into()).spawn(move || shared.write_on(sink, &form))?;
        Ok(queue)
    }

    /// Queues one line with its newline, or drops it. After one dropped line every line is dropped until the thread
    /// takes the next batch. The message about them then takes their place in the log.
    pub fn push(&self, line: &[u8]) {
        let mut waiting = self.0.lock();
        let fits = waiting.lines < self.0.bounds.lines
            && waiting.text.len() + line.len() <= self.0.bounds.bytes
            && waiting.dropped == 0;
        if fits {
            waiting.text.extend_from_slice(line);
            waiting.lines += 1;
        } else {
            waiting.dropped += 1;
        }
        self.0.changed.notify_all();
    }

    /// Waits until everything is written, but no longer than `patience`. Returns whether everything is written.
    pub fn flush(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut waiting = self.0.lock();
        while waiting.is_writing || !waiting.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let woken = self.0.changed.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Shared {
    /// Ignores poison: no holder of the lock panics, and the log must go on in any case.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_on(&self, mut sink: impl Write, form: &Form) {
        let mut batch = Vec::new();
        // The number of lines in batches that could not be written, and the last error.
        let mut lost: Option<(u64, io::Error)> = None;
        loop {
            let (lines, dropped) = self.take(&mut batch);
            if dropped > 0 {
                let text = format!("dropped {dropped} log lines: standard error is not being read");
                batch.extend_from_slice(&form(&text));
            }
            if let Some((lines, why)) = &lost {
                let text = format!("dropped {lines} log lines: standard error could not be written: {why}");
                batch.splice(0..0, form(&text));
            }
            lost = match sink.write_all(&batch).and_then(|()| sink.flush()) {
                Ok(()) => None,
                Err(why) => Some((lost.map_or(0, |(lines, _)| lines) + lines + dropped, why)),
            };
            batch.clear();
            self.lock().is_writing = false;
            self.changed.notify_all();
        }
    }

    /// Waits for lines and takes them all. Returns their number, and the number of lines dropped after them.
    fn take(&self, batch: &mut Vec<u8>) -> (u64, u64) {
        let mut waiting = self.lock();
        while waiting.is_empty() {
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(batch, &mut waiting.text);
        waiting.is_writing = true;
        (std::mem::take(&mut waiting.lines) as u64, std::mem::take(&mut waiting.dropped))
    }
}

impl Write for Queue {
    /// The logger hands over whole lines.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, SyncSender};

    use super::*;

    const BOUNDS: Bounds = Bounds { lines: 3, bytes: 100 };
    const LONG: Duration = Duration::from_secs(60);

    /// Blocks each write until the test reads it, as a full pipe does.
    struct Pipe(SyncSender<String>);

    impl Write for Pipe {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            let sent = self.0.send(String::from_utf8_lossy(text).into_owned());
            sent.map(|()| text.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn form() -> Form {
        Box::new(|text| format!("{text}\n").into_bytes())
    }

    /// A queue whose thread is blocked in the write of a first line.
    fn stuck() -> (Queue, Receiver<String>) {
        let (pipe, reader) = mpsc::sync_channel(0);
        let queue = Queue::start(BOUNDS, Pipe(pipe), form()).expect("a thread");
        queue.push(b"first\n");
        while !queue.0.lock().is_writing {
            thread::yield_now();
        }
        (queue, reader)
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted_in_its_place() {
        let (queue, reader) = stuck();
        for number in 0..10 {
            queue.push(format!("{number}\n").as_bytes());
        }
        assert_eq!(reader.recv_timeout(LONG).expect("writes"), "first\n");
        let next = reader.recv_timeout(LONG).expect("writes");
        assert_eq!(next, "0\n1\n2\ndropped 7 log lines: standard error is not being read\n");
        queue.push(b"again\n");
        assert_eq!(reader.recv_timeout(LONG).expect("writes"), "again\n");
        assert!(queue.flush(LONG));
    }

    #[test]
    fn a_line_too_long_is_dropped_and_none_overtakes_it() {
        let (queue, reader) = stuck();
        queue.push(&[b'x'; 200]);
        queue.push(b"short\n");
        reader.recv_timeout(LONG).expect("writes");
        let next = reader.recv_timeout(LONG).expect("writes");
        assert_eq!(next, "dropped 2 log lines: standard error is not being read\n");
    }

    #[test]
    fn a_flush_gives_up_where_nobody_reads() {
        let (queue, _reader) = stuck();
        assert!(!queue.flush(Duration::from_millis(1)));
    }

    #[test]
    fn lines_of_a_failed_write_are_counted_when_one_succeeds() {
        struct Full(mpsc::Sender<String>, bool);

        impl Write for Full {
            fn write(&mut self, text: &[u8]) -> io::Result<usize> {
                let text_of = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
                match std::mem::take(&mut self.1) {
                    true => Err(io::Error::new(io::ErrorKind::StorageFull, "full")),
                    false => self.0.send(text_of(text)).map(|()| text.len()).map_err(io::Error::other),
                }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let (pipe, reader) = mpsc::channel();
        let queue = Queue::start(BOUNDS, Full(pipe, true), form()).expect("a thread");
        queue.push(b"lost\n");
        assert!(queue.flush(LONG));
        queue.push(b"kept\n");
        let next = reader.recv_timeout(LONG).expect("writes");
        assert_eq!(next, "dropped 1 log lines: standard error could not be written: full\nkept\n");
    }
}
