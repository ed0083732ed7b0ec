//! Masked inputs in files: one per round, attempt and organization, in `inputs/round-R-attempt-A/ORG.chunks`.
//!
//! A file is a row of frames: a chunk, then the CRC-32 of its place and bytes, four bytes, little-endian. All chunks but
//! the last have one length, so a frame's offset follows from its index, and reading is one `pread` (a mapped page would
//! count as resident memory). What a crash leaves behind the last sound frame is cut off by the next write. The CRC finds
//! accidents (a torn write, a block of zeros after a power cut, a failing disk), not forgery: that is what the digests in
//! each client's signed header are for.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs::{File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use consilium_proto::ids::Id;

use super::{InputLayout, StoreError};
use crate::files::{folder_of, sync_folder};

const CRC_BYTES: usize = 4;

type Key = (u32, u32, Id);

/// The files of one store.
pub(super) struct Inputs {
    /// The store's folder.
    place: PathBuf,
    folder: PathBuf,
    layout: InputLayout,
    /// Sound chunks by input, once they have been counted.
    held: RefCell<BTreeMap<Key, u32>>,
    /// Attempts with a file whose name is not durable yet.
    unnamed: BTreeSet<(u32, u32)>,
}

impl Inputs {
    pub(super) fn open(place: &Path, layout: InputLayout) -> Result<Self, StoreError> {
        let inputs = Self::view(place, layout);
        std::fs::create_dir_all(&inputs.folder).map_err(|e| inputs.wrong(&inputs.folder, "written", e))?;
        Ok(inputs)
    }

    /// To be read from only.
    pub(super) fn view(place: &Path, layout: InputLayout) -> Self {
        let (place, folder) = (place.to_owned(), place.join("inputs"));
        Self { place, folder, layout, held: RefCell::default(), unnamed: BTreeSet::new() }
    }

    fn wrong(&self, path: &Path, doing: &'static str, source: io::Error) -> StoreError {
        StoreError::io(&self.place, path, doing, source)
    }

    fn attempt_folder(&self, round: u32, attempt: u32) -> PathBuf {
        self.folder.join(format!("round-{round}-attempt-{attempt}"))
    }

    /// An id is `[a-z0-9-]`: a plain file name.
    fn path(&self, (round, attempt, org): &Key) -> PathBuf {
        self.attempt_folder(*round, *attempt).join(format!("{org}.chunks"))
    }

    fn offset(&self, index: u32) -> u64 {
        u64::from(index) * (self.layout.chunk_bytes() as u64 + CRC_BYTES as u64)
    }

    pub(super) fn put(&mut self, key: Key, index: u32, bytes: &[u8]) -> Result<(), StoreError> {
        let held = self.held(&key)?;
        let (round, attempt, org) = key.clone();
        if index > held {
            return Err(StoreError::ChunkOrder { org, round, attempt, expected: held, got: index });
        }
        let expected = self.layout.chunk_len(index).unwrap_or(0);
        if bytes.len() != expected || expected == 0 {
            return Err(StoreError::ChunkLength { org, index, expected, got: bytes.len() });
        }
        if index < held {
            let mut before = Vec::new();
            self.read(&key, index, &mut before)?;
            return if before == bytes { Ok(()) } else { Err(StoreError::ChunkConflict { org, index }) };
        }
        let path = self.path(&key);
        let offset = self.offset(index);
        let file = self.writable(&key, &path)?;
        // Whatever is behind the last sound frame is what a crash or a full disk left of another write.
        let frame = [bytes, &crc(&key, index, bytes).to_le_bytes()].concat();
        file.set_len(offset)
            .and_then(|()| file.write_all_at(&frame, offset))
            .map_err(|e| self.wrong(&path, "written", e))?;
        self.held.get_mut().insert(key, held + 1);
        Ok(())
    }

