//! `keygen`: an organization's keys.

use std::path::PathBuf;

use crate::{
    config::today,
    files::{self, FileError},
};
use clap::Args;
use consilium_crypto::secret::Secret;
use consilium_proto::{identity::Identity, ids::Id};
use jiff::{ToSpan, civil::Date};
use rand::{TryRng, rngs::SysRng};

use super::{Failure, output};

/// Years for which keys are proposed to count.
const DEFAULT_YEARS: i64 = 2;

#[derive(Debug, Args)]
pub(crate) struct Keygen {
    /// The organization's id: 1 to 63 characters of a-z, 0-9 and '-'.
    #[arg(long)]
    id: Id,
    /// Folder for identity.toml (private, mode 0600) and party.toml (public); neither is ever overwritten.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Last day (UTC) on which the keys shall count; two years from today unless given.
    #[arg(long, value_name = "YYYY-MM-DD")]
    valid_until: Option<Date>,
    /// Print the public entry as JSON.
    #[arg(long)]
    json: bool,
}

impl Keygen {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let today = today();
        let valid_until = match self.valid_until {
            Some(day) if day < today => {
                return Err(Failure::refused(format!(
                    "--valid-until {day} is over; today is {today} in UTC"
                )));
            }
            Some(day) => day,
            None => today.checked_add(DEFAULT_YEARS.years()).map_err(Failure::local)?,
        };
        let mut drawn = Ok(());
        let seed = Secret::<[u8; 32]>::build(|bytes| drawn = SysRng.try_fill_bytes(bytes));
        drawn
            .map_err(|error| Failure::local(format!("the operating system gave no random bytes: {error}")))?;
        let identity = Identity::generate(self.id, *seed.expose()).map_err(Failure::local)?;
        let (private, public) = (self.out.join("identity.toml"), self.out.join("party.toml"));
        let party = identity.party(valid_until);
        std::fs::create_dir_all(&self.out).map_err(|source| FileError::io("create", &self.out, source))?;
        if public.exists() {
            return Err(FileError::Exists { path: public }.into());
        }
        files::create_private(&private, &identity.to_text())?;
        files::write_atomic(&public, toml::to_string(&party).map_err(Failure::local)?.as_bytes())?;
        if self.json {
            return output::print_json(&party);
        }
        output::print(&format!(
            "{}  private: back it up, never send it\n{}  public: send it to whoever draws up the roster\n{} is {} until \
             {valid_until}\n",
            private.display(),
            public.display(),
            party.id,
            party.signing_key
        ))
    }
}
