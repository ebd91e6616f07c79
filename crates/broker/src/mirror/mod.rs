//! The data directory and its mirror, `headwater.mirror.dir`: both are claimed, belong to one cluster, and
//! become one disk of the log. A thread fills the one that lacks something, and takes one that was lost in again.
//!
//! The mirror is a whole data directory: a broker can be started on it alone.

mod filler;
mod retry;
mod threads;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_log::{MirrorError, MirroredDisk, MirroredFile, Mirroring, RealDisk, Side};

use crate::directory::{self, Directory};
use crate::{Config, StartError};
pub use filler::{Filler, Tools as FillerTools};
pub use retry::{Claims, Retries, Returning};
use threads::SideThreads;

/// The disk of the log, mirrored or not, and a file on it.
pub type LogDisk = MirroredDisk<RealDisk>;
pub type LogFile = MirroredFile<RealDisk>;

/// The directories of the broker, which are its own until this and its claims are dropped.
pub struct Home {
    /// Where the log is, for messages.
    pub log: PathBuf,
    pub cluster_id: String,
    pub disk: LogDisk,
    pub claims: Arc<Claims>,
}

impl Home {
    pub fn claim(config: &Config) -> Result<Self, StartError> {
        let seed = uuid::Uuid::new_v4().as_u64_pair().0;
        let name = config.data_dir.display().to_string();
        let log = directory::log_of(&config.data_dir);
        let Some(mirror_dir) = &config.mirror_dir else {
            if config.mirror_required {
                return Err(StartError::NoMirror);
            }
            let data = Directory::claim(&config.data_dir)?;
            let disk = MirroredDisk::unmirrored(RealDisk::new(&data.log), &name, seed)?;
            let cluster_id = data.cluster_id.clone();
            return Ok(Self { log, cluster_id, disk, claims: Arc::new(Claims::new([Some(data), None])) });
        };
        let sides = claim_both(config, mirror_dir)?;
        let cluster_id =
            sides.iter().flatten().next().map(|side| side.cluster_id.clone()).unwrap_or_default();
        let names = [name, mirror_dir.display().to_string()];
        let disk_of = |side: &Result<Directory, String>| {
            side.as_ref().map(|directory| RealDisk::new(&directory.log)).map_err(Clone::clone)
        };
        let [on_data, on_mirror] = sides.each_ref().map(disk_of);
        let [data_name, mirror_name] = names;
        let disks = [Side { name: data_name, disk: on_data }, Side { name: mirror_name, disk: on_mirror }];
        let mirroring =
            Mirroring { required: config.mirror_required, seed, beside: Arc::new(SideThreads::default()) };
        let disk = MirroredDisk::open(disks, mirroring)?;
        Ok(Self { log, cluster_id, disk, claims: Arc::new(Claims::new(sides.map(Result::ok))) })
    }

    /// Whether a directory has a format that an older build reads.
    pub fn is_older(&self) -> bool {
        (0..2).any(|side| self.claims.is_older(side))
    }

    /// Durably says that this build writes here; to be called before it does, and when nothing is left that
    /// may refuse the start ([`Directory::mark`]).
    pub fn mark(&self) -> Result<(), StartError> {
        for side in self.sides() {
            if let Err(refused) = self.claims.mark(side)
                && self.disk.leave(side, io::Error::other(refused.to_string())).is_err()
            {
                return Err(refused);
            }
        }
        Ok(())
    }

    /// To be called when the log has a journal ([`Directory::note_begun`]). A disk that is full, say, keeps nothing from
    /// serving what is there.
    pub fn note_begun(&self) {
        for side in self.sides() {
            if let Err(error) = self.claims.note_begun(side) {
                tracing::warn!(%error, "that the log has begun is not noted; the next start tries again");
            }
        }
    }

    fn sides(&self) -> impl Iterator<Item = usize> {
        let lost = self.disk.lost_side();
        (0..2).filter(move |side| Some(*side) != lost)
    }
}

/// Both directories, or why one of them cannot be used while the other can.
fn claim_both(config: &Config, mirror_dir: &Path) -> Result<[Result<Directory, String>; 2], StartError> {
    let data_dir = &config.data_dir;
    let same = |other: &Path| {
        fs::canonicalize(other).is_ok_and(|other| fs::canonicalize(mirror_dir).ok() == Some(other))
    };
    if mirror_dir == data_dir || same(data_dir) {
        return Err(StartError::SameMirror(mirror_dir.to_owned()));
    }
    let known = [directory::cluster_of(data_dir), directory::cluster_of(mirror_dir)];
    if let [Ok(None), Err(error)] = &known {
        let (empty, absent) = (data_dir.display().to_string(), mirror_dir.display().to_string());
        return Err(MirrorError::Nothing { empty, absent, reason: error.to_string() }.into());
    }
    let halved = [data_dir.as_path(), mirror_dir].map(directory::refuse_halved);
    // What one of them has lost is filled from the other; what both have lost is lost.
    if let [
        Err(lost @ (StartError::NoLog { .. } | StartError::NoMarker { .. })),
        Err(StartError::NoLog { .. } | StartError::NoMarker { .. }),
    ] = halved
    {
        return Err(lost);
    }
    let of = |side: usize| known[side].as_ref().ok().and_then(Option::as_deref);
    let data = usable(Directory::claim_for(data_dir, of(1)))?;
    if let (Err(reason), None) = (&data, of(1)) {
        let (empty, absent) = (mirror_dir.display().to_string(), data_dir.display().to_string());
        return Err(MirrorError::Nothing { empty, absent, reason: reason.clone() }.into());
    }
    let cluster = data.as_ref().ok().map(|data| data.cluster_id.as_str());
    let mirror = usable(Directory::claim_for(mirror_dir, cluster))?;
    if let (Ok(data), Ok(mirror)) = (&data, &mirror) {
        same_cluster(config, mirror_dir, data, mirror)?;
    }
    Ok([data, mirror])
}

/// What a disk may do to one side; anything else is wrong with both.
fn usable(claimed: Result<Directory, StartError>) -> Result<Result<Directory, String>, StartError> {
    match claimed {
        Err(
            error @ (StartError::Io { .. }
            | StartError::NoDirectory { .. }
            | StartError::ReadOnly { .. }
            | StartError::NoSpace { .. }),
        ) => Ok(Err(error.to_string())),
        claimed => claimed.map(Ok),
    }
}

fn same_cluster(config: &Config, at: &Path, data: &Directory, mirror: &Directory) -> Result<(), StartError> {
    if mirror.cluster_id != data.cluster_id {
        return Err(StartError::OtherMirror {
            directory: config.data_dir.clone(),
            cluster: data.cluster_id.clone(),
            mirror: at.to_owned(),
            mirrored: mirror.cluster_id.clone(),
        });
    }
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev());
    if let (Ok(first), Ok(second)) = (device(&data.log), device(&mirror.log))
        && first == second
    {
        tracing::warn!(
            mirror = %at.display(),
            "the mirror is on the same file system as the data directory: it helps against damage, not against the loss of the disk"
        );
    }
    Ok(())
}

/// A file with these bytes on a disk that is gone when it is closed.
#[cfg(test)]
pub fn file_of(bytes: &[u8]) -> Arc<LogFile> {
    use headwater_log::{Disk, DiskFile};
    let dir = tempfile::tempdir().expect("a directory");
    let file = MirroredDisk::single(RealDisk::new(dir.path())).create("file").expect("a file");
    file.write_all_at(bytes, 0).expect("written");
    Arc::new(file)
}
