//! `consilium roster`: build, show, verify and change the document that says who belongs to the consortium.

mod change;

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use consilium_crypto::digest::Digest;
use consilium_proto::{
    identity::Identity,
    ids::Id,
    roster::{Party, PlanSigner, Roster as Document, VerifiedRoster},
    signed::{Kind, SignatureError, Signatures, fingerprint},
};
use serde_json::json;

use super::{Failure, parse_digest, read_document, read_signatures, table::Table, today, write_json};
use crate::{chain, files};

/// Builds, changes, shows and verifies the roster.
#[derive(Debug, Subcommand)]
pub(super) enum Roster {
    Build(Build),
    Fingerprint(Fingerprint),
    Show(Show),
    Verify(Verify),
    Propose(change::Propose),
    Sign(change::Sign),
    Revoke(change::Revoke),
}

impl Roster {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Self::Build(command) => command.run(out),
            Self::Fingerprint(command) => command.run(out),
            Self::Show(command) => command.run(out),
            Self::Verify(command) => command.run(out),
            Self::Propose(command) => command.run(out),
            Self::Sign(command) => command.run(out),
            Self::Revoke(command) => command.run(out),
        }
    }
}

/// Puts the parties' public halves together into version 1 of a roster.
///
/// Every organization then reads the text, compares its fingerprint with the others (by telephone, not by the channel that
/// brought the file), signs it, and pins the fingerprint in its configuration.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium roster build --consortium heart --coordinator coordinator/party.toml \\
      --organization site-1/party.toml site-2/party.toml site-3/party.toml \\
      --operator ada/party.toml --out roster.toml")]
pub(super) struct Build {
    /// Name of the consortium.
    #[arg(long)]
    consortium: Id,
    /// The coordinator's party.toml.
    #[arg(long, value_name = "PARTY")]
    coordinator: PathBuf,
    /// party.toml of keys that the coordinator may change to, made with its id and kept elsewhere: should its machine be lost,
    /// another goes on with them and no roster has to be signed.
    #[arg(long, value_name = "PARTY")]
    coordinator_next: Option<PathBuf>,
    /// The organizations' party.toml files, three or more.
    #[arg(long = "organization", value_name = "PARTY", required = true, num_args = 1..)]
    organizations: Vec<PathBuf>,
    /// party.toml files of people and services that may look at the job and act on it.
    #[arg(long = "operator", value_name = "PARTY", num_args = 1..)]
    operators: Vec<PathBuf>,
    /// party.toml files of people and services that may look, and nothing else.
    #[arg(long = "viewer", value_name = "PARTY", num_args = 1..)]
    viewers: Vec<PathBuf>,
    /// party.toml files of those who sign plans instead of a quorum of organizations.
    #[arg(long = "plan-signer", value_name = "PARTY", num_args = 1..)]
    plan_signers: Vec<PathBuf>,
    /// Signatures that a plan needs; default two thirds of the organizations plus one. More costs availability.
    #[arg(long)]
    quorum: Option<usize>,
    /// The roster's file; never overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Build {
    fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let all =
            |paths: &[PathBuf]| paths.iter().map(|path| read_party(path)).collect::<Result<Vec<_>, _>>();
        let mut organizations = all(&self.organizations)?;
        organizations.sort_by(|a, b| a.id.cmp(&b.id));
        let signer = |party: Party| PlanSigner { id: party.id, signing_key: party.signing_key };
        let roster = Document {
            version: 1,
            consortium: self.consortium,
            previous: None,
            quorum: self.quorum.unwrap_or(2 * organizations.len() / 3 + 1),
            coordinator: read_party(&self.coordinator)?,
            coordinator_next: self.coordinator_next.as_deref().map(read_party).transpose()?,
            organizations,
            operators: all(&self.operators)?,
            viewers: all(&self.viewers)?,
            plan_signers: all(&self.plan_signers)?.into_iter().map(signer).collect(),
            simulated: false,
        };
        let text = roster.to_text().map_err(Failure::refused)?;
        files::create_public(&self.out, &text)?;
        let digest = fingerprint(Kind::Roster, &text);
        let ids: Vec<_> = roster.organizations.iter().map(|party| party.id.as_str()).collect();
        if self.json {
            return write_json(
                out,
                &json!({"roster": self.out, "fingerprint": digest.to_string(), "quorum": roster.quorum, "to_sign": ids}),
            );
        }
        writeln!(out, "{}", self.out.display())?;
        writeln!(out, "fingerprint {digest}")?;
        writeln!(out, "to be signed by {}", ids.join(", "))?;
        Ok(())
    }
}

/// The parser's own message is not shown: it repeats the line, and the file may be a private one given by mistake.
fn read_party(path: &Path) -> Result<Party, Failure> {
    let text = files::read_text(path, 64 << 10)?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.lines().count().max(1));
        let why = if Identity::parse(&text).is_ok() {
            "this is a private identity, which stays where it was made; give the party.toml that stands beside it".to_owned()
        } else {
            format!("not a party.toml as `keygen` writes it (see line {line}); ask its owner for it again")
        };
        Failure::in_file(path, why)
    })
}

/// Prints the roster's fingerprint and nothing else: what is compared by telephone and pinned.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium roster fingerprint roster.toml")]
pub(super) struct Fingerprint {
    /// The roster.
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Fingerprint {
    fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let text = read_document(&self.file)?;
        Document::parse(&text).map_err(|e| Failure::in_file(&self.file, e))?;
        let digest = fingerprint(Kind::Roster, &text);
        if self.json {
            return write_json(out, &json!({"roster": self.file, "fingerprint": digest.to_string()}));
        }
        writeln!(out, "{digest}")?;
        Ok(())
    }
}

