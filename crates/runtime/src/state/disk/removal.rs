//! Removing stores, so that their disk space is free again.
//!
//! Invariant: whenever a kill or a loss of power comes, a store that is made again under the same name has neither an entry nor
//! a position of the one that was removed.

use fjall::{AbstractTree, KeyspaceCreateOptions, PersistMode};
use headwater_streams::StoreError;

use super::{DiskStores, SMALLEST_MEMTABLE};

/// Keyspaces that hold nothing: one of them is newer than any that was removed.
const NEWEST: [&str; 2] = ["newest.0", "newest.1"];

impl DiskStores {
    /// The names of all stores, with a position or without.
    pub(in crate::state) fn names(&self) -> Vec<String> {
        self.database.list_keyspace_names().iter().map(ToString::to_string).collect()
    }

    /// Removes stores that nobody has open; returns the bytes that their files had.
    pub(in crate::state) fn remove(&self, names: &[String]) -> Result<u64, StoreError> {
        names.iter().try_for_each(|name| self.forget_position(name))?;
        let all = names.join(" ");
        // On the disk, too: after a loss of power an empty store with a position would pass for one that lacks nothing.
        let persisted = self.database.persist(PersistMode::SyncAll);
        persisted.map_err(self.damage.failed("forget the position of", &all))?;
        self.make_newest().map_err(self.damage.failed("remove", &all))?;
        let mut bytes = 0;
        for name in names {
            let failed = || self.damage.failed("remove", name);
            let keyspace = self.keyspace(name)?.keyspace;
            bytes += keyspace.disk_space();
            // The database keeps files open that it has read, and they would take their space until it ends. It closes those of
            // tables that were dropped.
            keyspace.tree.drop_range::<&[u8], _>(..).map_err(fjall::Error::from).map_err(failed())?;
            self.database.delete_keyspace(keyspace).map_err(failed())?;
        }
        Ok(bytes)
    }

