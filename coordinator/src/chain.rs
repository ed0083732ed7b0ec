//! A roster's chain, read from its files and verified.

use std::path::{Path, PathBuf};

use consilium_crypto::digest::Digest;
use consilium_proto::{
    roster::{
        RosterError, VerifiedRoster,
        chain::{self, Version},
        revocation::Revocations,
        revocation_file, successor,
    },
    signed::{MAX_DOCUMENT_BYTES, SignatureError, Signatures},
};
use thiserror::Error;

use crate::files::{self, FileError};

/// Why a chain was refused.
#[derive(Debug, Error)]
pub enum ChainError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A signature file is malformed.
    #[error("{}: {source}", path.display())]
    Signatures {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: SignatureError,
    },
    /// The chain does not hold.
    #[error("{}: {source} (signatures are read from {}.sig)", path.display(), path.display())]
    Roster {
        /// The version's file.
        path: PathBuf,
        /// What is wrong.
        source: RosterError,
    },
}

/// Reads and verifies the chain that begins at `first`: later versions and revocations are found beside it.
///
/// # Errors
///
/// [`ChainError`] names the file and what is wrong.
pub fn open(first: &Path, pin: &Digest) -> Result<VerifiedRoster, ChainError> {
    let refused =
        |source: RosterError| ChainError::Roster { path: successor(first, source.version()), source };
    let mut versions = vec![read(first)?];
    for path in (2..).map(|version| successor(first, version)).take_while(|path| path.exists()) {
        versions.push(read(&path)?);
    }
    chain::verify(&versions, pin, &revocations(first)?).map_err(refused)
}

/// The revocations beside a chain's first file; none if there is no such file.
///
/// # Errors
///
/// As [`open`].
pub fn revocations(first: &Path) -> Result<Revocations, ChainError> {
    let path = revocation_file(first);
    match files::read_text(&path, MAX_DOCUMENT_BYTES as u64) {
        Ok(text) => Revocations::parse(&text).map_err(|source| ChainError::Roster { path, source }),
        Err(FileError::Missing { .. }) => Ok(Revocations::default()),
        Err(error) => Err(error.into()),
    }
}

fn read(path: &Path) -> Result<Version, ChainError> {
    let text = files::read_text(path, MAX_DOCUMENT_BYTES as u64)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".sig");
    let beside = PathBuf::from(beside);
    let signatures = match files::read_text(&beside, MAX_DOCUMENT_BYTES as u64) {
        Ok(text) => {
            Signatures::parse(&text).map_err(|source| ChainError::Signatures { path: beside, source })?
        }
        Err(FileError::Missing { .. }) => Signatures::default(),
        Err(error) => return Err(error.into()),
    };
    Ok(Version { text, signatures })
}
