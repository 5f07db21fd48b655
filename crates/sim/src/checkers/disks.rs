//! The checkers of what members write: what is durable on each disk, and what a log holds when it is opened again.
//!
//! Called with each record when it is made and when it is durable, in every life. What members send about their
//! records is checked in `wire`.

use upaxos_core::record::Record;
use upaxos_core::types::Instance;

use super::Checkers;
use super::disk::Disk;
use super::rule::Rule;

impl Checkers {
    /// Whether a member may vote, by its own disk.
    pub fn is_member(&self, id: u16) -> bool {
        self.disks[usize::from(id)].is_member
    }

    /// Whether a member has lost its disk.
    pub fn is_lost(&self, id: u16) -> bool {
        self.disks[usize::from(id)].is_lost
    }

    /// A record became durable at a member.
    pub fn on_durable(&mut self, id: u16, record: &Record) {
        let slot = |instance| self.slot(instance);
        let promise = match record {
            Record::PromiseAll { ballot } => Some((Instance(0), *ballot)),
            Record::Promise { instance, ballot } | Record::Accept { instance, ballot, .. } => {
                Some((slot(*instance), *ballot))
            }
            Record::Lost { instance, ballot } => ballot.map(|ballot| (slot(*instance), ballot)),
            _ => None,
        };
        // Accepting is promising, too. But a leader may begin to write only upon promises.
        if let (Some(promise), Record::PromiseAll { .. } | Record::Promise { .. }) = (promise, record) {
            self.promises.entry(promise).or_default().insert(id);
        }
        let disk = &mut self.disks[usize::from(id)];
        disk.records += 1;
        if let Some((slot, ballot)) = promise {
            let promised = disk.promised.entry(slot).or_insert(ballot);
            *promised = ballot.max(*promised);
        }
        match record {
            Record::Start { start, boot } => {
                disk.starts = *start;
                disk.lives.insert(*start, *boot);
            }
            Record::Member => disk.is_member = true,
            Record::Founded { group } => {
                let old = disk.group.replace(*group);
                if old.is_some_and(|old| old != *group) {
                    disk.registered.clear();
                }
            }
            Record::Barred => disk.is_barred = true,
            Record::Registered { node, boot } => drop(disk.registered.insert(*node, *boot)),
            Record::Accept { instance, ballot, value } => {
                disk.accepted.insert((*instance, *ballot), value.clone());
                self.on_value(*instance, *ballot, value);
                let voters = self.accepts.entry((*instance, *ballot)).or_default();
                voters.insert(id);
                self.on_accepted(*instance, *ballot, value);
            }
            Record::Lost { instance, ballot: Some(ballot) } => {
                disk.unread.insert((*instance, *ballot));
            }
            Record::Chosen { first, last, ballot } => {
                disk.learned = *last;
                let value = |at: Instance| Some((at, disk.accepted.get(&(at, *ballot))?.clone()));
                disk.log.extend((first.0..=last.0).map(Instance).filter_map(value));
            }
            Record::Learn { instance, value } => {
                disk.learned = *instance;
                disk.log.insert(*instance, value.clone());
            }
            _ => {}
        }
    }

    /// A member made a record. It may only learn what is chosen.
    pub fn on_record(&mut self, id: u16, record: &Record) {
        match record {
            Record::Accept { instance, ballot, value } => self.on_value(*instance, *ballot, value),
            Record::Learn { instance, value } => self.must_be_chosen(id, *instance, Some(value.clone())),
            Record::Chosen { first, last, ballot } => self.must_be_chosen_in(id, *first, *last, *ballot),
            _ => {}
        }
    }

    /// The durably learned prefix of a member.
    pub fn learned(&self, id: u16) -> Instance {
        self.disks[usize::from(id)].learned
    }

