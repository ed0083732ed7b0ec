//! `sign` and `fingerprint`: the two documents that a consortium signs.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use crate::{
    config::signature_path,
    files::{self, FileError},
};
use clap::Args;
use consilium_proto::{
    identity::Identity,
    plan::Plan,
    roster::{Roster, predecessor},
    signed::{Kind, MAX_DOCUMENT_BYTES, Signatures, fingerprint},
};
use serde::Serialize;

use super::{Document, Failure, output};

#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// What is signed.
    #[arg(value_enum)]
    document: Document,
    /// The document's file.
    file: PathBuf,
    /// The signer's private keys.
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Fingerprint {
    /// What it is.
    #[arg(value_enum)]
    document: Document,
    /// The document's file.
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Signed {
    document: &'static str,
    fingerprint: String,
    signer: String,
    signature_file: PathBuf,
    /// Everybody whose line is in the file now. Whether each of them verifies is for those who load it.
    signers: Vec<String>,
}

#[derive(Serialize)]
struct Fingerprinted {
    document: &'static str,
    fingerprint: String,
}

impl Sign {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let kind = self.document.kind();
        let text = read(kind, &self.file)?;
        let private = files::read_private(&self.identity)?;
        let identity = Identity::parse(private.expose())
            .map_err(|error| Failure::refused(format!("{}: {error}", self.identity.display())))?;
        if let Kind::Roster = kind {
            listed(&voters(&text, &self.file)?, &identity)?;
        }
        let path = signature_path(&self.file);
        // Two people who sign in one folder at once must not lose one of the two lines.
        let document = File::open(&self.file).map_err(|source| FileError::io("open", &self.file, source))?;
        document.lock().map_err(|source| FileError::io("lock", &self.file, source))?;
        let mut signatures = match path.exists() {
            false => Signatures::default(),
            true => Signatures::parse(&files::read_text(&path, MAX_DOCUMENT_BYTES as u64)?)
                .map_err(|error| Failure::refused(format!("{}: {error}", path.display())))?,
        };
        signatures.add(kind, &text, &identity.id, identity.signing_key());
        let lines = signatures.to_text();
        files::write_atomic(&path, lines.as_bytes())?;
        let signers =
            lines.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
        let signed = Signed {
            document: kind.as_str(),
            fingerprint: fingerprint(kind, &text).to_string(),
            signer: identity.id.to_string(),
            signature_file: path,
            signers,
        };
        if self.json {
            return output::print_json(&signed);
        }
        output::print(&format!(
            "{} signed the {} with fingerprint\n  {}\n{} now has the lines of {}\n",
            signed.signer,
            signed.document,
            signed.fingerprint,
            signed.signature_file.display(),
            signed.signers.join(", ")
        ))
    }
}

impl Fingerprint {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let kind = self.document.kind();
        let fingerprint = fingerprint(kind, &read(kind, &self.file)?).to_string();
        if self.json {
            return output::print_json(&Fingerprinted { document: kind.as_str(), fingerprint });
        }
        output::print(&format!("{fingerprint}\n"))
    }
}

/// Reads a document that is what it is said to be: nobody should sign, or compare, what nobody could load.
fn read(kind: Kind, path: &Path) -> Result<String, Failure> {
    let text = files::read_text(path, MAX_DOCUMENT_BYTES as u64)?;
    let refused = |error: &dyn std::error::Error| Failure::refused(format!("{}: {error}", path.display()));
    match kind {
        Kind::Roster => drop(Roster::parse(&text).map_err(|error| refused(&error))?),
        Kind::Plan => drop(Plan::parse(&text).map_err(|error| refused(&error))?),
    }
    Ok(text)
}

/// The version whose organizations sign this one: itself if it is the first, otherwise the one before.
fn voters(text: &str, file: &Path) -> Result<Roster, Failure> {
    let roster = Roster::parse(text).map_err(Failure::refused)?;
    let Some(previous) = roster.previous else { return Ok(roster) };
    let version = roster.version;
    let path = predecessor(file, version).ok_or_else(|| {
        Failure::refused(format!(
            "{}: version {version} is kept as roster.{version}.toml beside the first; rename it",
            file.display()
        ))
    })?;
    let text = read(Kind::Roster, &path)?;
    if fingerprint(Kind::Roster, &text) != previous {
        let (path, file) = (path.display(), file.display());
        return Err(Failure::refused(format!(
            "{path}: it is not the version that {file} continues; get the chain's own"
        )));
    }
    Roster::parse(&text).map_err(Failure::refused)
}

/// A roster's signature counts only from an organization in the version that signs it, with the key it lists.
fn listed(roster: &Roster, identity: &Identity) -> Result<(), Failure> {
    let (id, own) = (&identity.id, identity.signing_key().verifying_key());
    match roster.organizations.iter().find(|party| party.id == *id) {
        None => {
            Err(Failure::refused(format!("the roster does not list {id}, so its signature would not count")))
        }
        Some(party) if party.signing_key != own => Err(Failure::refused(format!(
            "the roster lists signing key {} for {id}, and this identity has {own}: its signature would not count",
            party.signing_key
        ))),
        Some(_) => Ok(()),
    }
}
