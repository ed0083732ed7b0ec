//! `keygen`: an organization's keys.

use std::path::PathBuf;

use clap::Args;
use consilium_client::{config::today, files};
use consilium_crypto::secret::Secret;
use consilium_proto::{identity::Identity, ids::Id, roster::Party};
use jiff::{ToSpan, civil::Date};
use rand::{TryRng, rngs::SysRng};
use serde::Serialize;

use super::{Failure, output};

/// Years for which keys are proposed to count.
const DEFAULT_YEARS: i64 = 2;

#[derive(Debug, Args)]
pub(crate) struct Keygen {
    /// The organization's id: 1 to 63 characters of a-z, 0-9 and '-'.
    #[arg(long)]
    id: Id,
    /// File for the private keys; created with mode 0600, never overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Last day (UTC) on which the keys shall count; two years from today unless given.
    #[arg(long, value_name = "YYYY-MM-DD")]
    valid_until: Option<Date>,
    /// Print the public entry as JSON instead of TOML.
    #[arg(long)]
    json: bool,
}

/// The roster's table for one organization.
#[derive(Serialize)]
struct Entry {
    organization: [Party; 1],
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
        files::create_private(&self.out, &identity.to_text())?;
        let party = identity.party(valid_until);
        eprintln!(
            "The private keys are in {} (mode 0600): back them up, and never send them. The public half follows; send it \
             to whoever draws up the roster.",
            self.out.display()
        );
        if self.json {
            return output::print_json(&party);
        }
        output::print(&toml::to_string(&Entry { organization: [party] }).map_err(Failure::local)?)
    }
}
