//! What changes a roster: proposing its next version, signing one, revoking a key.

use std::{io::Write, path::PathBuf};

use clap::Args;
use consilium_crypto::digest::Digest;
use consilium_proto::{
    ids::Id,
    roster::{
        chain::{Changes, needed, propose},
        revocation_file, successor,
    },
    signed::{Kind, fingerprint},
};
use jiff::civil::Date;
use serde_json::json;

use super::{read_party, verified};
use crate::{
    chain,
    cli::{
        Failure, parse_digest,
        sign::{self, read_identity},
        write_json,
    },
    files,
};

/// Draws up the next version of a roster: who comes, who goes, whose keys are new.
///
/// The version stands beside the first as roster.2.toml, roster.3.toml and so on, and counts once a quorum of the version before
/// has signed it. Then everybody puts the file and its .sig beside their own roster.toml; nothing else of theirs changes, the pin
/// included. A plan belongs to one version: for the new one it is made and signed again.
#[derive(Debug, Args)]
#[command(after_help = "\
Example, a new member and another's new keys:
  consilium roster propose roster.toml --pin $(cat pin.txt) --party site-9/party.toml site-2/new/party.toml
  consilium roster sign roster.2.toml --identity keys/identity.toml      # each of a quorum
  consilium roster propose roster.toml --pin $(cat pin.txt) --remove site-3 --extend site-1=2028-12-31")]
pub(in crate::cli) struct Propose {
    /// The chain's first version; later ones are found beside it.
    file: PathBuf,
    /// The first version's pinned fingerprint.
    #[arg(long, value_name = "FINGERPRINT", value_parser = parse_digest)]
    pin: Digest,
    /// party.toml files of organizations that come in, or whose keys are replaced (the same id).
    #[arg(long = "party", value_name = "PARTY", num_args = 1..)]
    organizations: Vec<PathBuf>,
    /// Organizations that leave.
    #[arg(long, value_name = "ID", num_args = 1..)]
    remove: Vec<Id>,
    /// The coordinator's new party.toml.
    #[arg(long, value_name = "PARTY")]
    coordinator: Option<PathBuf>,
    /// party.toml of the keys that the coordinator may change to next.
    #[arg(long, value_name = "PARTY")]
    coordinator_next: Option<PathBuf>,
    /// party.toml files of operators that come in, or whose keys are replaced.
    #[arg(long = "operator", value_name = "PARTY", num_args = 1..)]
    operators: Vec<PathBuf>,
    /// New last days without new keys.
    #[arg(long, value_name = "ID=DAY", num_args = 1.., value_parser = parse_extension)]
    extend: Vec<(Id, Date)>,
    /// Signatures that plans and the version after this one need. By default it follows the number of organizations.
    #[arg(long)]
    quorum: Option<usize>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn parse_extension(text: &str) -> Result<(Id, Date), String> {
    let (id, day) = text.split_once('=').ok_or("write it as site-1=2028-12-31")?;
    let id = id.parse().map_err(|e: consilium_proto::ids::BadId| e.to_string())?;
    Ok((id, day.parse().map_err(|_| format!("\"{day}\" is not a day written as 2028-12-31"))?))
}

impl Propose {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let newest = verified(&self.file, &self.pin)?;
        let all =
            |paths: &[PathBuf]| paths.iter().map(|path| read_party(path)).collect::<Result<Vec<_>, _>>();
        let changes = Changes {
            organizations: all(&self.organizations)?,
            removed: self.remove,
            coordinator: self.coordinator.as_deref().map(read_party).transpose()?,
            coordinator_next: self.coordinator_next.as_deref().map(read_party).transpose()?,
            operators: all(&self.operators)?,
            quorum: self.quorum,
            extended: self.extend,
        };
        let next = propose(&newest, changes).map_err(Failure::refused)?;
        let text = next.to_text().map_err(Failure::refused)?;
        let path = successor(&self.file, next.version);
        files::create_public(&path, &text)?;
        let digest = fingerprint(Kind::Roster, &text);
        let revoked = newest.revoked();
        let voters: Vec<_> = newest.cohort().into_iter().filter(|id| !revoked.contains(id)).collect();
        let needed = needed(newest.document(), voters.len());
        if self.json {
            return write_json(
                out,
                &json!({
                    "roster": path, "version": next.version, "fingerprint": digest.to_string(), "needs": needed,
                    "to_sign": voters, "quorum": next.quorum,
                }),
            );
        }
        let names = voters.iter().map(Id::as_str).collect::<Vec<_>>().join(", ");
        writeln!(out, "{}", path.display())?;
        writeln!(out, "version {}, fingerprint {digest}", next.version)?;
        writeln!(out, "to be signed by {needed} of {names}")?;
        Ok(())
    }
}

