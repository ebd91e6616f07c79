//! The data directory and its mirror, `headwater.mirror.dir`: both are claimed, belong to one cluster, and
//! become one disk of the log. A thread fills the one that lacks something.
//!
//! The mirror is a whole data directory: a broker can be started on it alone.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use headwater_log::{
    Beside, Filled, MirrorError, MirroredDisk, MirroredFile, Mirroring, Reader, RealDisk, Side,
};

use crate::directory::{self, Directory};
use crate::{Config, StartError};

/// The disk of the log, mirrored or not, and a file on it.
pub type LogDisk = MirroredDisk<RealDisk>;
pub type LogFile = MirroredFile<RealDisk>;

/// How often it is looked whether something is missing on one side.
const LOOK: Duration = Duration::from_secs(10);

/// The directories of the broker, which are its own until this is dropped.
pub struct Home {
    pub data: Directory,
    pub disk: LogDisk,
    _mirror: Option<Directory>,
}

impl Home {
    pub fn claim(config: &Config) -> Result<Self, StartError> {
        let seed = uuid::Uuid::new_v4().as_u64_pair().0;
        let name = config.data_dir.display().to_string();
        let Some(mirror_dir) = &config.mirror_dir else {
            let data = Directory::claim(&config.data_dir)?;
            let disk = MirroredDisk::unmirrored(RealDisk::new(&data.log), &name, seed)?;
            return Ok(Self { data, disk, _mirror: None });
        };
        let mirror_name = mirror_dir.display().to_string();
        let same = |other: &Path| {
            fs::canonicalize(other).is_ok_and(|other| fs::canonicalize(mirror_dir).ok() == Some(other))
        };
        if mirror_dir == &config.data_dir || same(&config.data_dir) {
            return Err(StartError::SameMirror(mirror_dir.clone()));
        }
        let known = directory::cluster_of(mirror_dir);
        let data = match (&known, directory::cluster_of(&config.data_dir)?) {
            (Ok(Some(cluster)), None) => Directory::claim_for(&config.data_dir, Some(cluster))?,
            (Err(error), None) => {
                let reason = error.to_string();
                return Err(MirrorError::Nothing { empty: name, absent: mirror_name, reason }.into());
            }
            _ => Directory::claim(&config.data_dir)?,
        };
        let mirror = match Directory::claim_for(mirror_dir, Some(&data.cluster_id)) {
            Err(
                error @ (StartError::Io { .. } | StartError::ReadOnly { .. } | StartError::NoSpace { .. }),
            ) => Err(error.to_string()),
            claimed => Ok(claimed?),
        };
        if let Ok(mirror) = &mirror {
            same_cluster(config, mirror_dir, &data, mirror)?;
        }
        let on_mirror = mirror.as_ref().map(|mirror| RealDisk::new(&mirror.log)).map_err(Clone::clone);
        let sides =
            [Side { name, disk: Ok(RealDisk::new(&data.log)) }, Side { name: mirror_name, disk: on_mirror }];
        let mirroring =
            Mirroring { required: config.mirror_required, seed, beside: Arc::new(SideThreads::default()) };
        Ok(Self { disk: MirroredDisk::open(sides, mirroring)?, data, _mirror: mirror.ok() })
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

type Task = Box<dyn FnOnce() + Send>;

/// Threads that sync one side while the caller syncs the other. Each waits to be used again.
#[derive(Default)]
struct SideThreads {
    idle: Arc<Mutex<Vec<mpsc::Sender<Task>>>>,
}

impl SideThreads {
    fn thread(&self) -> io::Result<mpsc::Sender<Task>> {
        if let Some(waiting) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(waiting);
        }
        let (tasks, inbox) = mpsc::channel::<Task>();
        let work = move || inbox.into_iter().for_each(|task| task());
        std::thread::Builder::new().name("headwater-side".to_owned()).spawn(work)?;
        Ok(tasks)
    }
}

impl Beside for SideThreads {
    fn begin(&self, work: headwater_log::Work) -> headwater_log::Waiting {
        let (done, outcome) = mpsc::channel();
        let thread = self.thread();
        let task: Task = Box::new(move || drop(done.send(work())));
        match thread.map(|thread| (thread.send(task), thread)) {
            Ok((Ok(()), thread)) => {
                let idle = Arc::clone(&self.idle);
                Box::new(move || {
                    let outcome =
                        outcome.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended")));
                    idle.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
                    outcome
                })
            }
            Ok((Err(mpsc::SendError(task)), _)) => {
                task();
                Box::new(move || outcome.recv().unwrap_or_else(|_| Err(io::Error::other("nothing was done"))))
            }
            Err(error) => Box::new(move || Err(error)),
        }
    }
}

/// The thread that fills a side; it ends with this value.
pub struct Filler {
    stop: Option<mpsc::Sender<()>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Filler {
    pub fn start(reader: Reader<LogDisk>) -> Result<Self, StartError> {
        let (stop, stopped) = mpsc::channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&stopping);
        let work = move || loop {
            fill(&reader, &stops);
            if !matches!(stopped.recv_timeout(LOOK), Err(mpsc::RecvTimeoutError::Timeout)) {
                return;
            }
        };
        let thread = std::thread::Builder::new().name("headwater-mirror".to_owned()).spawn(work);
        Ok(Self { stop: Some(stop), stopping, thread: Some(thread.map_err(StartError::Thread)?) })
    }
}

/// Half of the time is left to others, whatever the disks can do.
fn fill(reader: &Reader<LogDisk>, stopping: &AtomicBool) {
    let mut began = Instant::now();
    let mut pace = |_: usize| {
        std::thread::sleep(began.elapsed().min(Duration::from_millis(50)));
        began = Instant::now();
        !stopping.load(Ordering::Relaxed)
    };
    loop {
        match reader.fill_mirror(&mut pace) {
            Ok(Filled::File) => {}
            Ok(Filled::Nothing | Filled::Stopped) => return,
            Err(error) => {
                tracing::warn!(%error, "the mirror cannot be filled now; it is tried again");
                return;
            }
        }
    }
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
