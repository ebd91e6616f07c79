//! What the cleaner asks of the engine.

use super::Clean;
use super::held::Reply;
use super::worker::Worker;

impl Worker {
    pub(super) fn clean(&mut self, clean: Clean) {
        match clean {
            Clean::RunNumber(reply) => drop(reply.send(self.log.take_run_number())),
            Clean::Install { moves, reply } => {
                for moved in moves {
                    if let Err(error) = self.log.install(moved) {
                        self.fence(&error);
                    }
                }
                self.hold(Reply::Installed(reply));
            }
            Clean::Cool { cold, reply } => {
                if let Err(error) = self.log.cool(cold) {
                    self.fence(&error);
                }
                self.hold(Reply::Installed(reply));
            }
            Clean::Roll => self.log.roll(),
        }
    }
}