    /// That a keyspace is gone is noted under its number. A start gives numbers anew from behind the highest that is in use, and a
    /// keyspace that got one of those that are gone would be taken for gone itself. So a higher one is always in use.
    fn make_newest(&self) -> Result<(), fjall::Error> {
        let small = || KeyspaceCreateOptions::default().max_memtable_size(SMALLEST_MEMTABLE);
        let [first, second] = NEWEST;
        if self.database.keyspace_exists(first) && self.database.keyspace_exists(second) {
            let one = self.database.keyspace(first, small)?;
            let other = self.database.keyspace(second, small)?;
            self.database.delete_keyspace(if one.id() < other.id() { one } else { other })?;
        }
        let missing = if self.database.keyspace_exists(first) { second } else { first };
        self.database.keyspace(missing, small)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use headwater_model::Bytes;
    use headwater_streams::TaskId;

    use crate::state::{Budget, Entry, StateDir, StoreId, StoreWrite, Stores};

    /// So many entries become a table.
    const ROWS: usize = 200;
    const BUDGET: Budget =
        Budget { cache_bytes: 1 << 20, write_buffer_bytes: 4 << 20, stores: 4, table_from: ROWS };
    const TASK: TaskId = TaskId { subtopology: 1, partition: 2 };

    fn rows(count: usize) -> Vec<Entry> {
        let row = |number: usize| {
            (Bytes::from(format!("key-{number}")), Some(Bytes::from(format!("row-{number}"))))
        };
        (0..count).map(row).collect()
    }

    fn write(id: &StoreId, count: usize, position: Option<i64>) -> StoreWrite {
        StoreWrite { id: id.clone(), entries: rows(count).into(), position }
    }

    fn get(stores: &Stores, id: &StoreId, number: usize) -> Option<Bytes> {
        stores.open(id).unwrap().get(format!("key-{number}").as_bytes()).unwrap()
    }

    fn on_disk(folder: &Path) -> (StateDir, Stores) {
        let directory = StateDir::open(folder, "app").unwrap();
        let stores = Stores::on_disk(&directory, BUDGET).unwrap();
        (directory, stores)
    }

    fn check(stores: &Stores) {
        let neighbour = TaskId { partition: 20, ..TASK };
        let (counts, names, other) =
            (StoreId::new(TASK, "counts"), StoreId::new(TASK, "names"), StoreId::new(neighbour, "counts"));
        stores.load(vec![write(&counts, ROWS, Some(7)), write(&names, 1, None)]).unwrap();
        stores.load(vec![write(&other, ROWS, Some(3))]).unwrap();
        assert_eq!(stores.tasks(), [TASK, neighbour]);
        let bytes = stores.disk_bytes();
        let removed = stores.remove(TASK).unwrap();
        assert_eq!(removed.stores, 2);
        assert!(removed.bytes == 0 || stores.disk_bytes() < bytes, "{removed:?}");
        assert_eq!((stores.tasks(), stores.held().unwrap()), (vec![neighbour], vec![neighbour]));
        assert_eq!((stores.position(&counts).unwrap(), stores.written_at(&counts).unwrap()), (None, None));
        assert_eq!((get(stores, &counts, 0), get(stores, &names, 0)), (None, None), "it begins anew");
        assert_eq!(get(stores, &other, 1), Some(Bytes::from("row-1")));
        assert_eq!(stores.position(&other).unwrap(), Some(3));
    }

    #[test]
    fn the_stores_of_a_task_are_removed_and_no_others_in_memory_and_on_disk() {
        check(&Stores::in_memory());
        let folder = tempfile::tempdir().unwrap();
        let (_directory, stores) = on_disk(folder.path());
        check(&stores);
    }

    #[test]
    fn what_reads_a_store_while_it_is_removed_reads_on() {
        let folder = tempfile::tempdir().unwrap();
        let (_directory, stores) = on_disk(folder.path());
        let id = StoreId::new(TASK, "counts");
        stores.load(vec![write(&id, ROWS, Some(7))]).unwrap();
        let view = stores.view(&id).unwrap();
        stores.remove(TASK).unwrap();
        assert_eq!(view.get(b"key-1").unwrap(), Some(Bytes::from("row-1")));
        assert_eq!(get(&stores, &id, 1), None);
    }

    /// Whether the process has a file open that is not in its folder any more.
    #[cfg(target_os = "linux")]
    fn holds_deleted(folder: &Path) -> bool {
        let open = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
        let mut files = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        files.any(|file| file.starts_with(folder) && file.to_string_lossy().ends_with(" (deleted)"))
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_disk_has_the_space_of_what_was_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (_directory, stores) = on_disk(folder.path());
        let id = StoreId::new(TASK, "counts");
        stores.load(vec![write(&id, ROWS, Some(7))]).unwrap();
        assert!(get(&stores, &id, 1).is_some(), "its file was read, so it is open");
        let kept = folder.path().join("app/stores/keyspaces");
        let keyspaces = || std::fs::read_dir(&kept).unwrap().count();
        let before = keyspaces();
        assert!(stores.remove(TASK).unwrap().bytes > 0);
        // The one that is the newest has come for it. A thread of the database may still be looking at it.
        let begun = std::time::Instant::now();
        while keyspaces() > before || holds_deleted(folder.path()) {
            assert!(begun.elapsed().as_secs() < 60, "{} keyspaces of {before}", keyspaces());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    #[test]
    fn what_is_made_after_a_removal_and_a_restart_stays() {
        let folder = tempfile::tempdir().unwrap();
        let id = StoreId::new(TASK, "counts");
        for round in 0..4 {
            {
                let (_directory, stores) = on_disk(folder.path());
                // Nothing of it is in the journal, which would keep its number from being given again.
                stores.load(vec![write(&id, ROWS, None)]).unwrap();
                assert_eq!(stores.remove(TASK).unwrap().stores, 1);
            }
            {
                let (_directory, stores) = on_disk(folder.path());
                assert_eq!((stores.position(&id).unwrap(), get(&stores, &id, 1)), (None, None));
                stores.load(vec![write(&id, ROWS, Some(round))]).unwrap();
            }
            for _ in 0..2 {
                let (_directory, stores) = on_disk(folder.path());
                assert_eq!(stores.position(&id).unwrap(), Some(round));
                assert_eq!(get(&stores, &id, 1), Some(Bytes::from("row-1")), "round {round}");
            }
        }
    }
}
