//! The start of a mirrored log: what each side says is judged, and marked before anything is written.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::disk::MirroredDisk;
use super::judge::{MirrorError, Verdict, judge};
use super::marker::{self, Found, Marker, Role};
use super::pair::{Epochs, Pair};
use super::standing::Beside;
use crate::disk::{Disk, DiskFile};
use crate::log::lock;
use crate::ownership::OWNER;
use crate::place::FileId;
use crate::recovery::read_file;

/// One of two disks: how messages call it, and the disk or why there is none.
pub struct Side<D> {
    pub name: String,
    pub disk: Result<D, String>,
}

/// How a log is mirrored.
pub struct Mirroring {
    /// A side that fails ends writing; otherwise the log goes on with the other.
    pub required: bool,
    /// What epochs are drawn from; never the same twice.
    pub seed: u64,
    pub beside: Arc<dyn Beside>,
}

fn failed(name: &str) -> impl Fn(io::Error) -> MirrorError {
    let name = name.to_owned();
    move |error| MirrorError::Io { name: name.clone(), reason: error.to_string() }
}

impl<D: Disk> MirroredDisk<D> {
    /// A log that is not mirrored, or not any more: then it notes that it goes on alone.
    ///
    /// # Errors
    /// `Incomplete`, and those of the disk.
    pub fn unmirrored(disk: D, name: &str, seed: u64) -> Result<Self, MirrorError> {
        match Found::on(&disk) {
            Found::Marked(marker) if marker.role == Role::Filling => {
                return Err(MirrorError::Incomplete { name: name.to_owned() });
            }
            Found::Marked(marker) if marker.role == Role::Alone && marker.pairing.is_none() => {}
            Found::Marked(marker) => {
                marker::write(&disk, &marker.alone(Epochs(seed).draw())).map_err(failed(name))?;
            }
            Found::Illegible => {
                marker::write(&disk, &Marker::new(Epochs(seed).draw(), Role::Alone)).map_err(failed(name))?;
            }
            Found::Blank | Found::Unmarked | Found::Absent(_) => {}
        }
        Ok(Self::single(disk))
    }

    /// Both sides of a log; what one lacks is found out and marked before this returns.
    ///
    /// # Errors
    /// When going on would believe a side that is behind, or lose what only one has.
    pub fn open(sides: [Side<D>; 2], mirroring: Mirroring) -> Result<Self, MirrorError> {
        let names = sides.each_ref().map(|side| side.name.clone());
        let found = sides.each_ref().map(|side| match &side.disk {
            Ok(disk) => Found::on(disk),
            Err(reason) => Found::Absent(reason.clone()),
        });
        let verdict = judge(found, &names)?;
        let disks = sides.map(|side| side.disk.ok().map(Arc::new));
        let mut pair = Pair::new(disks, names, mirroring.beside);
        pair.required = mirroring.required;
        lock(&pair.state).epochs = Epochs(mirroring.seed);
        pair.begin(verdict)?;
        Ok(Self { pair: Arc::new(pair) })
    }
}

impl<D: Disk> Pair<D> {
    fn begin(&mut self, verdict: Verdict) -> Result<(), MirrorError> {
        match verdict {
            Verdict::Begin => {
                let marker = Marker::new(lock(&self.state).epochs.draw(), Role::Paired);
                for side in 0..2 {
                    self.mark(side, &marker)?;
                }
                lock(&self.state).marker = Some(marker);
            }
            Verdict::Alike(marker) => {
                lock(&self.state).marker = Some(marker);
                self.find_missing()?;
            }
            // A disk that is not mounted looks like an empty one.
            Verdict::Fill { from, known: Some(known) } if self.required && known.role == Role::Paired => {
                let reason = "it is empty or behind, and the other directory says that both held everything";
                let name = self.names[1 - from].clone();
                return Err(MirrorError::Required { name, reason: reason.to_owned() });
            }
            Verdict::Fill { from, known } => self.begin_fill(from, known)?,
            Verdict::Alone { side, known, reason } => {
                if self.required {
                    return Err(MirrorError::Required { name: self.names[1 - side].clone(), reason });
                }
                self.go_on_alone(side, known)?;
                tracing::error!(
                    side = self.names[1 - side], %reason,
                    "one side of the mirror cannot be used; the log goes on with the other"
                );
                self.set_disk(1 - side, None);
                self.give_up(1 - side, reason);
            }
        }
        Ok(())
    }

