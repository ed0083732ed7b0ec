//! `export`: the adapter after the last round that this client has applied.

use std::path::{Path, PathBuf};

use crate::{
    config::{Loaded, today},
    ledger::{LedgerFile, LedgerState},
    result::{self, Manifest},
    run::kept_adapter,
};
use clap::Args;
use consilium_proto::plan::PrivacyUnit;

use super::{Failure, output};

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The client's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Folder for the result; files of an earlier export in it are replaced.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Also write the head that stays at home, as `head.local.safetensors`. It has learned from your records without noise: it is yours,
    /// it is not private, and it is not part of the signed result.
    #[arg(long)]
    with_local: bool,
    /// Print the manifest as JSON.
    #[arg(long)]
    json: bool,
}

impl Export {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let loaded = Loaded::load(&self.config, today())?;
        let manifest = write(&loaded, &self.out)?;
        let local = self.with_local.then(|| result::write_local(&self.out, &loaded)).transpose()?;
        if self.json {
            return output::print_json(&manifest);
        }
        let privacy = &manifest.privacy;
        let red = match privacy.unit {
            PrivacyUnit::None => output::red("NO PRIVACY: this adapter was trained without noise") + "\n",
            _ => String::new(),
        };
        let own = match (local, manifest.local.is_empty()) {
            (Some(path), _) => {
                output::red(&format!("NOT PRIVATE: {}", path.display()))
                    + " has learned from your records without noise; do not hand it on\n"
            }
            (None, false) => "the head stays at home: --with-local writes it for your own use\n".to_owned(),
            (None, true) => String::new(),
        };
        output::print(&format!(
            "{}: the adapter of job {} after round {}\n{red}in {}: ε = {} against the coordinator with the tolerated \
             colluders, {} against everybody else, δ = {:e}, {} debits\n{own}signed by {}: {}\n",
            self.out.display(),
            manifest.job,
            manifest.round,
            privacy.view,
            output::epsilon(privacy.epsilon),
            output::epsilon(privacy.epsilon_local),
            privacy.delta,
            privacy.debits,
            manifest.organization,
            self.out.join(result::MANIFEST).display()
        ))
    }
}

/// Writes the kept adapter with its manifest.
pub(crate) fn write(loaded: &Loaded, out: &Path) -> Result<Manifest, Failure> {
    let folder = loaded.config.job_folder(&loaded.plan);
    let Some((round, state)) = kept_adapter(&folder, &loaded.plan)? else {
        return Err(Failure::refused(format!(
            "{}: no adapter of this plan is kept here; run the client until it has applied a round",
            folder.display()
        )));
    };
    let ledger = loaded.config.ledger();
    let ledger = if ledger.exists() {
        LedgerFile::read(&ledger, &loaded.config.data.name)?.0
    } else {
        LedgerState::new(loaded.config.data.name.clone(), [0; 32])
    };
    let spent = ledger.spent(&loaded.plan.document().job);
    Ok(result::write_release(out, loaded, round, &state, spent)?)
}
