//! What the files say at a start.
//!
//! The newest journal with a whole checkpoint says everything of the files before it; it and what follows
//! is scanned frame by frame. A frame that is not whole is torn and cut off when nothing shows that it was
//! ever on disk, and damaged otherwise: then what can be read of it is kept and the rest is named. Every
//! start begins a new journal, so that nothing is written behind a cut.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;

use headwater_model::{Offset, TimestampMs};

use crate::change::{Change, Checkpoint};
use crate::cold::ColdFile;
use crate::disk::{Disk, DiskFile};
use crate::frame::{self, Entry, FrameHeader, HEADER, Line};
use crate::index::FileIndex;
use crate::partition::{Partition, marker};
use crate::place::{BatchPlace, Cause, Damage, FileId};
use crate::planted::{self, Bug};
use crate::redundancy::{self, Patch};
use crate::{LogError, PartitionId, Settings};

const NEWEST: &str = "newest";
const NEWEST_UNFINISHED: &str = "newest-unfinished";
pub const SPARE: &str = "spare-";
/// What a file is called while it comes back from the cold store.
pub const FETCHED: &str = "fetch-";

pub fn spare_name(number: u64) -> String {
    format!("{SPARE}{number:020}")
}

/// What a file is called that goes as soon as its space has been given back. Like a spare journal it gives way to what
/// finds no space; a start removes it.
pub fn doomed_name(file: FileId) -> String {
    format!("{SPARE}{}", file.name())
}

/// Notes that a journal is on disk, so that its loss would be noticed: nothing else refers to the newest.
pub fn note_newest<D: Disk>(disk: &D, journal: FileId) -> io::Result<()> {
    let number = journal.number().to_be_bytes();
    let file = disk.create(NEWEST_UNFINISHED)?;
    file.write_all_at(&number, 0)?;
    file.write_all_at(&crc32c::crc32c(&number).to_be_bytes(), 8)?;
    file.sync()?;
    disk.rename(NEWEST_UNFINISHED, NEWEST)
}

/// The newest journal that was noted; `None` when nothing can be read.
fn noted_newest<D: Disk>(disk: &D) -> Option<u64> {
    let bytes = read_file(&disk.open(NEWEST).ok()?).ok()?;
    let (number, crc) = bytes.split_at_checked(8)?;
    (crc32c::crc32c(number).to_be_bytes() == crc).then(|| number.try_into().ok().map(u64::from_be_bytes))?
}

/// What the files say. Nothing of this build's has been written yet.
pub struct Found {
    pub partitions: HashMap<PartitionId, Partition>,
    pub next_commit: u64,
    pub next_run: u64,
    pub salt: u64,
    pub time: TimestampMs,
    /// Local or in the cold store.
    pub on_disk: BTreeSet<FileId>,
    pub cold: Vec<ColdFile>,
    /// Of journals that were scanned.
    pub unsaved: Vec<(FileId, FileIndex)>,
    pub scanned_bytes: u64,
    /// Where scanned journals end.
    pub ends: Vec<(FileId, u64)>,
}

pub fn read_file(file: &impl DiskFile) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.len()? as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// The checkpoint at the start of a journal, if it is whole, with its frame's header.
fn checkpoint_of<D: Disk>(disk: &D, journal: FileId) -> io::Result<Option<(FrameHeader, Checkpoint)>> {
    let file = disk.open(&journal.name())?;
    let length = file.len()?;
    let mut header = [0; HEADER];
    if length < HEADER as u64 {
        return Ok(None);
    }
    file.read_exact_at(&mut header, 0)?;
    let Some(parsed) = FrameHeader::parse(&header, journal) else { return Ok(None) };
    if parsed.len() as u64 > length {
        return Ok(None);
    }
    let mut bytes = vec![0; parsed.len()];
    file.read_exact_at(&mut bytes, 0)?;
    let entries = parsed.verify(&bytes).then(|| frame::entries(&bytes, &parsed)).flatten();
    let checkpoint = match entries.as_deref() {
        Some([Entry::Checkpoint(bytes)]) => postcard::from_bytes(bytes).ok(),
        _ => None,
    };
    Ok(checkpoint.map(|checkpoint| (parsed, checkpoint)))
}