/// Signs a version of the roster. Read it first: what you sign is the text, byte for byte.
///
/// Version 1 is signed by every organization in it, a later one by those of the version before.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium roster sign roster.toml --identity keys/identity.toml
  consilium roster sign roster.2.toml --identity keys/identity.toml")]
pub(in crate::cli) struct Sign {
    /// The version's file.
    file: PathBuf,
    /// Your private identity.toml.
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Sign {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        sign::Sign::roster(self.file, self.identity, self.json).run(out)
    }
}

/// Revokes an organization's own signing key, alone and for ever: because it was stolen, or may have been.
///
/// From the moment a party has the line, the key opens no connection to it, speaks in no attempt, and signs no later version of the
/// roster. Running jobs go on without the organization if their plans allow it. It comes back with new keys in the next version of
/// the roster: `consilium roster propose --party`. The line goes into roster.toml.revoked; send it to the coordinator first, then
/// to every organization, which puts the line into its own file of that name and restarts its client.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium roster revoke roster.toml --pin $(cat pin.txt) --identity keys/identity.toml --confirm site-2
  cat site-2.revoked >> roster.toml.revoked")]
pub(in crate::cli) struct Revoke {
    /// The chain's first version; later ones are found beside it.
    file: PathBuf,
    /// The first version's pinned fingerprint.
    #[arg(long, value_name = "FINGERPRINT", value_parser = parse_digest)]
    pin: Digest,
    /// The private identity.toml whose signing key is revoked.
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// The organization's id once more: nobody can take a revocation back.
    #[arg(long, value_name = "ID")]
    confirm: Id,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Revoke {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let roster = verified(&self.file, &self.pin)?;
        let identity = read_identity(&self.identity)?;
        if identity.id != self.confirm {
            return Err(Failure::Refused(format!(
                "--confirm names {}, and the identity is {}'s; nothing was revoked",
                self.confirm, identity.id
            )));
        }
        let own = identity.signing_key().verifying_key();
        match roster.organization(&identity.id) {
            Some(entry) if entry.signing_key == own => {}
            _ => {
                return Err(Failure::Refused(format!(
                    "version {} of the roster does not list signing key {own} for an organization {}; there is nothing to revoke",
                    roster.version(),
                    identity.id
                )));
            }
        }
        let mut revocations = chain::revocations(&self.file).map_err(Failure::refused)?;
        revocations.add(&self.pin, &identity.id, roster.version(), identity.signing_key());
        let path = revocation_file(&self.file);
        let text = revocations.to_text();
        files::write_atomic(&path, text.as_bytes())?;
        let line = text.lines().find(|line| line.contains(&own.to_string())).unwrap_or_default();
        if self.json {
            return write_json(
                out,
                &json!({
                    "revoked": identity.id, "signing_key": own.to_string(), "after_version": roster.version(),
                    "file": path, "line": line,
                }),
            );
        }
        writeln!(out, "{line}")?;
        writeln!(
            out,
            "{} now holds this line: send it to the coordinator first, then to every organization",
            path.display()
        )?;
        Ok(())
    }
}
