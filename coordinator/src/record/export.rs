//! Writes a record from a coordinator's state, also while another process serves from it.
//!
//! What is written is walked through before it is signed: a record that would not verify is not made.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use consilium_proto::{
    provenance::{BILL, MANIFEST},
    roster::{revocation_file, successor},
    wire::SignedReleaseHead,
};
use prost::Message as _;
use thiserror::Error;

use super::{
    LOG, PLAN, ROSTER, START,
    contents::{CONTENTS, Contents, SIGNATURE, measure, walk},
    frames, head_path, input_path, sum_path,
    verify::{self, Broken},
};
use crate::{
    config::Loaded,
    files::{self, FileError},
    round::Event,
    store::{InputLayout, Store as _, StoreError, StoreView, StoredJob},
};

/// Why no record was written.
#[derive(Debug, Error)]
pub enum ExportError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder cannot be written.
    #[error("{}: {source}; give a folder that does not exist yet, on a disk with room", path.display())]
    Folder {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store holds what does not verify.
    #[error(
        "the state does not make a record that holds: {0}; do not go on with it, and look for what changed it"
    )]
    Broken(#[from] Broken),
}

/// What was written.
#[derive(Debug)]
pub struct Exported {
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Entries of the log.
    pub entries: u64,
    /// Releases.
    pub releases: usize,
    /// Releases whose masked inputs are in it.
    pub with_inputs: u32,
}

/// Writes the record of a job into a new folder. `inputs`: with the masked inputs that are still kept.
///
/// # Errors
///
/// [`ExportError`]; a folder that was begun is left for inspection, without its list of contents.
pub fn export(loaded: &Loaded, out: &Path, inputs: bool) -> Result<Exported, ExportError> {
    let (roster, plan) = (&*loaded.roster, &*loaded.plan);
    let job = StoredJob { plan: plan.digest(), input: InputLayout::of_plan(plan.derived()) };
    let store = StoreView::open(&loaded.state, &job)?;
    fs::create_dir(out).map_err(|source| ExportError::Folder { path: out.to_owned(), source })?;
    let record = Record { out };
    record.copy(&loaded.documents.roster, ROSTER)?;
    for version in 2..=roster.version() {
        let name = successor(Path::new(ROSTER), version);
        record.copy(&successor(&loaded.documents.roster, version), &name.to_string_lossy())?;
    }
    let revoked = revocation_file(&loaded.documents.roster);
    if revoked.exists() {
        record.plain_copy(&revoked, &revocation_file(Path::new(ROSTER)).to_string_lossy())?;
    }
    record.copy(&loaded.documents.plan, PLAN)?;
    if plan.document().adapter.start.is_some() {
        record.plain_copy(&loaded.documents.start(), START)?;
    }
    record.write(LOG, &log(&store)?)?;
    let mut with_inputs = 0;
    for round in store.releases_from(1)? {
        let Some(row) = store.release(round)? else { continue };
        let head = SignedReleaseHead { head: row.head, signature: row.signature };
        record.write(&head_path(round), &head.encode_to_vec())?;
        record.write(&sum_path(round), &row.sum)?;
        if inputs {
            let head = consilium_proto::release::VerifiedHead::verify(&head, roster, plan)
                .map_err(|e| verify::broken(head_path(round), e))?;
            with_inputs += u32::from(record.inputs(&store, &job, round, &head)?);
        }
    }
    let mut contents = record.listed()?;
    let walked = verify::walk_through(out, &contents, roster, plan)?;
    let facts = walked.facts(roster, plan, verify::spent(plan, walked.debited)?);
    for (path, value) in [(MANIFEST, facts.manifest()), (BILL, facts.bill())] {
        // Unwrap safety: strings and numbers serialize.
        let text = serde_json::to_string_pretty(&value).unwrap_or_default() + "\n";
        record.write(path, text.as_bytes())?;
    }
    contents = record.listed()?;
    record.write(CONTENTS, contents.to_text().as_bytes())?;
    record.write(SIGNATURE, contents.sign(roster, plan, loaded.identity.signing_key()).as_bytes())?;
    let bytes = contents.paths().filter_map(|path| contents.get(path)).map(|listed| listed.bytes).sum();
    Ok(Exported {
        files: contents.len() + 2,
        bytes,
        entries: walked.log.sequence,
        releases: walked.releases.len(),
        with_inputs,
    })
}

/// All entries of the log that stand in the store's events.
fn log(store: &StoreView) -> Result<Vec<u8>, ExportError> {
    let mut bytes = Vec::new();
    store.replay(&mut |record| {
        if matches!(record.kind.as_str(), "released" | "failed" | "logged" | "returned" | "seen") {
            let event = Event::decode(&record.kind, &record.body)
                .map_err(|error| StoreError::Event { sequence: record.sequence, source: Box::new(error) })?;
            if let Some(entry) = event.logged() {
                frames::write(entry, &mut bytes);
            }
        }
        Ok(())
    })?;
    Ok(bytes)
}

/// The folder that is being written.
struct Record<'a> {
    out: &'a Path,
}

impl Record<'_> {
    fn failed(&self, name: &str) -> impl Fn(std::io::Error) -> ExportError {
        let path = self.out.join(name);
        move |source| ExportError::Folder { path: path.clone(), source }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), ExportError> {
        let path = self.out.join(name);
        fs::create_dir_all(files::folder_of(&path))
            .and_then(|()| fs::write(&path, bytes))
            .map_err(self.failed(name))
    }

    /// A document and its signatures.
    fn copy(&self, from: &Path, name: &str) -> Result<(), ExportError> {
        self.plain_copy(from, name)?;
        let mut beside = from.as_os_str().to_owned();
        beside.push(".sig");
        self.plain_copy(Path::new(&beside), &format!("{name}.sig"))
    }

    fn plain_copy(&self, from: &Path, name: &str) -> Result<(), ExportError> {
        fs::copy(from, self.out.join(name)).map(drop).map_err(self.failed(name))
    }

    /// The survivors' masked vectors, if all of them are still held; whether they are.
    fn inputs(
        &self,
        store: &StoreView,
        job: &StoredJob,
        round: u32,
        head: &consilium_proto::release::VerifiedHead,
    ) -> Result<bool, ExportError> {
        let chunks = job.input.chunks();
        for id in head.survivors.iter() {
            if store.chunks_held(round, head.attempt, id)? < chunks {
                return Ok(false);
            }
        }
        for id in head.survivors.iter() {
            let name = input_path(round, head.attempt, id.as_str());
            let path = self.out.join(&name);
            fs::create_dir_all(files::folder_of(&path)).map_err(self.failed(&name))?;
            let mut file = fs::File::create(&path).map_err(self.failed(&name))?;
            let mut chunk = Vec::new();
            for index in 0..chunks {
                store.read_chunk(round, head.attempt, id, index, &mut chunk)?;
                file.write_all(&chunk).map_err(self.failed(&name))?;
            }
        }
        Ok(true)
    }

    fn listed(&self) -> Result<Contents, ExportError> {
        let mut contents = Contents::default();
        for path in walk(self.out).map_err(self.failed(""))? {
            let listed = measure(&self.out.join(&path)).map_err(self.failed(&path))?;
            contents.add(path, listed);
        }
        Ok(contents)
    }
}