/// The frames of a file whose headers and directories are whole, from `from` on.
pub fn frames(bytes: &[u8], from: usize, file: FileId, salt: u64) -> Vec<(usize, FrameHeader)> {
    let known = (!planted::is(Bug::TrustAnySalt)).then_some(salt);
    let mut found = Vec::new();
    let mut at = from;
    loop {
        let here = FrameHeader::parse(bytes.get(at..).unwrap_or_default(), file);
        let whole = here.filter(|header| {
            (header.salt == salt || planted::is(Bug::TrustAnySalt))
                && header.verify(&bytes[at..])
                && at.checked_add(header.len()).is_some_and(|end| end <= bytes.len())
        });
        match whole {
            Some(header) => {
                found.push((at, header));
                at += header.len();
            }
            None => match frame::find(bytes, at + 1, file, known) {
                Some(next) => at = next,
                None => return found,
            },
        }
    }
}

/// Brings everything back that was committed. Writes nothing that was not there before: control batches
/// that are damaged go back to where they were.
pub fn find<D: Disk>(disk: &D, settings: Settings) -> Result<Found, LogError> {
    let names = disk.list()?;
    let on_disk: BTreeSet<FileId> = names.iter().filter_map(|name| FileId::parse(name)).collect();
    let mut on_disk = on_disk;
    let last = on_disk.iter().filter(|file| !file.is_run()).map(|file| file.number()).max().unwrap_or(0);
    if let Some(noted) = noted_newest(disk).filter(|noted| *noted > last) {
        return Err(LogError::Corrupt {
            file: FileId::journal(noted).name(),
            position: 0,
            reason: "it is missing, and the log went on in it",
        });
    }
    let Replay {
        mut partitions,
        next_commit,
        next_run,
        time,
        scanned_bytes,
        mut unsaved,
        ends,
        cold,
        restored,
        salt,
        ..
    } = replay(disk, &mut on_disk, settings.vital)?;
    for unfinished in names.iter().filter(|name| name.starts_with(FETCHED)) {
        disk.remove(unfinished)?;
    }
    for (file, markers) in restored {
        let file = disk.open(&file.name())?;
        markers.iter().try_for_each(|marker| file.write_all_at(&marker.bytes, marker.at as u64))?;
        file.sync()?;
    }
    unsaved.retain(|(_, index)| !index.is_empty());
    for partition in partitions.values_mut() {
        partition.recent.clear();
    }
    let highest_run = on_disk.iter().filter(|file| file.is_run()).map(|file| file.number() + 1).max();
    Ok(Found {
        partitions,
        next_commit,
        next_run: next_run.max(highest_run.unwrap_or(1)),
        // A log keeps the one that it has.
        salt: salt.filter(|salt| *salt != 0).unwrap_or(settings.salt),
        time,
        on_disk,
        cold: cold.into_values().collect(),
        unsaved,
        scanned_bytes,
        ends,
    })
}

/// What a log holds, as a start would find it.
pub struct Seen {
    pub partitions: HashMap<PartitionId, Partition>,
    pub next_commit: u64,
    /// The journals that were scanned, with the length of what counts in them.
    pub ends: Vec<(FileId, u64)>,
    pub cold: BTreeMap<FileId, ColdFile>,
}

/// Reads as a start of the broker does and writes nothing.
pub fn look<D: Disk>(disk: &D) -> Result<Seen, LogError> {
    let mut on_disk = disk.list()?.iter().filter_map(|name| FileId::parse(name)).collect();
    let vital = Some(crate::BROKER_STATE);
    let Replay { partitions, next_commit, ends, cold, .. } = replay(disk, &mut on_disk, vital)?;
    Ok(Seen { partitions, next_commit, ends, cold })
}

/// Adds to `on_disk` what is in the cold store.
fn replay<'a, D: Disk>(
    disk: &'a D,
    on_disk: &mut BTreeSet<FileId>,
    vital: Option<PartitionId>,
) -> Result<Replay<'a, D>, LogError> {
    let journals: Vec<FileId> = on_disk.iter().copied().filter(|file| !file.is_run()).collect();
    let mut replay = Replay::new(disk, vital);
    replay.run(&journals)?;
    on_disk.extend(replay.cold.keys());
    name_missing(&mut replay.partitions, on_disk);
    Ok(replay)
}

/// Batches in files that are not there are damage, too, until the files are back.
fn name_missing(partitions: &mut HashMap<PartitionId, Partition>, on_disk: &BTreeSet<FileId>) {
    for partition in partitions.values_mut() {
        partition.damage.retain(|damage| damage.cause != Cause::MissingFile);
        let missing = partition.extents.iter().filter(|extent| !on_disk.contains(&extent.file));
        let missing = missing.map(|extent| Damage {
            first: extent.first,
            last: extent.last,
            file: extent.file,
            cause: Cause::MissingFile,
        });
        let missing: Vec<Damage> = missing.collect();
        partition.damage.extend(missing);
    }
}

