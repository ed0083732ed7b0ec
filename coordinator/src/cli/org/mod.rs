//! `consilium org`: an organization's own keys: made here, split among its own people, put together again.

mod share;

use std::{
    collections::BTreeSet,
    io::Write,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use consilium_crypto::secret::Secret;
use consilium_proto::{identity::Identity, ids::Id};
use serde_json::json;

use super::{Failure, keys::Keygen, sign::read_identity, write_json};
use crate::files;
use share::Share;

/// Makes an organization's keys, splits a backup of them among its own people, and restores them.
///
/// Nothing of this leaves the organization. What the consortium sees of it is the public half, party.toml, and a revocation if there
/// is one.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Example, in an organization's life:
  consilium org init --id site-1 --out keys/site-1 --custodian head-of-it dpo chief-physician --threshold 2 --shares shares
  consilium org restore --share head-of-it.share dpo.share --out keys/site-1
  consilium roster revoke roster.toml --pin $(cat pin.txt) --identity keys/site-1/identity.toml --confirm site-1")]
pub(super) enum Org {
    Init(Init),
    Split(Split),
    Restore(Restore),
}

impl Org {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Self::Init(command) => command.run(out),
            Self::Split(command) => command.run(out),
            Self::Restore(command) => command.run(out),
        }
    }
}

/// Among whom a backup is split.
#[derive(Debug, Args)]
struct Custody {
    /// The custodians, people of this organization: ids of 1 to 63 characters of a-z, 0-9 and '-'.
    #[arg(long = "custodian", value_name = "ID", num_args = 1.., requires = "threshold", requires = "shares")]
    custodians: Vec<Id>,
    /// How many of them put the keys together; fewer learn nothing.
    #[arg(long, value_name = "COUNT", requires = "custodians")]
    threshold: Option<u8>,
    /// Folder for the shares, one private file each.
    #[arg(long, value_name = "DIR", requires = "custodians")]
    shares: Option<PathBuf>,
}

/// Makes the organization's two keys and, if custodians are named, splits a backup of them.
///
/// Writes DIR/identity.toml, which only you can read and which never leaves this organization, and DIR/party.toml, the public half,
/// which goes to whoever draws up the roster. Neither is ever overwritten.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium org init --id site-1 --out keys/site-1
  consilium org init --id site-1 --out keys/site-1 --custodian head-of-it dpo chief-physician --threshold 2 --shares shares")]
pub(super) struct Init {
    #[command(flatten)]
    keys: Keygen,
    #[command(flatten)]
    custody: Custody,
}

impl Init {
    fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        // Before any key is made.
        self.custody.check()?;
        let (private, json) = (self.keys.private(), self.keys.json());
        let mut keys = Vec::new();
        self.keys.run(&mut keys)?;
        let dealt = match self.custody.custodians.is_empty() {
            true => None,
            false => Some(self.custody.split(&private)?),
        };
        if json {
            let mut whole: serde_json::Value = serde_json::from_slice(&keys).map_err(Failure::refused)?;
            if let Some(dealt) = dealt {
                whole["backup"] = dealt.json();
            }
            return write_json(out, &whole);
        }
        out.write_all(&keys)?;
        dealt.map_or(Ok(()), |dealt| dealt.print(out))
    }
}

/// Splits a backup of an identity among custodians. Each dealing stands alone: shares of two dealings do not go together.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium org split --identity keys/site-1/identity.toml --custodian head-of-it dpo chief-physician --threshold 2 --shares shares")]
pub(super) struct Split {
    /// The private identity.toml.
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    #[command(flatten)]
    custody: Custody,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Split {
    fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        if self.custody.custodians.is_empty() {
            return Err(Failure::Refused(
                "--custodian: name the people among whom the backup is split".into(),
            ));
        }
        self.custody.check()?;
        let dealt = self.custody.split(&self.identity)?;
        if self.json { write_json(out, &dealt.json()) } else { dealt.print(out) }
    }
}

/// A dealing that has been written down.
struct Dealt {
    organization: Id,
    threshold: u8,
    shares: Vec<PathBuf>,
}

impl Dealt {
    fn json(&self) -> serde_json::Value {
        json!({"shares": self.shares, "threshold": self.threshold})
    }

    fn print(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let Self { organization, threshold, shares } = self;
        for path in shares {
            writeln!(out, "{}  private: hand it over, and keep no copy", path.display())?;
        }
        let many = shares.len();
        writeln!(
            out,
            "any {threshold} of the {many} put the keys of {organization} together; fewer learn nothing"
        )?;
        Ok(())
    }
}

impl Custody {
    fn check(&self) -> Result<(), Failure> {
        let (many, needed) = (self.custodians.len(), usize::from(self.threshold.unwrap_or(2)));
        let distinct: BTreeSet<_> = self.custodians.iter().collect();
        let refuse = |why: String| Err(Failure::Refused(why));
        match () {
            () if self.custodians.is_empty() => Ok(()),
            () if distinct.len() < many => {
                refuse("--custodian names somebody twice; every custodian has one share".into())
            }
            () if many > 255 => refuse(format!("--custodian names {many}; at most 255 can hold a share")),
            () if needed < 2 => refuse(format!(
                "--threshold {needed}: one share would be the keys themselves; write 2 at least"
            )),
            () if needed > many => refuse(format!(
                "--threshold {needed} of {many} custodians could never be reached; write at most {many}"
            )),
            () => Ok(()),
        }
    }

    fn split(&self, private: &Path) -> Result<Dealt, Failure> {
        let identity = read_identity(private)?;
        let (Some(threshold), Some(folder)) = (self.threshold, &self.shares) else {
            return Err(Failure::Refused("--threshold and --shares go with --custodian".into()));
        };
        super::keys::make_folder(folder)?;
        let shares = Share::deal(&identity, threshold, &self.custodians)?;
        let path_of = |share: &Share| folder.join(format!("{}.share", share.custodian));
        for share in &shares {
            let path = path_of(share);
            if path.exists() {
                return Err(files::FileError::Exists { path }.into());
            }
        }
        for share in &shares {
            files::create_private(&path_of(share), share.to_text().expose())?;
        }
        let shares = shares.iter().map(path_of).collect();
        Ok(Dealt { organization: identity.id.clone(), threshold, shares })
    }
}

/// Puts an identity together from enough shares of one dealing.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium org restore --share head-of-it.share dpo.share --out keys/site-1")]
pub(super) struct Restore {
    /// Shares, as they were dealt.
    #[arg(long = "share", value_name = "FILE", required = true, num_args = 1..)]
    shares: Vec<PathBuf>,
    /// Folder for identity.toml; never overwritten.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Restore {
    fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let shares = self.shares.iter().map(|path| Share::read(path)).collect::<Result<Vec<_>, _>>()?;
        let text: Secret<String> = share::combine(&shares).map_err(Failure::Refused)?;
        // Unwrap safety: `combine` has parsed it.
        let identity = Identity::parse(text.expose()).map_err(Failure::refused)?;
        super::keys::make_folder(&self.out)?;
        let path = self.out.join("identity.toml");
        files::create_private(&path, text.expose())?;
        let key = identity.signing_key().verifying_key();
        if self.json {
            return write_json(
                out,
                &json!({"id": identity.id, "signing_key": key.to_string(), "identity": path, "custodians":
                    shares.iter().map(|share| share.custodian.to_string()).collect::<Vec<_>>()}),
            );
        }
        writeln!(out, "{}  private: keep it on this machine, only you can read it", path.display())?;
        writeln!(out, "{} is {key}", identity.id)?;
        Ok(())
    }
}
