//! `trainer`: a trainer of the organization's own, outside the client.

use std::path::PathBuf;

use crate::{
    config::{ConfigError, Loaded, today},
    files::FileError,
    run::plan_text,
    trainer::{
        ExternalTrainer,
        external::{Setup, tls},
    },
};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{ConfiguredJson, Failure, output};

#[derive(Debug, Subcommand)]
pub(crate) enum TrainerCommand {
    /// Dial the trainer, hand it the plan, and say who it is.
    #[command(
        after_help = "Examples:\n  consilium-client trainer check --config client.toml\n  consilium-client trainer check \
        --config client.toml --json | jq -r .digest\n\nPut the digest into external.digest to ask this code and no other. \
        Nothing is trained."
    )]
    Check(ConfiguredJson),
    /// Make the keys between the client and a trainer on another node.
    #[command(
        after_help = "Example:\n  consilium-client trainer keys --out keys/trainer\n\nMove trainer.key.pem to the \
        trainer's node, and copy trainer.cert.pem and client.cert.pem there; external.keys names this folder. These keys open \
        nothing else."
    )]
    Keys(Keys),
}

#[derive(Debug, Args)]
pub(crate) struct Keys {
    /// Folder for the four files; nothing is ever overwritten.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Serialize)]
struct Who {
    at: String,
    name: String,
    /// SHA-256 of its code, by its own account.
    digest: String,
}

impl TrainerCommand {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Check(command) => check(&command),
            Self::Keys(command) => command.run(),
        }
    }
}

fn check(command: &ConfiguredJson) -> Result<(), Failure> {
    let loaded = Loaded::load(&command.configured.config, today())?;
    let Some(external) = &loaded.config.external else {
        return Err(ConfigError::Value {
            field: "training.trainer",
            value: "built-in".into(),
            rule: "there is no trainer outside the client to be asked",
        }
        .into());
    };
    let place = external.place()?;
    let at = place.to_string();
    let mut trainer = ExternalTrainer::new(Setup {
        plan: &loaded.plan,
        plan_text: plan_text(&loaded.config, &loaded.plan)?,
        place,
        patients: Vec::new(),
        answer: external.answer(),
        digest: external.digest,
        folder: None,
    })?;
    let who = trainer.introduce()?;
    let who = Who { at, name: who.name, digest: who.digest };
    if command.json {
        return output::print_json(&who);
    }
    output::print(&format!(
        "{}: {}, code {}\nIt takes the plan. It clips; the client adds the noise.\n",
        who.at, who.name, who.digest
    ))
}

impl Keys {
    fn run(self) -> Result<(), Failure> {
        let out = &self.out;
        std::fs::create_dir_all(out).map_err(|source| FileError::io("create", out, source))?;
        tls::make_keys(out).map_err(Failure::refused)?;
        output::print(&format!(
            "{}  private: move it to the trainer's node\n{}, {}  copy them there\n{}  private: stays here\n",
            out.join(tls::TRAINER_KEY).display(),
            out.join(tls::TRAINER_CERTIFICATE).display(),
            tls::CLIENT_CERTIFICATE,
            out.join(tls::CLIENT_KEY).display()
        ))
    }
}