struct Replay<'a, D: Disk> {
    disk: &'a D,
    partitions: HashMap<PartitionId, Partition>,
    next_commit: u64,
    next_run: u64,
    time: TimestampMs,
    scanned_bytes: u64,
    unsaved: Vec<(FileId, FileIndex)>,
    cold: BTreeMap<FileId, ColdFile>,
    /// Where scanned journals end.
    ends: Vec<(FileId, u64)>,
    /// Partitions that a lost part of the log may have ended.
    deleted: HashSet<PartitionId>,
    /// Markers that the scanned journals had a second copy of.
    restored: Vec<(FileId, Vec<Patch>)>,
    vital: Option<PartitionId>,
    /// Of the newest whole checkpoint; `None` where it has none.
    salt: Option<u64>,
    /// The newest journal that is known to have been on disk.
    noted: Option<u64>,
}

impl<'a, D: Disk> Replay<'a, D> {
    fn new(disk: &'a D, vital: Option<PartitionId>) -> Self {
        Self {
            disk,
            restored: Vec::new(),
            vital,
            salt: None,
            noted: noted_newest(disk),
            partitions: HashMap::new(),
            next_commit: 1,
            next_run: 1,
            time: 0,
            scanned_bytes: 0,
            unsaved: Vec::new(),
            cold: BTreeMap::new(),
            ends: Vec::new(),
            deleted: HashSet::new(),
        }
    }

    fn run(&mut self, journals: &[FileId]) -> Result<(), LogError> {
        let mut from = None;
        for (at, &journal) in journals.iter().enumerate().rev() {
            self.disk.heal(journal)?;
            if let Some(found) = checkpoint_of(self.disk, journal)? {
                from = Some((at, found));
                break;
            }
        }
        let Some((first, (header, checkpoint))) = from else { return self.begin_anew(journals) };
        self.next_commit = header.sequence;
        self.salt = header.has_salt().then_some(header.salt);
        self.next_run = checkpoint.next_run;
        self.time = checkpoint.time;
        self.cold = checkpoint.cold.iter().map(|cold| (cold.file, *cold)).collect();
        for state in checkpoint.partitions {
            let id = PartitionId { topic_id: state.topic_id, partition: state.partition };
            self.partitions.insert(id, Partition::restored(state));
        }
        let mut skip = header.len();
        for &journal in &journals[first..] {
            self.scan(journal, skip)?;
            skip = 0;
        }
        Ok(())
    }

