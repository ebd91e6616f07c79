//! Chores while the cold store does not answer.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex};

use headwater_log::{ColdStore, Durability, Log, MirroredDisk, Origin, PartitionId, Pieces, RealDisk};
use headwater_wire::{BatchBuilder, Compression};

use super::*;
use crate::LogSettings;

/// Removes nothing before it is told to.
#[derive(Default)]
struct Silent {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    answers: Mutex<bool>,
    told: Condvar,
}

impl ColdStore for Silent {
    fn put(&self, name: &str, pieces: Pieces<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        while let Some(piece) = pieces()? {
            bytes.extend(piece);
        }
        self.objects.lock().unwrap().insert(name.to_owned(), bytes);
        Ok(())
    }

    fn put_new(&self, name: &str, bytes: Vec<u8>) -> io::Result<bool> {
        let mut objects = self.objects.lock().unwrap();
        let is_new = !objects.contains_key(name);
        objects.entry(name.to_owned()).or_insert(bytes);
        Ok(is_new)
    }

    fn get(&self, name: &str) -> io::Result<Vec<u8>> {
        let found = self.objects.lock().unwrap().get(name).cloned();
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn get_range(&self, name: &str, from: u64, length: usize) -> io::Result<Vec<u8>> {
        let (bytes, from) = (self.get(name)?, from as usize);
        Ok(bytes[from..(from + length).min(bytes.len())].to_vec())
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        let answers = self.answers.lock().unwrap();
        drop(self.told.wait_while(answers, |answers| !*answers).unwrap());
        self.objects.lock().unwrap().remove(name);
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.objects.lock().unwrap().keys().cloned().collect())
    }

    fn size(&self, name: &str) -> io::Result<Option<u64>> {
        Ok(self.objects.lock().unwrap().get(name).map(|bytes| bytes.len() as u64))
    }
}

fn commit(log: &mut Log<LogDisk>) {
    let (ticket, outcome) = log.begin_commit().unwrap().run();
    log.end_commit(ticket, outcome).unwrap();
}

/// A topic is deleted of which a part is in a store that is away: the other part goes from the disk.
#[test]
fn a_store_that_does_not_answer_holds_up_no_other_chore() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Silent::default());
    let settings = LogSettings { segment_bytes: 16 << 10, spares: 0, ..LogSettings::default() };
    let disk = Arc::new(MirroredDisk::single(RealDisk::new(dir.path())));
    let cold: Arc<dyn ColdStore> = store.clone();
    let mut log = Log::open_with(disk, settings, Some(cold)).unwrap();
    let id = PartitionId { topic_id: [7; 16], partition: 0 };
    log.create_partition(id).unwrap();
    for _ in 0..20 {
        let mut builder = BatchBuilder::new();
        builder.push(0, None, Some(&[b'x'; 4 << 10]), &[]);
        let batch = builder.build(Compression::None, None, false).unwrap();
        log.append(id, &batch, Origin::Broker, Durability::Synced, 0).unwrap();
        commit(&mut log);
    }
    let reader = log.reader();
    reader.claim_cold_store(1).unwrap();
    let extents = reader.usage(id).unwrap().extents;
    let (first, second) = (extents[0], extents[1]);
    log.cool(reader.upload(first.file).unwrap()).unwrap();
    commit(&mut log);
    for chore in log.take_chores() {
        chore.run().unwrap();
    }
    log.delete_before(id, second.last + 1).unwrap();
    commit(&mut log);
    let (commands, _inbox) = mpsc::channel();
    let (chores, tidying) = start_chores(commands, Arc::default()).unwrap();
    for chore in log.take_chores() {
        assert!(chores.send(chore).is_ok());
    }
    let local = dir.path().join(second.file.name());
    let deadline = Instant::now() + Duration::from_secs(20);
    while local.exists() {
        assert!(Instant::now() < deadline, "it waits for the store");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(store.objects.lock().unwrap().contains_key(&first.file.name()), "it was not asked in vain");
    drop(chores);
    *store.answers.lock().unwrap() = true;
    store.told.notify_all();
    tidying.join().unwrap();
}
