//! The thread that fills a side which lacks something, and brings back one that was lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use headwater_log::{Filled, Reader, Standing};

use super::LogDisk;
use super::retry::Returning;
use crate::StartError;
use crate::engine::Engine;

/// How often it is looked whether something is missing on one side.
const LOOK: Duration = Duration::from_secs(1);

/// The thread; it ends with this value.
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

/// What the thread works with.
pub struct Tools {
    pub disk: LogDisk,
    pub reader: Reader<LogDisk>,
    pub engine: Engine,
    pub returning: Returning,
}

impl Filler {
    pub fn start(mut tools: Tools) -> Result<Self, StartError> {
        let (stop, stopped) = mpsc::channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&stopping);
        let work = move || loop {
            let wait = tools.look(&stops);
            if !matches!(stopped.recv_timeout(wait), Err(mpsc::RecvTimeoutError::Timeout)) {
                return;
            }
        };
        let thread = std::thread::Builder::new().name("headwater-mirror".to_owned()).spawn(work);
        Ok(Self { stop: Some(stop), stopping, thread: Some(thread.map_err(StartError::Thread)?) })
    }
}

impl Tools {
    /// Does what there is to do. Returns when to look again.
    fn look(&mut self, stopping: &AtomicBool) -> Duration {
        if let Some(side) = self.disk.lost_side() {
            if self.returning.begins(side) {
                // Nothing holds files on a disk that is to be taken out.
                self.let_go();
            }
            match self.returning.attempt(side, &self.disk) {
                Some(wait) => return wait.min(LOOK),
                None => self.let_go(),
            }
        }
        fill(&self.reader, stopping);
        if self.disk.standing() == Standing::Both {
            self.returning.holds();
        }
        LOOK
    }

    /// A new journal is open on the sides that are there, and old files are opened again when they are read.
    fn let_go(&self) {
        self.engine.roll();
        self.reader.close_files();
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