/// Shows who is in a roster and who has signed it. Believes nothing: see `verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium roster show roster.toml")]
pub(super) struct Show {
    /// The roster.
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Show {
    fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let text = read_document(&self.file)?;
        let roster = Document::parse(&text).map_err(|e| Failure::in_file(&self.file, e))?;
        let signatures = read_signatures(&self.file)?;
        let parties = parties(&roster);
        let signed = |role, party: &Party| match role {
            "organization" => signature_of(&signatures, &text, party),
            _ => "-",
        };
        if self.json {
            let parties: Vec<_> = parties
                .iter()
                .map(|(role, party)| {
                    json!({
                        "role": role, "id": party.id, "valid_until": party.valid_until.to_string(),
                        "expired": party.valid_on(today()).is_err(), "signature": signed(*role, party),
                        "signing_key": party.signing_key.to_string(), "tls_key": party.tls_key.to_string(),
                    })
                })
                .collect();
            let signers: Vec<_> = roster.plan_signers.iter().map(|signer| &signer.id).collect();
            return write_json(
                out,
                &json!({
                    "consortium": roster.consortium, "version": roster.version, "quorum": roster.quorum,
                    "fingerprint": fingerprint(Kind::Roster, &text).to_string(), "parties": parties,
                    "plan_signers": signers,
                }),
            );
        }
        writeln!(out, "consortium {}, roster version {}", roster.consortium, roster.version)?;
        writeln!(out, "fingerprint {}", fingerprint(Kind::Roster, &text))?;
        writeln!(out, "plans are signed by {}\n", plan_rule(&roster))?;
        let mut table = Table::new(&["role", "id", "valid until", "signed", "signing key", "tls key"]);
        for (role, party) in &parties {
            let mut until = party.valid_until.to_string();
            if party.valid_on(today()).is_err() {
                until.push_str(" EXPIRED");
            }
            let short = |digits: String| format!("{}…", digits.get(..16).unwrap_or(&digits));
            table.row([
                (*role).to_owned(),
                party.id.to_string(),
                until,
                signed(role, party).to_owned(),
                short(party.signing_key.to_string()),
                short(party.tls_key.to_string()),
            ]);
        }
        write!(out, "{table}")?;
        writeln!(
            out,
            "\nNothing here is verified: `consilium roster verify` checks signatures and the pin."
        )?;
        Ok(())
    }
}

fn parties(roster: &Document) -> Vec<(&'static str, &Party)> {
    let organizations = roster.organizations.iter().map(|party| ("organization", party));
    let operators = roster.operators.iter().map(|party| ("operator", party));
    let viewers = roster.viewers.iter().map(|party| ("viewer", party));
    let all = [("coordinator", &roster.coordinator)].into_iter().chain(organizations).chain(operators);
    all.chain(viewers).collect()
}

fn plan_rule(roster: &Document) -> String {
    if roster.plan_signers.is_empty() {
        return format!("{} of {} organizations", roster.quorum, roster.organizations.len());
    }
    roster.plan_signers.iter().map(|signer| signer.id.as_str()).collect::<Vec<_>>().join(" and ")
}

fn signature_of(signatures: &Signatures, text: &str, party: &Party) -> &'static str {
    let keys = BTreeMap::from([(party.id.clone(), party.signing_key)]);
    match signatures.verify(Kind::Roster, text, "", &keys, 1) {
        Ok(()) => "yes",
        Err(SignatureError::Bad { .. }) => "BAD",
        Err(SignatureError::TooFew { .. } | SignatureError::Line { .. }) => "no",
    }
}

/// Verifies a roster: the first version's pinned fingerprint and every organization's signature in FILE.sig, and each later version
/// beside it by the signatures of a quorum of the one before.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium roster verify roster.toml --pin 5d41402abc4b2a76b9719d911017c592ae2f1c0d7b6e3a4958c1d2e3f4a5b6c7")]
pub(super) struct Verify {
    /// The roster's first version; later ones and revocations are found beside it.
    file: PathBuf,
    /// The fingerprint that the organizations compared: 64 hexadecimal digits.
    #[arg(long, value_name = "FINGERPRINT", value_parser = parse_digest)]
    pin: Digest,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Verify {
    fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let roster = verified(&self.file, &self.pin)?;
        let document = roster.document();
        let expired: Vec<_> = parties(document)
            .into_iter()
            .filter_map(|(_, party)| party.valid_on(today()).err())
            .map(|e| e.to_string())
            .collect();
        if self.json {
            return write_json(
                out,
                &json!({
                    "verified": true, "consortium": document.consortium, "version": document.version,
                    "fingerprint": roster.digest().to_string(), "pin": roster.genesis().to_string(),
                    "revoked": roster.revoked(),
                    "organizations": roster.cohort(), "warnings": expired,
                }),
            );
        }
        let (file, name, digest) = (self.file.display(), &document.consortium, roster.digest());
        match roster.version() {
            1 => {
                let n = document.organizations.len();
                writeln!(
                    out,
                    "{file}: roster of {name} with fingerprint {digest}, signed by all {n} organizations"
                )?;
            }
            version => {
                writeln!(
                    out,
                    "{file}: roster of {name}, version {version} with fingerprint {digest}, each version signed by a quorum of the \
                     one before"
                )?;
            }
        }
        for id in roster.revoked() {
            writeln!(out, "REVOKED: {id} has revoked the key that the roster lists")?;
        }
        for warning in expired {
            writeln!(out, "WARNING: {warning}")?;
        }
        Ok(())
    }
}

/// Reads and verifies a roster's chain.
pub(super) fn verified(path: &Path, pin: &Digest) -> Result<VerifiedRoster, Failure> {
    chain::open(path, pin).map_err(Failure::refused)
}