    fn mark(&self, side: usize, marker: &Marker) -> Result<(), MirrorError> {
        let Some(disk) = self.any_disk(side) else { return Ok(()) };
        marker::write(&*disk, marker).map_err(failed(&self.names[side]))
    }

    /// From here on the other side is behind, whatever it says of itself.
    fn go_on_alone(&self, side: usize, known: Option<Marker>) -> Result<(), MirrorError> {
        let mut state = lock(&self.state);
        let epoch = state.epochs.draw();
        let marker = match known {
            Some(marker) if marker.role == Role::Alone && marker.pairing.is_none() => marker,
            Some(marker) => marker.alone(epoch),
            None => Marker::new(epoch, Role::Alone),
        };
        self.mark(side, &marker)?;
        state.marker = Some(marker);
        Ok(())
    }

    /// The other side is not read any more, and stays as it is until the log goes on: what the leading one holds
    /// may yet turn out to be nothing that a log can be opened from.
    fn begin_fill(&self, from: usize, known: Option<Marker>) -> Result<(), MirrorError> {
        self.go_on_alone(from, known)?;
        self.begin_filling(1 - from);
        *lock(&self.copy_at_start) = Some(1 - from);
        Ok(())
    }

    /// The side that is behind becomes a copy that nobody believes until it is complete. Of its files those stay
    /// that the leading side has, too: they are compared, and often the same.
    pub fn begin_copy_at_start(&self) -> io::Result<()> {
        let Some(to) = lock(&self.copy_at_start).take() else { return Ok(()) };
        let (Some(lead), Some(disk)) = (self.any_disk(1 - to), self.any_disk(to)) else { return Ok(()) };
        match self.begin_copy(&lead, &disk) {
            Ok(files) => tracing::warn!(
                side = self.names[to],
                from = self.names[1 - to],
                files,
                "one side of the mirror is empty or behind; it is filled from the other while the log serves"
            ),
            Err(error) => self.lose(to, error)?,
        }
        Ok(())
    }

    /// Marks a disk as one that is being filled, and removes what does not belong there.
    pub fn begin_copy(&self, lead: &D, disk: &D) -> io::Result<usize> {
        let epoch = lock(&self.state).epochs.draw();
        marker::write(disk, &Marker::new(epoch, Role::Filling))?;
        let kept: BTreeSet<String> =
            lead.list()?.into_iter().filter(|name| FileId::parse(name).is_some()).collect();
        let surplus = disk.list()?.into_iter().filter(|name| name != marker::MARKER && !kept.contains(name));
        surplus.into_iter().try_for_each(|name| disk.remove(&name))?;
        copy_owner(lead, disk)?;
        disk.sync_directory()?;
        Ok(kept.len())
    }

    fn find_missing(&self) -> Result<(), MirrorError> {
        let mut files = [BTreeSet::new(), BTreeSet::new()];
        for (side, files) in files.iter_mut().enumerate() {
            let Some(disk) = self.any_disk(side) else { continue };
            let names = disk.list().map_err(failed(&self.names[side]))?;
            files.extend(names.iter().filter_map(|name| FileId::parse(name)));
        }
        let mut state = lock(&self.state);
        for side in 0..2 {
            let missing = files[1 - side].difference(&files[side]).map(|file| (side, *file));
            state.missing.extend(missing);
        }
        Ok(())
    }
}

/// Either side alone is to be known to the cold store.
fn copy_owner<D: Disk>(lead: &D, disk: &D) -> io::Result<()> {
    let owner = match lead.open(OWNER) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => read_file(&opened?)?,
    };
    let copy = disk.create(OWNER)?;
    copy.write_all_at(&owner, 0)?;
    copy.sync()
}
