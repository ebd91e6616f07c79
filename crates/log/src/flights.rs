//! Work on files that is done once for all who want it, a few files at a time.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::log::lock;
use crate::place::FileId;

/// So many files are on their way at once.
pub const AT_ONCE: usize = 4;

#[derive(Default)]
pub struct Flights {
    under_way: Mutex<HashMap<FileId, Arc<Flight>>>,
    taken: Mutex<usize>,
    freed: Condvar,
}

/// An error for each who waited.
type Outcome = Result<(), (ErrorKind, String)>;

#[derive(Default)]
struct Flight {
    outcome: Mutex<Option<Outcome>>,
    ended: Condvar,
}

/// Ends a flight, whatever happens to who does the work.
struct Leading<'a> {
    flights: &'a Flights,
    file: FileId,
    flight: Arc<Flight>,
    outcome: Outcome,
}

fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

impl Flights {
    /// Does the work, or waits for who does it for the same file.
    pub fn join(&self, file: FileId, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut under_way = lock(&self.under_way);
        if let Some(flight) = under_way.get(&file).cloned() {
            drop(under_way);
            return flight.wait();
        }
        let flight = Arc::new(Flight::default());
        under_way.insert(file, Arc::clone(&flight));
        drop(under_way);
        let outcome = Err((ErrorKind::Other, format!("whoever fetched {} panicked", file.name())));
        let mut leading = Leading { flights: self, file, flight, outcome };
        self.take();
        let done = work();
        if let Err(error) = &done {
            leading.outcome = Err((error.kind(), error.to_string()));
        } else {
            leading.outcome = Ok(());
        }
        done
    }

    fn take(&self) {
        let mut taken = lock(&self.taken);
        while *taken >= AT_ONCE {
            taken = wait(&self.freed, taken);
        }
        *taken += 1;
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        *lock(&self.flights.taken) -= 1;
        self.flights.freed.notify_one();
        lock(&self.flights.under_way).remove(&self.file);
        *lock(&self.flight.outcome) = Some(self.outcome.clone());
        self.flight.ended.notify_all();
    }
}

impl Flight {
    fn wait(&self) -> io::Result<()> {
        let mut outcome = lock(&self.outcome);
        loop {
            match &*outcome {
                Some(outcome) => return outcome.clone().map_err(|(kind, text)| io::Error::new(kind, text)),
                None => outcome = wait(&self.ended, outcome),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    /// Sixty-four readers of eight files.
    fn crowd(work: impl Fn() -> io::Result<()> + Sync) -> Vec<io::Result<()>> {
        let flights = Flights::default();
        let gate = std::sync::Barrier::new(64);
        std::thread::scope(|scope| {
            let read = |number: u64| {
                let (flights, gate, work) = (&flights, &gate, &work);
                scope.spawn(move || {
                    gate.wait();
                    flights.join(FileId::run(number % 8), work)
                })
            };
            let readers: Vec<_> = (0..64).map(read).collect();
            readers.into_iter().map(|reader| reader.join().unwrap()).collect()
        })
    }

    #[test]
    fn a_file_is_fetched_once_for_all_and_few_at_a_time() {
        let (fetched, now, most) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let done = crowd(|| {
            fetched.fetch_add(1, Ordering::SeqCst);
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(200));
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        });
        assert!(done.iter().all(Result::is_ok));
        assert_eq!((fetched.into_inner(), most.into_inner()), (8, AT_ONCE));
    }

    #[test]
    fn all_are_told_why_it_did_not_come_and_the_next_one_tries_again() {
        let tried = AtomicUsize::new(0);
        let refused = crowd(|| {
            tried.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(200));
            Err(io::Error::new(ErrorKind::TimedOut, "the store is away"))
        });
        assert_eq!(tried.into_inner(), 8);
        for error in refused {
            let error = error.unwrap_err();
            assert_eq!(
                (error.kind(), error.to_string().as_str()),
                (ErrorKind::TimedOut, "the store is away")
            );
        }
        let flights = Flights::default();
        flights.join(FileId::run(1), || Err(ErrorKind::TimedOut.into())).unwrap_err();
        flights.join(FileId::run(1), || Ok(())).unwrap();
    }

    #[test]
    fn one_that_panics_leaves_nobody_waiting() {
        let flights = Flights::default();
        let panics = std::panic::AssertUnwindSafe(|| flights.join(FileId::run(1), || panic!("on purpose")));
        std::panic::catch_unwind(panics).unwrap_err();
        flights.join(FileId::run(1), || Ok(())).unwrap();
        assert_eq!(*lock(&flights.taken), 0);
    }
}
