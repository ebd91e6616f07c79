//! Backups of a log that is being written, moved, cooled and restarted meanwhile: what comes back is what
//! the model showed at some commit between the begin and the end of the backup.

mod cut;
mod damage;
mod meanwhile;
mod support;
mod taken;
