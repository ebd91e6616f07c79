//! What happens while a file is being made.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use headwater_log::{Disk, FileId, Filled, InTurn, Log, MirroredDisk, Mirroring, Side, SimDisk, Standing};

use super::{SETTINGS, append_one, id};

type Hook = Box<dyn Fn(&str) + Send + Sync>;

/// How long a filler is given to do what it must not.
const TEMPTATION: Duration = Duration::from_millis(300);

/// A disk that calls somebody as soon as it has a file by a new name.
#[derive(Clone)]
struct Watched {
    disk: SimDisk,
    made: Arc<Mutex<Option<Hook>>>,
}

impl Watched {
    fn new(disk: SimDisk) -> Self {
        Self { disk, made: Arc::default() }
    }

    fn watch(&self, hook: Option<Hook>) {
        *self.made.lock().expect("a hook") = hook;
    }

    fn tell(&self, name: &str) {
        if let Some(hook) = &*self.made.lock().expect("a hook") {
            hook(name);
        }
    }
}

impl Disk for Watched {
    type File = <SimDisk as Disk>::File;

    fn create(&self, name: &str) -> io::Result<Self::File> {
        let made = self.disk.create(name)?;
        self.tell(name);
        Ok(made)
    }

    fn open(&self, name: &str) -> io::Result<Self::File> {
        self.disk.open(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)?;
        self.tell(to);
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.disk.sync_directory()
    }
}

/// A side is filled at the moment when the other has a journal by name, and it has not; panics when that journal is
/// copied then. `begin` is the first thing that the filling thread does.
pub fn filling_amid_creation(begin: fn()) {
    let (lead, other) = (Watched::new(SimDisk::new()), SimDisk::new());
    let mut log = Log::open(Arc::new(MirroredDisk::single(lead.clone())), SETTINGS).expect("it opens");
    log.create_partition(id(0)).expect("created");
    append_one(&mut log, id(0), "before there were two");
    drop(log);

    let side = |name: &str, disk: Watched| Side { name: name.to_owned(), disk: Ok(disk) };
    let mirroring = Mirroring { required: false, seed: 1, beside: Arc::new(InTurn) };
    let sides = [side("0", lead.clone()), side("1", Watched::new(other.clone()))];
    let disks = MirroredDisk::open(sides, mirroring).expect("the mirror opens");
    let standing = disks.clone();
    let mut log = Log::open(Arc::new(disks), SETTINGS).expect("it opens");
    // What is there already is copied, and it is not said yet that nothing is missing.
    while matches!(standing.standing(), Standing::Filling { files_left: 1.., .. }) {
        assert_eq!(log.reader().fill_mirror(&mut |_| true).expect("filled"), Filled::File);
    }

    let copied = Arc::new(AtomicBool::new(false));
    let (reader, noted, looked_at) = (log.reader(), Arc::clone(&copied), other.clone());
    lead.watch(Some(Box::new(move |name| {
        if FileId::parse(name).is_none_or(|file| file.is_run()) {
            return;
        }
        let reader = reader.clone();
        let filler = std::thread::spawn(move || {
            begin();
            while matches!(reader.fill_mirror(&mut |_| true), Ok(Filled::File)) {}
        });
        let begun = Instant::now();
        let is_copied =
            || looked_at.list().is_ok_and(|names| names.iter().any(|name| name.starts_with("fill-")));
        while begun.elapsed() < TEMPTATION && !filler.is_finished() && !is_copied() {
            std::thread::sleep(Duration::from_millis(1));
        }
        noted.fetch_or(is_copied(), Ordering::Relaxed);
    })));
    log.roll();
    append_one(&mut log, id(0), "in a new journal");
    lead.watch(None);
    assert!(!copied.load(Ordering::Relaxed), "a journal is copied while it is made");
}