    /// A member opened its log. `records` are what it would begin the next segment with: all that was durable, and
    /// nothing else. Only the `lost` values may be missing. No other value may take the place of a lost one. The
    /// learned prefix ends before the first lost value that had been learned, until that value is learned anew.
    pub fn on_recovered(&mut self, id: u16, (learned, records): &(Instance, Vec<Record>), lost: &[Record]) {
        for record in records {
            if let Record::Accept { instance, ballot, value } = record
                && self.disks[usize::from(id)].unread.remove(&(*instance, *ballot))
            {
                self.disks[usize::from(id)].accepted.insert((*instance, *ballot), value.clone());
                self.on_value(*instance, *ballot, value);
            }
        }
        let disk = &mut self.disks[usize::from(id)];
        let is_cut =
            |record: &Record| matches!(record, Record::Lost { instance, .. } if *instance == learned.next());
        if *learned < disk.learned && lost.iter().any(is_cut) {
            disk.once_learned = disk.once_learned.max(disk.learned);
            disk.learned = *learned;
        } else if *learned <= disk.once_learned {
            // Once the lost value is learned anew, compaction drops its old copy. Then the log again implies what
            // an earlier life learned above it.
            disk.learned = disk.learned.max(*learned);
        }
        let disk = &self.disks[usize::from(id)];
        let mut durable = disk.checkpoint(*learned);
        let missing: Vec<Record> = records.iter().filter(|record| lost.contains(record)).cloned().collect();
        durable.retain(|record| match record {
            Record::Accept { instance, ballot, .. } => {
                !missing.contains(&Record::Lost { instance: *instance, ballot: Some(*ballot) })
            }
            _ => true,
        });
        let is_judged = |record: &&Record| {
            use Record as R;
            let is_learned = matches!(record, R::Session { .. } | R::User { .. } | R::Forgotten { .. });
            let is_group = matches!(record, R::Genesis { .. } | R::Group { .. } | R::Gone { .. });
            let is_script = matches!(record, R::Script { .. } | R::State { .. } | R::Chain { .. });
            // Node 0 knows its group before it has written the record.
            let is_news = disk.group.is_none() && matches!(record, R::Founded { .. });
            !is_learned && !is_script && !is_group && !is_news && !matches!(record, R::Start { .. })
        };
        let found = records.iter().filter(is_judged).filter(|record| !missing.contains(record));
        let found: Vec<Record> = found.cloned().collect();
        let start = |record: &Record| match record {
            Record::Start { start, .. } => Some(*start),
            _ => None,
        };
        let starts = records.iter().filter_map(start).max().unwrap_or(0);
        let epoch = |record: &Record| match record {
            Record::Group { epoch, .. } => Some(*epoch),
            _ => None,
        };
        let epoch = records.iter().find_map(epoch).unwrap_or_default();
        let governs = self.epoch_after(*learned);
        if epoch != governs {
            let got = format!("{id} recovers epoch {epoch}, having learned {learned}: {governs} is in force");
            return self.fail(Rule::RecoversWhole, got);
        }
        if found != durable || disk.learned != *learned || disk.starts + 1 != starts {
            let (found, durable) = ((learned, starts, found), (disk.learned, disk.starts, durable));
            self.fail(
                Rule::RecoversWhole,
                format!("{id} recovers (learned, start, the rest) {found:?}; durable are {durable:?}"),
            );
        }
    }

    /// A member that keeps its whole log opened it, and found this many records and this learned prefix.
    pub fn on_recovered_log(&mut self, id: u16, records: usize, learned: Instance) {
        let disk = &self.disks[usize::from(id)];
        if disk.records != records || disk.learned != learned {
            let durable = (disk.records, disk.learned);
            self.fail(
                Rule::RecoversWhole,
                format!("{id} recovers {records} records, learned {learned}; durable are {durable:?}"),
            );
        }
    }

    /// A node lost its disk. It counts as lost if it ever was a member, promised or voted.
    pub fn on_wiped(&mut self, id: u16) {
        self.rollback.copies.remove(&id);
        let Disk { is_lost, is_member, promised, voted, .. } = &self.disks[usize::from(id)];
        let is_lost = *is_lost || *is_member || !promised.is_empty() || !voted.is_empty();
        self.disks[usize::from(id)] = Disk { is_lost, ..Disk::default() };
    }
}
