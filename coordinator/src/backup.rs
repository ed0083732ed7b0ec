//! Backups of a coordinator's state: made while it serves, verified anywhere, restored into an empty place.
//!
//! A backup holds the database as it was at one moment, every sum that it names, and the signed documents; each file with its
//! digest in a signed list, as in a [record](crate::record). It does not hold masked inputs: a coordinator that comes back from
//! a backup does not go on in the attempt of that moment, it begins another. And it holds no key: an identity is kept apart, or
//! given up for the roster's next one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use consilium_proto::{plan::VerifiedPlan, roster::successor};
use thiserror::Error;

use crate::{
    config::Loaded,
    files::{self, FileError, sync_folder},
    record::{CONTENTS, Contents, PLAN, ROSTER, SIGNATURE, START, measure, walk},
    round::{Job, RecoveryError},
    service::recover,
    store::{InputLayout, SqliteStore, Store as _, StoreError, StoreView, StoredJob, copy_database},
};

/// What a backup leaves in the state's folder: touched when one was made whole.
pub const MARK: &str = "last-backup";
const DATABASE: &str = "job.sqlite";

/// Why a backup was not made, or is none.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its events do not give a job.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// A path cannot be used.
    #[error("{}: {source}; nothing was changed", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of a backup is not what its list says.
    #[error("{}: {what}: {why}; use another backup", folder.display())]
    Damaged {
        /// The backup.
        folder: PathBuf,
        /// The file.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// The place to restore to is not empty.
    #[error(
        "{}: there is a state already; move it away first, it may hold what the backup does not",
        place.display()
    )]
    Occupied {
        /// The state folder.
        place: PathBuf,
    },
    /// The job cannot be rebuilt.
    #[error("the job cannot be rebuilt from the backup: {0}")]
    Job(String),
}

/// What a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Recorded events.
    pub events: u64,
    /// Published sums.
    pub releases: u32,
    /// Entries of the signed log.
    pub entries: u64,
}