    fn writable(&mut self, key: &Key, path: &Path) -> Result<File, StoreError> {
        let open = || OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let fresh = !path.exists();
        let file = match open() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                std::fs::create_dir_all(folder_of(path)).and_then(|()| open())
            }
            other => other,
        };
        if fresh {
            self.unnamed.insert((key.0, key.1));
        }
        file.map_err(|e| self.wrong(path, "written", e))
    }

    pub(super) fn held(&self, key: &Key) -> Result<u32, StoreError> {
        if let Some(held) = self.held.borrow().get(key) {
            return Ok(*held);
        }
        let held = self.count(key)?;
        self.held.borrow_mut().insert(key.clone(), held);
        Ok(held)
    }

    /// Counts sound frames from the first: after a crash, what was synced is sound and what was not may be anything.
    fn count(&self, key: &Key) -> Result<u32, StoreError> {
        let path = self.path(key);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(self.wrong(&path, "opened", error)),
        };
        let mut frame = Vec::new();
        for index in 0..self.layout.chunks() {
            match self.frame(&file, key, index, &mut frame) {
                Ok(true) => {}
                Ok(false) => return Ok(index),
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(index),
                Err(error) => return Err(self.wrong(&path, "read", error)),
            }
        }
        Ok(self.layout.chunks())
    }

    /// Reads a chunk; false if its CRC is another.
    fn frame(&self, file: &File, key: &Key, index: u32, out: &mut Vec<u8>) -> io::Result<bool> {
        let length = self.layout.chunk_len(index).ok_or(ErrorKind::UnexpectedEof)?;
        out.clear();
        out.resize(length + CRC_BYTES, 0);
        file.read_exact_at(out, self.offset(index))?;
        let tail = out.split_off(length);
        Ok(tail == crc(key, index, out).to_le_bytes())
    }

    pub(super) fn read(&self, key: &Key, index: u32, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let held = self.held(key)?;
        let (round, attempt, org) = key;
        if index >= held {
            let (round, attempt) = (*round, *attempt);
            return Err(StoreError::ChunkMissing { org: org.clone(), round, attempt, index, held });
        }
        let path = self.path(key);
        let file = File::open(&path).map_err(|e| self.wrong(&path, "opened", e))?;
        match self.frame(&file, key, index, out) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.damaged(&path, index)),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(self.damaged(&path, index)),
            Err(error) => Err(self.wrong(&path, "read", error)),
        }
    }

    fn damaged(&self, path: &Path, index: u32) -> StoreError {
        StoreError::Corrupt {
            what: format!("{}, chunk {index}: its bytes are not what was written", path.display()),
        }
    }

    pub(super) fn sync(&mut self, key: &Key) -> Result<(), StoreError> {
        let path = self.path(key);
        match File::open(&path) {
            Ok(file) => file.sync_all().map_err(|e| self.wrong(&path, "synced", e))?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.wrong(&path, "opened", error)),
        }
        if self.unnamed.contains(&(key.0, key.1)) {
            for folder in [folder_of(&path), &self.folder] {
                sync_folder(folder).map_err(|e| self.wrong(folder, "synced", e))?;
            }
            self.unnamed.remove(&(key.0, key.1));
        }
        Ok(())
    }

    pub(super) fn drop_attempt(&mut self, round: u32, attempt: u32) -> Result<(), StoreError> {
        let folder = self.attempt_folder(round, attempt);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(self.wrong(&folder, "removed", error));
            }
            _ => {}
        }
        self.held.get_mut().retain(|(r, a, _), _| (*r, *a) != (round, attempt));
        self.unnamed.remove(&(round, attempt));
        Ok(())
    }
}

/// Over the chunk's place and bytes, so that a frame of another input or index is not sound here.
fn crc((round, attempt, org): &Key, index: u32, bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for number in [*round, *attempt, index] {
        crc.update(&number.to_le_bytes());
    }
    crc.update(&[u8::try_from(org.as_str().len()).unwrap_or(u8::MAX)]);
    crc.update(org.as_str().as_bytes());
    crc.update(bytes);
    crc.finalize()
}
