//! The acknowledgements of the load: the instance of each request. Written to a file, for the judge.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Requests with consecutive numbers at consecutive instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The index of the session in the load.
    pub session: u64,
    /// The number of the first request.
    pub seq: u64,
    /// The instance of the first request.
    pub instance: u64,
    /// The number of requests in the run.
    pub count: u64,
}

/// All acknowledgements, in the order of arrival.
#[derive(Debug, Default)]
pub struct Acks {
    runs: Vec<Run>,
}

impl Acks {
    /// Adds a run. Merges it with the previous one if it continues that.
    pub fn push(&mut self, run: Run) {
        if let Some(last) = self.runs.last_mut()
            && last.session == run.session
            && last.seq + last.count == run.seq
            && last.instance + last.count == run.instance
        {
            last.count += run.count;
            return;
        }
        self.runs.push(run);
    }

    /// The lowest and the highest acknowledged instance. `None` before the first acknowledgement.
    pub fn span(&self) -> Option<(u64, u64)> {
        let low = self.runs.iter().map(|run| run.instance).min()?;
        let high = self.runs.iter().map(|run| run.instance + run.count - 1).max()?;
        Some((low, high))
    }

    /// The number of the request at the highest instance.
    pub fn last(&self) -> Option<u64> {
        let last = self.runs.iter().max_by_key(|run| run.instance)?;
        Some(last.seq + last.count - 1)
    }

    /// Writes a line for each run.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(fs::File::create(path)?);
        for Run { session, seq, instance, count } in &self.runs {
            writeln!(file, "{session} {seq} {instance} {count}")?;
        }
        file.flush()
    }

    /// Reads a file of [`write`](Self::write).
    ///
    /// # Errors
    /// When the file cannot be read, or has another form.
    pub fn read(path: &Path) -> io::Result<Vec<Run>> {
        let run = |line: &str| {
            let mut numbers = line.split(' ').map(|number| number.parse().ok());
            let mut next = || numbers.next().flatten();
            Some(Run { session: next()?, seq: next()?, instance: next()?, count: next()? })
        };
        let bad = |line| io::Error::other(format!("{}: no acknowledgement: {line:?}", path.display()));
        fs::read_to_string(path)?.lines().map(|line| run(line).ok_or_else(|| bad(line))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_go_on_are_one_and_read_back() {
        let run = |session, seq, instance, count| Run { session, seq, instance, count };
        let mut acks = Acks::default();
        let told = [run(0, 1, 5, 2), run(0, 3, 7, 1), run(1, 4, 8, 1), run(0, 4, 9, 1), run(0, 5, 11, 3)];
        told.into_iter().for_each(|run| acks.push(run));
        let kept = vec![run(0, 1, 5, 3), run(1, 4, 8, 1), run(0, 4, 9, 1), run(0, 5, 11, 3)];
        assert_eq!(acks.span(), Some((5, 13)));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acks");
        acks.write(&path).unwrap();
        assert_eq!(Acks::read(&path).unwrap(), kept);
    }
}
