//! `consilium sign`: one person's signature under a roster or a plan.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use consilium_proto::{
    identity::Identity,
    plan::Plan,
    roster::{Roster, predecessor},
    signed::{Kind, fingerprint},
};
use serde_json::json;

use super::{Failure, read_document, read_signatures, signature_path, write_json};
use crate::files;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    Roster,
    Plan,
}

/// Signs a roster or a plan. Read it first: what you sign is the text, byte for byte.
///
/// The signature becomes a line of FILE.sig; an older line of yours is replaced, lines of others stay. Lines that others
/// sent you may simply be appended.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium sign roster roster.toml --identity keys/identity.toml
  consilium sign plan plan.toml --identity keys/identity.toml
  cat site-2.sig >> plan.toml.sig")]
pub(super) struct Sign {
    /// What kind of document it is; part of what is signed.
    #[arg(value_enum)]
    what: What,
    /// The document.
    file: PathBuf,
    /// Your private identity.toml.
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Sign {
    /// As `sign roster`.
    pub(super) fn roster(file: PathBuf, identity: PathBuf, json: bool) -> Self {
        Self { what: What::Roster, file, identity, json }
    }

    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let text = read_document(&self.file)?;
        let identity = read_identity(&self.identity)?;
        let kind = match self.what {
            What::Roster => {
                let roster = Roster::parse(&text).map_err(|e| Failure::in_file(&self.file, e))?;
                belongs(&voters(&roster, &self.file)?, &identity)?;
                Kind::Roster
            }
            What::Plan => {
                Plan::parse(&text).map_err(|e| Failure::in_file(&self.file, e))?;
                Kind::Plan
            }
        };
        let beside = signature_path(&self.file);
        let mut signatures = read_signatures(&self.file)?;
        signatures.add(kind, &text, &identity.id, identity.signing_key());
        files::write_atomic(&beside, signatures.to_text().as_bytes())?;
        let digest = fingerprint(kind, &text);
        if self.json {
            return write_json(
                out,
                &json!({
                    "kind": kind.as_str(), "signer": identity.id, "fingerprint": digest.to_string(),
                    "signatures": beside,
                }),
            );
        }
        writeln!(out, "{} signed the {} with fingerprint {digest}", identity.id, kind.as_str())?;
        writeln!(out, "{}", beside.display())?;
        Ok(())
    }
}

/// The version whose organizations sign this one: itself if it is the first, otherwise the one before.
fn voters(roster: &Roster, file: &Path) -> Result<Roster, Failure> {
    let Some(previous) = roster.previous else { return Ok(roster.clone()) };
    let path = predecessor(file, roster.version).ok_or_else(|| {
        let name = format!("roster.{}.toml", roster.version);
        Failure::in_file(
            file,
            format!("version {} is kept as {name} beside the first; rename it", roster.version),
        )
    })?;
    let text = read_document(&path)?;
    if fingerprint(Kind::Roster, &text) != previous {
        return Err(Failure::in_file(
            &path,
            format!("it is not the version that {} continues; get the chain's own", file.display()),
        ));
    }
    Roster::parse(&text).map_err(|e| Failure::in_file(&path, e))
}

/// A signature that no one would count is refused here, where it can still be mended.
fn belongs(roster: &Roster, identity: &Identity) -> Result<(), Failure> {
    let entry = roster.organizations.iter().find(|party| party.id == identity.id);
    let Some(entry) = entry else {
        return Err(Failure::Refused(format!(
            "the roster lists no organization {}; a roster is signed by its organizations: give one's identity, or build \
             the roster with its party.toml",
            identity.id
        )));
    };
    if entry.signing_key != identity.signing_key().verifying_key() {
        return Err(Failure::Refused(format!(
            "the roster lists {} with signing key {}, and this identity's is {}; build the roster with this identity's \
             party.toml, or sign with the identity that it lists",
            identity.id,
            entry.signing_key,
            identity.signing_key().verifying_key()
        )));
    }
    Ok(())
}

/// Reads a private identity; refuses one that others can read.
pub(super) fn read_identity(path: &std::path::Path) -> Result<Identity, Failure> {
    let text = files::read_private(path)?;
    Identity::parse(text.expose()).map_err(|e| Failure::in_file(path, e))
}