    /// Behind commits that nobody can read: what they held of the vital partition is damage.
    fn name_lost(&mut self, journal: FileId, entries: &[Entry<'_>]) {
        let stated = entries.iter().find_map(|entry| match entry {
            Entry::Vital(end) => Some(*end),
            _ => None,
        });
        let (Some(id), Some(stated)) = (self.vital, stated) else { return };
        let partition = self.partitions.entry(id).or_default();
        if stated > partition.end {
            lost(partition, partition.end, stated - 1, journal, Cause::LostCommit);
        }
    }

    /// Whether another file begins as this journal should. (Of a journal that was not on disk yet, that may
    /// be a file that was to be used again as this one, under the name that it had before.)
    fn is_elsewhere(&self, journal: FileId) -> io::Result<bool> {
        for name in self.disk.list()? {
            if FileId::parse(&name).is_none_or(|other| other == journal) {
                continue;
            }
            let file = self.disk.open(&name)?;
            let mut begins = [0; HEADER];
            if file.len()? >= HEADER as u64 {
                file.read_exact_at(&mut begins, 0)?;
            }
            if FrameHeader::parse(&begins, journal).is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tells of what was made up for below `end`, and keeps the markers, which go back to where they belong.
    /// Heads do not: whoever needs one makes it up again, and both sides of a mirror keep what they have.
    fn restored(&mut self, journal: FileId, heads: &[Patch], mut markers: Vec<Patch>, end: usize) {
        markers.retain(|marker| marker.at < end);
        for patch in heads.iter().filter(|head| head.at < end).chain(&markers) {
            tracing::warn!(
                file = %journal.name(), position = patch.at, bytes = patch.bytes.len(),
                "part of a commit is damaged; the log has it twice, so nothing is lost"
            );
        }
        if !markers.is_empty() {
            self.restored.push((journal, markers));
        }
    }

    /// No checkpoint: a first start that was cut short, or nothing can be known.
    fn begin_anew(&mut self, journals: &[FileId]) -> Result<(), LogError> {
        match journals {
            [] => Ok(()),
            [only] if only.number() == 1 && !self.holds_frames(*only)? => Ok(()),
            [.., last] => Err(LogError::Corrupt {
                file: last.name(),
                position: 0,
                reason: "neither it nor a journal before it begins with a whole checkpoint",
            }),
        }
    }

    fn holds_frames(&self, journal: FileId) -> io::Result<bool> {
        let bytes = read_file(&self.disk.open(&journal.name())?)?;
        Ok(frame::first(&bytes, journal).is_some())
    }

    fn scan(&mut self, journal: FileId, skip: usize) -> Result<(), LogError> {
        let mut bytes = read_file(&self.disk.open(&journal.name())?)?;
        self.scanned_bytes += bytes.len() as u64;
        let salt = self.salt.or_else(|| frame::first(&bytes, journal).map(|(_, header)| header.salt));
        let salt = salt.unwrap_or_default();
        let heads = redundancy::restore_heads(&mut bytes, skip, journal, salt);
        let markers = redundancy::restore_markers(&mut bytes, skip, journal, salt);
        let frames = frames(&bytes, skip, journal, salt);
        if frames.is_empty()
            && (frame::holds_later_of_another(&bytes, journal, self.next_commit)
                || (skip == 0 && self.noted >= Some(journal.number()) && self.is_elsewhere(journal)?))
        {
            return Err(LogError::Corrupt {
                file: journal.name(),
                position: 0,
                reason: "it holds commits of another file: files have changed places",
            });
        }
        let on_disk = frames.iter().map(|(_, header)| header.synced).max().unwrap_or(0);
        let mut index = FileIndex::new();
        let mut end = skip;
        for (at, header) in frames {
            let frame = &bytes[at..at + header.len()];
            let entries = frame::entries(frame, &header);
            if matches!(entries.as_deref(), Some([Entry::Checkpoint(_)])) {
                end = end.max(at + header.len());
                continue;
            }
            let was_on_disk = header.sequence <= on_disk && !planted::is(Bug::CutAtDamage);
            let gap = header.sequence > self.next_commit && self.next_commit > on_disk;
            let Some(entries) = entries.filter(|_| header.sequence >= self.next_commit && !gap) else {
                break;
            };
            let whole = planted::is(Bug::TrustTornBatches) || is_whole(frame, &entries);
            if !whole && !was_on_disk {
                break;
            }
            if header.sequence > self.next_commit {
                tracing::error!(
                    file = %journal.name(), from = self.next_commit, to = header.sequence,
                    "commits are damaged beyond reading: offsets that later commits show to be missing are refused, and a partition of which none speaks may end earlier than it did"
                );
                self.name_lost(journal, &entries);
            }
            self.frame(journal, at, frame, header.sequence, entries, &mut index)?;
            self.next_commit = header.sequence + 1;
            end = at + header.len();
        }
        if frame::begins_frame(bytes.get(end..).unwrap_or_default(), journal) {
            tracing::warn!(
                file = %journal.name(), position = end, commit = self.next_commit,
                "a commit that is not whole is cut off, with what follows it; nothing shows that it was ever on disk"
            );
        }
        self.restored(journal, &heads, markers, end);
        self.ends.push((journal, end as u64));
        self.unsaved.push((journal, index));
        Ok(())
    }

    fn frame(
        &mut self,
        journal: FileId,
        at: usize,
        frame: &[u8],
        commit: u64,
        entries: Vec<Entry<'_>>,
        index: &mut FileIndex,
    ) -> Result<(), LogError> {
        let mut changes = Vec::new();
        for entry in &entries {
            if let Entry::Change(bytes) = entry {
                changes.push(postcard::from_bytes::<Change>(bytes).map_err(|_| LogError::Corrupt {
                    file: journal.name(),
                    position: at as u64,
                    reason: "a change that this build cannot read",
                })?);
            }
        }
        for change in &changes {
            if let Change::Create { id } = change
                && !self.deleted.contains(id)
            {
                self.partitions.entry(*id).or_default();
            }
        }
        for entry in entries {
            if let Entry::Run { id, lines } = entry {
                let places = self.run_of(journal, id, &lines, frame, at, commit);
                index.entry(id).or_default().extend(places);
            }
        }
        changes.into_iter().for_each(|change| self.change(change));
        Ok(())
    }

    /// Applies the batches of one partition; returns the places of those that are whole.
    fn run_of(
        &mut self,
        journal: FileId,
        id: PartitionId,
        lines: &[Line],
        frame: &[u8],
        at: usize,
        commit: u64,
    ) -> Vec<BatchPlace> {
        let mut places = Vec::with_capacity(lines.len());
        // The partition was created in a commit that is damaged.
        let partition = self.partitions.entry(id).or_default();
        for line in lines {
            if line.base_offset > partition.end {
                lost(partition, partition.end, line.base_offset - 1, journal, Cause::LostCommit);
            }
            let checked = match planted::is(Bug::TrustTornBatches) {
                true => unchecked(frame, line, at as u64),
                false => line.check(frame, at as u64),
            };
            match checked {
                Some((header, place)) => {
                    let bytes = &frame[line.at..line.at + line.size as usize];
                    if self.vital == Some(id) {
                        // The broker stamps its own records; the checkpoint may be of long ago.
                        self.time = self.time.max(header.max_timestamp);
                    }
                    partition.stage(&header, commit, self.time);
                    partition.commit(&header, journal, place, marker(&header, bytes));
                    places.push(place);
                }
                None => lost(partition, line.base_offset, line.last_offset, journal, Cause::Checksum),
            }
        }
        let log_start = partition.log_start;
        partition.delete_before(log_start);
        places
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Create { .. } => {}
            Change::Cool(cold) => drop(self.cold.insert(cold.file, cold)),
            Change::Delete { id } => {
                self.partitions.remove(&id);
                self.deleted.insert(id);
            }
            Change::LogStart { id, offset } => {
                if let Some(partition) = self.partitions.get_mut(&id) {
                    partition.delete_before(offset);
                    // There was so much, also where nobody can read the commits that held it: what comes next is not
                    // below the start.
                    partition.end = partition.end.max(offset);
                    partition.next = partition.next.max(offset);
                }
            }
            Change::Move(moved) => {
                for extent in &moved.extents {
                    self.next_run = self.next_run.max(extent.file.number() + 1);
                }
                if let Some(partition) = self.partitions.get_mut(&moved.id) {
                    partition.moved(&moved);
                }
            }
        }
    }
}

/// Names offsets that were in a file and cannot be read, at the end of a partition.
fn lost(partition: &mut Partition, first: Offset, last: Offset, file: FileId, cause: Cause) {
    partition.damage.push(Damage { first, last, file, cause });
    partition.end = last + 1;
    partition.next = partition.end;
}

fn is_whole(frame: &[u8], entries: &[Entry<'_>]) -> bool {
    entries.iter().all(|entry| match entry {
        Entry::Run { lines, .. } => lines.iter().all(|line| line.check(frame, 0).is_some()),
        _ => true,
    })
}

fn unchecked(frame: &[u8], line: &Line, at: u64) -> Option<(headwater_wire::BatchHeader, BatchPlace)> {
    let header = headwater_wire::BatchHeader::read(&frame[line.at..]).ok()?;
    Some((header, BatchPlace { crc: line.crc, ..BatchPlace::new(&header, at + line.at as u64) }))
}

/// The index of a file, from the file: what its directories say, for batches that are as they were written.
pub fn rebuild<D: Disk>(disk: &D, file: FileId) -> io::Result<FileIndex> {
    Ok(survey(&read_file(&disk.open(&file.name())?)?, file).0)
}

/// The index of a file, and the batches that are not as they were written and have no copy.
pub fn survey(bytes: &[u8], file: FileId) -> (FileIndex, Vec<(PartitionId, Damage)>) {
    let (mut index, mut damage) = (FileIndex::new(), Vec::new());
    let Some((_, first)) = frame::first(bytes, file) else { return (index, damage) };
    let bytes = &*redundancy::with_all(bytes, file, first.salt);
    for (at, header) in frames(bytes, 0, file, first.salt) {
        let frame = &bytes[at..at + header.len()];
        for entry in frame::entries(frame, &header).unwrap_or_default() {
            let Entry::Run { id, lines } = entry else { continue };
            for line in lines {
                match line.check(frame, at as u64) {
                    Some((_, place)) => index.entry(id).or_default().push(place),
                    None => damage.push((id, unlike(&line, file))),
                }
            }
        }
    }
    (index, damage)
}

fn unlike(line: &Line, file: FileId) -> Damage {
    Damage { first: line.base_offset, last: line.last_offset, file, cause: Cause::Checksum }
}

/// Where the last frame of a file ends; what is behind it is not the file's.
pub fn end_of_frames(bytes: &[u8], file: FileId) -> usize {
    let Some((_, first)) = frame::first(bytes, file) else { return 0 };
    frames(bytes, 0, file, first.salt).last().map_or(0, |(at, header)| at + header.len())
}
