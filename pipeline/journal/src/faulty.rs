//! A disk in memory that does what disks do: forgets what was not synced when the power goes, block by block and in any
//! order; runs full; refuses. For tests of a journal and of what stands on one.
//!
//! It is stricter than most file systems: a new file, a removal and a rename are durable only after the folder was
//! synced, and a failed sync forgets what it was to make durable, as Linux does.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fs::{DiskFile, FileSystem, Lock};

/// What a power cut leaves whole.
const SECTOR: usize = 512;

/// What a call fails with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No space is left; half of a write is there.
    NoSpace,
    /// The device refuses; what a sync was to make durable is forgotten.
    Io,
}

impl Fault {
    fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Self::NoSpace => 28,
            Self::Io => 5,
        })
    }
}

/// The disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct FaultyDisk(Arc<Mutex<Disk>>);

#[derive(Debug, Default)]
struct Disk {
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Changes of names since the last sync of the folder.
    changes: Vec<Change>,
    files: Vec<Content>,
    is_locked: bool,
    faults: Option<Faults>,
    capacity: Option<usize>,
}

#[derive(Clone, Debug)]
enum Change {
    Link(PathBuf, usize),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

#[derive(Debug, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Written since the last sync.
    unsynced: Vec<Range<usize>>,
    unreadable: Vec<Range<u64>>,
}

#[derive(Clone, Copy, Debug)]
struct Faults {
    calls_before: u64,
    times: u64,
    fault: Fault,
}

impl FaultyDisk {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After `calls_before` more calls that change something, the next `times` of them fail.
    pub fn fail(&self, calls_before: u64, times: u64, fault: Fault) {
        self.disk().faults = Some(Faults { calls_before, times, fault });
    }

    /// No more failures.
    pub fn heal(&self) {
        self.disk().faults = None;
    }

    /// Bytes that all files together may take; `None` for any number.
    pub fn set_capacity(&self, bytes: Option<usize>) {
        self.disk().capacity = bytes;
    }

    /// Bytes that all files take.
    pub fn bytes(&self) -> usize {
        let disk = self.disk();
        disk.names.values().map(|id| disk.files[*id].now.len()).sum()
    }

    /// The paths of all files.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.disk().names.keys().cloned().collect()
    }

    /// The content of a file.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = self.disk();
        let id = disk.names.get(path)?;
        Some(disk.files[*id].now.clone())
    }

    /// Puts a file there, durably, as another program would.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        let mut disk = self.disk();
        let id = disk.files.len();
        disk.files.push(Content { durable: bytes.clone(), now: bytes, ..Content::default() });
        disk.names.insert(path.to_path_buf(), id);
        disk.durable_names.insert(path.to_path_buf(), id);
    }

    /// Has reads of these bytes of a file fail.
    pub fn set_unreadable(&self, path: &Path, bytes: Range<u64>) {
        let mut disk = self.disk();
        if let Some(id) = disk.names.get(path).copied() {
            disk.files[id].unreadable.push(bytes);
        }
    }

    /// Cuts the power: of what was not synced, `seed` says sector by sector and name by name what is there afterwards.
    pub fn cut_power(&self, seed: u64) {
        let mut random = Random(seed);
        let mut disk = self.disk();
        let disk = &mut *disk;
        for change in std::mem::take(&mut disk.changes) {
            if random.coin() {
                change.apply(&mut disk.durable_names);
            }
        }
        disk.names = disk.durable_names.clone();
        for file in &mut disk.files {
            file.cut_power(&mut random);
        }
        disk.faults = None;
    }
}

impl Change {
    fn apply(self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Link(path, id) => {
                names.insert(path, id);
            }
            Self::Unlink(path) => {
                names.remove(&path);
            }
            Self::Rename(from, to) => {
                if let Some(id) = names.remove(&from) {
                    names.insert(to, id);
                }
            }
        }
    }
}

impl Content {
    fn cut_power(&mut self, random: &mut Random) {
        let longest = self.now.len().max(self.durable.len());
        // The length is metadata: it may be there without the data, or the other way around.
        let len = match random.next() % 3 {
            0 => self.durable.len(),
            1 => longest,
            _ => self.durable.len() + random.below(longest - self.durable.len() + 1),
        };
        let unsynced = std::mem::take(&mut self.unsynced);
        self.durable.resize(len.max(self.durable.len()), 0);
        for range in unsynced {
            let mut at = range.start;
            while at < range.end {
                let to = ((at / SECTOR + 1) * SECTOR).min(range.end);
                let upto = to.min(self.durable.len());
                if random.coin() && at < upto {
                    self.durable[at..upto].copy_from_slice(&self.now[at..upto]);
                }
                at = to;
            }
        }
        self.now.clone_from(&self.durable);
    }
}

