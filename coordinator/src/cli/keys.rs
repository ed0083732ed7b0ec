//! `consilium keygen`: the two keys of a coordinator, an operator or a plan signer.

use std::{io::Write, path::PathBuf};

use clap::Args;
use consilium_proto::{identity::Identity, ids::Id};
use jiff::ToSpan as _;
use rand::TryRng as _;
use serde_json::json;

use super::{Failure, today, write_json};
use crate::files;

/// Makes a party's keys: a private file and the entry for the roster.
///
/// Writes DIR/identity.toml, which only you can read and which never leaves this machine, and DIR/party.toml, the public
/// half, which goes to whoever builds the roster. Neither is ever overwritten.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium keygen --id ada --out ~/consilium
  consilium keygen --id coordinator --out /etc/consilium --valid-days 730")]
pub(super) struct Keygen {
    /// The party's id in the roster: 1 to 63 characters of a-z, 0-9 and '-'.
    #[arg(long)]
    id: Id,
    /// Folder for the two files; made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Days from today on which the keys count. A longer time costs nothing until a key is stolen.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=3650))]
    valid_days: u16,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Keygen {
    /// Where the private file goes.
    pub(super) fn private(&self) -> PathBuf {
        self.out.join("identity.toml")
    }

    /// Whether JSON is asked for.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let (private, public) = (self.out.join("identity.toml"), self.out.join("party.toml"));
        make_folder(&self.out)?;
        for path in [&private, &public] {
            if path.exists() {
                return Err(files::FileError::Exists { path: path.clone() }.into());
            }
        }
        let valid_until = today().checked_add(i64::from(self.valid_days).days()).map_err(Failure::refused)?;
        let mut seed = [0; 32];
        rand::rngs::SysRng
            .try_fill_bytes(&mut seed)
            .map_err(|e| Failure::Refused(format!("the operating system gives no random bytes: {e}")))?;
        let identity = Identity::generate(self.id, seed).map_err(Failure::refused)?;
        let party = identity.party(valid_until);
        let party_text = toml::to_string(&party).map_err(Failure::refused)?;
        files::create_private(&private, identity.to_text().expose())?;
        files::create_public(&public, &party_text)?;
        if self.json {
            return write_json(
                out,
                &json!({
                    "id": party.id, "valid_until": party.valid_until.to_string(),
                    "signing_key": party.signing_key.to_string(), "tls_key": party.tls_key.to_string(),
                    "identity": private, "party": public,
                }),
            );
        }
        writeln!(out, "{}  private: keep it on this machine, only you can read it", private.display())?;
        writeln!(out, "{}  public: send it to whoever builds the roster", public.display())?;
        writeln!(out, "{} is {} until {valid_until}", party.id, party.signing_key)?;
        Ok(())
    }
}

/// Makes a folder that only its owner can look into.
pub(super) fn make_folder(folder: &std::path::Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|e| Failure::in_file(folder, format!("the folder cannot be made: {e}")))
}
