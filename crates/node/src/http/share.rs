//! What one client may have of something that all share, so that nobody takes all of it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use headwater_model::Principal;
use tokio::sync::Semaphore;

/// Clients are forgotten when they hold nothing; looked for when there are more than this.
const MANY: usize = 1024;

/// Whose share it is: the principal's, or of those whom nobody knows, the machine's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sender(String);

impl Sender {
    pub fn new(principal: &Principal, host: IpAddr) -> Self {
        match *principal == Principal::anonymous() {
            true => Self(host.to_canonical().to_string()),
            false => Self(principal.to_string()),
        }
    }
}

pub struct Shares {
    /// How much each client may have.
    each: usize,
    clients: Mutex<HashMap<Sender, Weak<Semaphore>>>,
}

impl Shares {
    pub fn new(each: usize) -> Self {
        Self { each, clients: Mutex::default() }
    }

    pub fn of(&self, sender: Sender) -> Arc<Semaphore> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() > MANY {
            clients.retain(|_, share| share.strong_count() > 0);
        }
        let known = clients.get(&sender).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let share = Arc::new(Semaphore::new(self.each));
            clients.insert(sender, Arc::downgrade(&share));
            share
        })
    }
}
