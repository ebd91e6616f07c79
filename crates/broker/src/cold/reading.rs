//! Files on their way back from the cold store, for readers that are tasks.
//!
//! A fetch takes as long as the store does, and thousands may wait for one. They wait as tasks and hold no
//! thread: each file is fetched once for all of them, [`FETCHES_AT_ONCE`] files at a time, and what a fetch
//! has in memory is taken from the memory that requests and answers share.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater_log::{COLD_PIECE, FETCHES_AT_ONCE, FileId, Reader};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use crate::memory::{Memory, Share};
use crate::mirror::LogDisk;

/// How often files are brought for one request: they may have gone again before they were read.
const ROUNDS: usize = 3;

/// A piece of a file, and what the store's client has of it.
pub const TRANSFER_BYTES: usize = 2 * COLD_PIECE;

type Fetch = dyn Fn(FileId) -> io::Result<()> + Send + Sync;
/// Whether a file has come, once that is known.
type Arrival = watch::Receiver<Option<bool>>;
type Arrivals = Arc<Mutex<HashMap<FileId, Arrival>>>;

pub struct ColdReads {
    fetch: Arc<Fetch>,
    memory: Arc<Memory>,
    slots: Arc<Semaphore>,
    runtime: Handle,
    arrivals: Arrivals,
}

fn locked(arrivals: &Arrivals) -> MutexGuard<'_, HashMap<FileId, Arrival>> {
    arrivals.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ColdReads {
    pub fn new(reader: Reader<LogDisk>, memory: Arc<Memory>, runtime: Handle) -> Self {
        Self::by(Arc::new(move |file| reader.fetch(file)), memory, runtime)
    }

    fn by(fetch: Arc<Fetch>, memory: Arc<Memory>, runtime: Handle) -> Self {
        let slots = Arc::new(Semaphore::new(FETCHES_AT_ONCE));
        Self { fetch, memory, slots, runtime, arrivals: Arrivals::default() }
    }

    /// Has a file brought, unless it is on its way, and waits for nothing.
    pub fn begin(&self, file: FileId) -> Arrival {
        let mut arrivals = locked(&self.arrivals);
        if let Some(arrival) = arrivals.get(&file) {
            return arrival.clone();
        }
        let (told, arrival) = watch::channel(None);
        arrivals.insert(file, arrival.clone());
        drop(arrivals);
        let (fetch, memory) = (Arc::clone(&self.fetch), Arc::clone(&self.memory));
        let (slots, arrivals) = (Arc::clone(&self.slots), Arc::clone(&self.arrivals));
        self.runtime.spawn(async move {
            let _slot = slots.acquire_owned().await;
            let mut share = Share::default();
            memory.extend(&mut share, TRANSFER_BYTES).await;
            let fetched = tokio::task::spawn_blocking(move || fetch(file)).await;
            let fetched = fetched.unwrap_or_else(|panic| Err(io::Error::other(panic)));
            if let Err(error) = &fetched {
                tracing::error!(file = %file.name(), %error, "a file cannot be brought back from the cold store");
            }
            locked(&arrivals).remove(&file);
            let _ = told.send(Some(fetched.is_ok()));
        });
        arrival
    }

    /// Has files brought, and waits for them; whether all have come.
    pub async fn bring(&self, files: &[FileId]) -> bool {
        let arrivals: Vec<Arrival> = files.iter().map(|file| self.begin(*file)).collect();
        let mut all = true;
        for mut arrival in arrivals {
            // A runtime that ends tells nothing.
            all &= arrival.wait_for(Option::is_some).await.is_ok_and(|came| *came == Some(true));
        }
        all
    }

    /// Looks for something on a thread that may wait for the disk, and again when files that it needed have
    /// come. `look` returns what it found and those files.
    ///
    /// # Errors
    /// When it panicked.
    pub async fn reading<T: Send + 'static>(
        &self,
        look: impl Fn() -> (T, Vec<FileId>) + Send + Sync + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        let look = Arc::new(look);
        let mut round = 0;
        loop {
            let looks = Arc::clone(&look);
            let (found, far) = tokio::task::spawn_blocking(move || looks()).await?;
            round += 1;
            if far.is_empty() || round > ROUNDS || !self.bring(&far).await {
                return Ok(found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    /// A store that answers when it is told to.
    #[derive(Default)]
    struct Store {
        open: Mutex<bool>,
        opened: Condvar,
        asked: AtomicUsize,
        now: AtomicUsize,
        most: AtomicUsize,
    }

    impl Store {
        fn fetch(&self, file: FileId) -> io::Result<()> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let open = self.open.lock().unwrap();
            drop(self.opened.wait_while(open, |open| !*open).unwrap());
            self.now.fetch_sub(1, Ordering::SeqCst);
            if file == FileId::run(7) { Err(io::Error::other("it is lost")) } else { Ok(()) }
        }

        fn open(&self) {
            *self.open.lock().unwrap() = true;
            self.opened.notify_all();
        }
    }

    fn reads(store: &Arc<Store>, memory: &Arc<Memory>) -> Arc<ColdReads> {
        let store = Arc::clone(store);
        let fetch = Arc::new(move |file| store.fetch(file));
        Arc::new(ColdReads::by(fetch, Arc::clone(memory), Handle::current()))
    }

    /// With less threads than readers, while the store does not answer.
    #[test]
    fn readers_that_wait_hold_no_threads_and_a_file_is_fetched_once() {
        let threads = FETCHES_AT_ONCE + 1;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(threads)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (store, memory) = (Arc::<Store>::default(), Arc::new(Memory::new(256 << 20)));
            let reads = reads(&store, &memory);
            let mut readers = tokio::task::JoinSet::new();
            let looked = Arc::new(AtomicUsize::new(0));
            for number in 0..1000 {
                let (reads, looked) = (Arc::clone(&reads), Arc::clone(&looked));
                readers.spawn(async move {
                    let file = FileId::run(number % 10);
                    let looks = AtomicUsize::new(0);
                    // Far at the first look, here at the second.
                    let look = move || {
                        looked.fetch_add(1, Ordering::SeqCst);
                        match looks.fetch_add(1, Ordering::SeqCst) {
                            0 => (false, vec![file]),
                            _ => (true, Vec::new()),
                        }
                    };
                    reads.reading(look).await.unwrap()
                });
            }
            let all_wait = || {
                store.now.load(Ordering::SeqCst) == FETCHES_AT_ONCE && looked.load(Ordering::SeqCst) == 1000
            };
            while !all_wait() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let other = tokio::task::spawn_blocking(|| "others go on");
            let other = tokio::time::timeout(Duration::from_secs(20), other).await;
            assert_eq!(other.expect("a thread is free").unwrap(), "others go on");
            assert_eq!(memory.used(), FETCHES_AT_ONCE * TRANSFER_BYTES, "what is fetched is accounted for");
            store.open();
            let found = readers.join_all().await;
            assert_eq!(found.iter().filter(|found| **found).count(), 900, "all but those of the lost file");
            assert_eq!(store.most.load(Ordering::SeqCst), FETCHES_AT_ONCE);
            assert_eq!(memory.used(), 0);
            let asked = store.asked.load(Ordering::SeqCst);
            assert!((10..100).contains(&asked), "{asked} fetches for 1000 readers of ten files");
        });
    }
}