impl Disk {
    /// The fault that a call which changes something meets.
    fn fault(&mut self) -> Option<Fault> {
        let faults = self.faults.as_mut()?;
        if faults.calls_before > 0 {
            faults.calls_before -= 1;
            return None;
        }
        let fault = faults.fault;
        faults.times -= 1;
        if faults.times == 0 {
            self.faults = None;
        }
        Some(fault)
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        if let Some(fault) = self.fault() {
            return Err(fault.error());
        }
        change.clone().apply(&mut self.names);
        self.changes.push(change);
        Ok(())
    }

    fn room(&self) -> usize {
        let used: usize = self.names.values().map(|id| self.files[*id].now.len()).sum();
        self.capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(used))
    }
}

impl FileSystem for FaultyDisk {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.disk();
        let inside = disk.names.keys().filter(|path| path.parent() == Some(dir));
        let names = inside.filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
        Ok(names.collect())
    }

    fn lock(&self, _path: &Path) -> io::Result<Option<Lock>> {
        let mut disk = self.disk();
        if disk.is_locked {
            return Ok(None);
        }
        disk.is_locked = true;
        Ok(Some(Box::new(Held(self.clone()))))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let id = self.disk().names.get(path).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Handle { disk: self.clone(), id }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        if let Ok(file) = self.open(path) {
            return Ok(file);
        }
        let mut disk = self.disk();
        let id = disk.files.len();
        disk.change(Change::Link(path.to_path_buf(), id))?;
        disk.files.push(Content::default());
        Ok(Box::new(Handle { disk: self.clone(), id }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        if !disk.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change(Change::Unlink(path.to_path_buf()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk().change(Change::Rename(from.to_path_buf(), to.to_path_buf()))
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        if let Some(fault) = disk.fault() {
            return Err(fault.error());
        }
        disk.changes.clear();
        disk.durable_names = disk.names.clone();
        Ok(())
    }
}

/// The lock; gone when dropped.
struct Held(FaultyDisk);

impl Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.disk().is_locked = false;
    }
}

struct Handle {
    disk: FaultyDisk,
    id: usize,
}

impl Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("id", &self.id).finish_non_exhaustive()
    }
}

impl DiskFile for Handle {
    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.disk().files[self.id].now.len() as u64)
    }

    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let disk = self.disk.disk();
        let file = &disk.files[self.id];
        let rest = file.now.get(offset as usize..).unwrap_or_default();
        let n = rest.len().min(out.len());
        let wanted = offset..offset + n as u64;
        if file.unreadable.iter().any(|bad| bad.start < wanted.end && wanted.start < bad.end) {
            return Err(Fault::Io.error());
        }
        out[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.disk.disk();
        let mut fault = disk.fault();
        let end = offset as usize + bytes.len();
        let growth = end.saturating_sub(disk.files[self.id].now.len());
        if growth > disk.room() {
            fault = Some(Fault::NoSpace);
        }
        let n = match fault {
            None => bytes.len(),
            Some(Fault::NoSpace) => (bytes.len() - growth.min(bytes.len())) / 2,
            Some(Fault::Io) => 0,
        };
        let file = &mut disk.files[self.id];
        let range = offset as usize..offset as usize + n;
        if n > 0 {
            file.now.resize(file.now.len().max(range.end), 0);
            file.now[range.clone()].copy_from_slice(&bytes[..n]);
            file.unsynced.push(range);
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut disk = self.disk.disk();
        if let Some(fault) = disk.fault() {
            return Err(fault.error());
        }
        let file = &mut disk.files[self.id];
        file.now.truncate(len as usize);
        let end = file.now.len();
        file.unsynced.iter_mut().for_each(|range| range.end = range.end.min(end));
        file.unsynced.retain(|range| range.start < range.end);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk.disk();
        let fault = disk.fault();
        let file = &mut disk.files[self.id];
        let unsynced = std::mem::take(&mut file.unsynced);
        if let Some(fault) = fault {
            // The pages count as clean from now on, so they may go from memory at any time: here at once.
            for at in unsynced.into_iter().flatten() {
                file.now[at] = file.durable.get(at).copied().unwrap_or(0);
            }
            return Err(fault.error());
        }
        for range in unsynced {
            let len = file.durable.len().max(range.end);
            file.durable.resize(len, 0);
            file.durable[range.clone()].copy_from_slice(&file.now[range]);
        }
        file.durable.truncate(file.now.len());
        Ok(())
    }
}

/// SplitMix64: a seed is a run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}
