//! Writing a run: batches that are copied out of other files, partition by partition, in the same frames
//! as a journal's. A run is known to nobody until a commit installs it; until then a crash leaves a file
//! that the next start removes.

use std::io;
use std::sync::Arc;

use headwater_wire::BatchHeader;

use crate::PartitionId;
use crate::disk::{Disk, DiskFile};
use crate::frame::{Directory, FrameOf};
use crate::index::FileIndex;
use crate::log::Shared;
use crate::place::{BatchPlace, Extent, FileId};
use crate::planted::{self, Bug};

/// A frame is closed when it has grown to so much.
const FRAME_BYTES: usize = 1 << 20;
/// A commit that comes meanwhile waits for so much.
const SYNC_BYTES: usize = 256 << 10;

/// A run that is being written; the file goes again unless it is finished.
pub struct RunWriter<D: Disk> {
    shared: Arc<Shared<D>>,
    file: FileId,
    handle: Arc<D::File>,
    position: u64,
    synced: u64,
    sequence: u64,
    /// The frame being filled: one partition's batches.
    id: Option<PartitionId>,
    headers: Vec<BatchHeader>,
    body: Vec<u8>,
    index: FileIndex,
    finished: bool,
}

impl<D: Disk> Drop for RunWriter<D> {
    /// Nobody knows of a file that was not finished, so it goes.
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.shared.disk.remove(&self.file.name());
        }
    }
}

impl<D: Disk> RunWriter<D> {
    pub(crate) fn create(shared: &Arc<Shared<D>>, number: u64) -> io::Result<Self> {
        let file = FileId::run(number);
        let handle = Arc::new(shared.disk.create(&file.name())?);
        Ok(Self {
            shared: Arc::clone(shared),
            file,
            handle,
            position: 0,
            synced: 0,
            sequence: 1,
            id: None,
            headers: Vec::new(),
            body: Vec::new(),
            index: FileIndex::new(),
            finished: false,
        })
    }

    pub fn bytes(&self) -> u64 {
        self.position + self.body.len() as u64
    }

    /// Adds a batch with its final offsets; those of one partition come together, in offset order.
    pub fn push(&mut self, id: PartitionId, batch: &[u8]) -> Result<(), crate::LogError> {
        let header = BatchHeader::read(batch)?;
        if self.id != Some(id) || self.body.len() >= FRAME_BYTES {
            self.flush()?;
            self.id = Some(id);
        }
        self.headers.push(header);
        self.body.extend_from_slice(&batch[..header.size]);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(id) = self.id.filter(|_| !self.headers.is_empty()) else { return Ok(()) };
        let mut directory = Directory::default();
        directory.run(id, self.headers.iter());
        let mut frame = Vec::with_capacity(directory.frame_len());
        let of = FrameOf {
            file: self.file,
            salt: self.shared.salt,
            sequence: self.sequence,
            synced: self.sequence,
        };
        directory.write(of, &mut frame);
        frame.extend_from_slice(&self.body);
        self.write(&frame)?;
        let mut at = self.position + directory.body_at() as u64;
        let places = self.index.entry(id).or_default();
        for header in self.headers.drain(..) {
            places.push(BatchPlace::new(&header, at));
            at += header.size as u64;
        }
        self.position = at;
        self.sequence += 1;
        self.body.clear();
        Ok(())
    }

    /// Many small syncs disturb the commits of others less than a large one.
    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        let mut at = self.position;
        for piece in frame.chunks(SYNC_BYTES) {
            self.handle.write_all_at(piece, at)?;
            at += piece.len() as u64;
            if at - self.synced >= SYNC_BYTES as u64 {
                self.handle.sync()?;
                self.synced = at;
            }
        }
        Ok(())
    }

    /// Writes what was added, and holds no memory for more.
    pub fn rest(&mut self) -> io::Result<()> {
        self.flush()?;
        self.body = Vec::new();
        Ok(())
    }

    /// The file is on disk with its index; returns each partition's extent in it.
    pub fn finish(mut self) -> Result<Vec<(PartitionId, Extent)>, crate::LogError> {
        self.flush()?;
        if !planted::is(Bug::SkipRunFlush) {
            self.handle.sync()?;
            self.shared.disk.sync_directory()?;
        }
        self.shared.indexes.pin(self.file, &self.index);
        if crate::index::save(&*self.shared.disk, self.file, &self.index).is_ok() {
            self.shared.indexes.unpin(self.file);
        }
        self.shared.files.put(self.file, Arc::clone(&self.handle));
        self.finished = true;
        let extents = self.index.iter();
        let extents = extents.filter_map(|(id, places)| Some((*id, Extent::over(self.file, places, true)?)));
        Ok(extents.collect())
    }
}
