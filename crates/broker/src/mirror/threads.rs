//! Threads that sync one side while the caller syncs the other.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use headwater_log::Beside;

type Task = Box<dyn FnOnce() + Send>;

/// Threads that sync one side while the caller syncs the other. Each waits to be used again.
#[derive(Default)]
pub struct SideThreads {
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