fn stored(plan: &VerifiedPlan) -> StoredJob {
    StoredJob { plan: plan.digest(), input: InputLayout::of_plan(plan.derived()) }
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> BackupError + use<> {
    let path = path.to_owned();
    move |source| BackupError::Path { path, source }
}

/// Makes a backup in a new folder, also while the coordinator serves, and verifies it.
///
/// # Errors
///
/// [`BackupError`]; what was begun is left without its list of contents, and is no backup.
pub fn create(loaded: &Loaded, out: &Path) -> Result<Backup, BackupError> {
    let job = stored(&loaded.plan);
    fs::create_dir(out).map_err(at(out))?;
    copy_database(&loaded.state, &job, &out.join(DATABASE))?;
    let sums = out.join("sums");
    fs::create_dir(&sums).map_err(at(&sums))?;
    // The copy names the sums; each was written before its row, and none is ever changed.
    let rounds = StoreView::open(out, &job)?.releases_from(1)?;
    for round in rounds {
        let name = format!("round-{round}.sum");
        let (from, to) = (loaded.state.join("sums").join(&name), sums.join(&name));
        fs::copy(&from, &to).map_err(at(&from))?;
    }
    let document = |from: &Path, name: &Path| -> Result<(), BackupError> {
        for end in ["", ".sig"] {
            let with = |path: &Path| PathBuf::from(format!("{}{end}", path.display()));
            let from = with(from);
            fs::copy(&from, out.join(with(name))).map_err(at(&from))?;
        }
        Ok(())
    };
    for version in 1..=loaded.roster.version() {
        let name = successor(Path::new(ROSTER), version);
        document(&successor(&loaded.documents.roster, version), &name)?;
    }
    document(&loaded.documents.plan, Path::new(PLAN))?;
    if loaded.plan.document().adapter.start.is_some() {
        let from = loaded.documents.start();
        fs::copy(&from, out.join(START)).map_err(at(&from))?;
    }
    let mut contents = Contents::default();
    for path in walk(out).map_err(at(out))? {
        let file = out.join(&path);
        let listed = measure(&file).map_err(at(&file))?;
        fs::File::open(&file).and_then(|file| file.sync_all()).map_err(at(&file))?;
        contents.add(path, listed);
    }
    let signature = contents.sign(&loaded.roster, &loaded.plan, loaded.identity.signing_key());
    files::write_atomic(&out.join(SIGNATURE), signature.as_bytes())?;
    files::write_atomic(&out.join(CONTENTS), contents.to_text().as_bytes())?;
    sync_folder(&sums).and_then(|()| sync_folder(out)).map_err(at(out))?;
    let backup = verify(loaded, out)?;
    files::write_atomic(&loaded.state.join(MARK), out.display().to_string().as_bytes())?;
    Ok(backup)
}

/// Checks a backup: every file against the signed list, the chain of events, every sum, and that a job follows from them.
///
/// # Errors
///
/// [`BackupError`] names the first thing that does not hold.
pub fn verify(loaded: &Loaded, folder: &Path) -> Result<Backup, BackupError> {
    let (files, bytes) = listed(loaded, folder)?;
    let store = StoreView::open(folder, &stored(&loaded.plan))?;
    let now_ms = 0;
    let mut job = Job::new(loaded.identity.clone(), loaded.roster.clone(), loaded.plan.clone(), now_ms)?;
    let events = recover(&mut job, &*store).map_err(|error| BackupError::Job(error.to_string()))?;
    let releases = u32::try_from(store.releases_from(1)?.len()).unwrap_or(u32::MAX);
    Ok(Backup { files, bytes, events, releases, entries: job.log_head().sequence })
}

fn listed(loaded: &Loaded, folder: &Path) -> Result<(usize, u64), BackupError> {
    let damaged = |what: &str, why: String| BackupError::Damaged {
        folder: folder.to_owned(),
        what: what.to_owned(),
        why,
    };
    let text = files::read_text(&folder.join(CONTENTS), 64 << 20)?;
    let contents = Contents::parse(&text).map_err(|why| damaged(CONTENTS, why))?;
    let signature = files::read_text(&folder.join(SIGNATURE), 64 << 10)?;
    contents
        .verify(&signature, &loaded.roster, &loaded.plan)
        .map_err(|why| damaged(SIGNATURE, why.to_owned()))?;
    let mut bytes = 0;
    for path in contents.paths() {
        let found = measure(&folder.join(path)).map_err(|e| damaged(path, e.to_string()))?;
        if Some(&found) != contents.get(path) {
            return Err(damaged(path, "its bytes are not the ones that were backed up".into()));
        }
        bytes += found.bytes;
    }
    for needed in [DATABASE, ROSTER, PLAN] {
        if contents.get(needed).is_none() {
            return Err(damaged(needed, "it is missing".into()));
        }
    }
    Ok((contents.len(), bytes))
}

/// Puts a verified backup where the configuration's state belongs, which must be empty or not there.
///
/// # Errors
///
/// [`BackupError`]; nothing is then in the state's place.
pub fn restore(loaded: &Loaded, folder: &Path) -> Result<Backup, BackupError> {
    let place = &loaded.state;
    let occupied = fs::read_dir(place).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        return Err(BackupError::Occupied { place: place.clone() });
    }
    let backup = verify(loaded, folder)?;
    let beside = PathBuf::from(format!("{}.restoring", place.display()));
    if beside.exists() {
        fs::remove_dir_all(&beside).map_err(at(&beside))?;
    }
    let sums = beside.join("sums");
    fs::create_dir_all(&sums).map_err(at(&sums))?;
    let mut names = vec![PathBuf::from(DATABASE)];
    for entry in fs::read_dir(folder.join("sums")).map_err(at(folder))? {
        names.push(Path::new("sums").join(entry.map_err(at(folder))?.file_name()));
    }
    for name in names {
        let to = beside.join(&name);
        fs::copy(folder.join(&name), &to).map_err(at(&to))?;
        fs::File::open(&to).and_then(|file| file.sync_all()).map_err(at(&to))?;
    }
    // Opened once before it is in its place: what cannot be opened is not put there.
    drop(SqliteStore::open(&beside, &stored(&loaded.plan))?);
    sync_folder(&sums).and_then(|()| sync_folder(&beside)).map_err(at(&beside))?;
    let _ = fs::remove_dir(place);
    fs::rename(&beside, place).map_err(at(place))?;
    sync_folder(files::folder_of(place)).map_err(at(place))?;
    Ok(backup)
}
