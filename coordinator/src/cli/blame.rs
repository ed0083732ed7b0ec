//! `consilium blame`: what convicts a member, fetched from the coordinator, and verified without it.

use std::{io::Write, path::PathBuf};

use clap::{Args, Subcommand};
use consilium_crypto::digest::Digest;
use consilium_proto::{
    evidence::{Evidence, MAX_FILE_BYTES},
    wire::EvidenceRequest,
};
use serde_json::json;

use super::{
    Failure, parse_digest,
    roster::verified,
    target::{TargetArgs, block_on, read_plan},
    write_json,
};
use crate::files;

/// Evidence against members that broke the protocol.
#[derive(Debug, Subcommand)]
pub(super) enum Blame {
    Export(Export),
    Verify(Verify),
}

impl Blame {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Self::Export(command) => command.run(out),
            Self::Verify(command) => command.run(out),
        }
    }
}

/// Writes the coordinator's evidence to files, one for each offence. Believes nothing: see `verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium blame export --config operator.toml --out evidence")]
pub(super) struct Export {
    #[command(flatten)]
    target: TargetArgs,
    /// Folder for the files; made if it is not there. A file that is there already is left alone.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print JSON: a list of files.
    #[arg(long)]
    json: bool,
}

impl Export {
    fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let target = self.target.resolve()?;
        let all = block_on(async {
            let (mut client, link) = target.client().await?;
            let mut pieces = link.answer(client.evidence(EvidenceRequest {})).await?;
            let mut all = Vec::new();
            while let Some(piece) = pieces.message().await.map_err(|status| link.failed(&status))? {
                all.extend(Evidence::from_wire(piece));
            }
            Ok(all)
        })?;
        std::fs::create_dir_all(&self.out)
            .map_err(|e| Failure::in_file(&self.out, format!("the folder cannot be made: {e}")))?;
        let mut written = Vec::new();
        for evidence in all {
            let path = self.out.join(evidence.file_name());
            match files::create_public(&path, &evidence.to_text()) {
                Ok(()) | Err(files::FileError::Exists { .. }) => written.push(path),
                Err(error) => return Err(error.into()),
            }
        }
        if self.json {
            return write_json(out, &json!(written));
        }
        if written.is_empty() {
            writeln!(out, "the coordinator has evidence against nobody")?;
        }
        for path in written {
            writeln!(out, "{}", path.display())?;
        }
        Ok(())
    }
}

/// Verifies evidence with roster and plan alone, without a connection and without believing whoever made the file.
///
/// Exit code 0: every file convicts whom it names. 1: one of them does not, and then it convicts nobody.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium blame verify evidence/round-3-attempt-1-site-2-c3.toml --roster roster.toml --pin $(cat pin.txt) --plan plan.toml")]
pub(super) struct Verify {
    /// Evidence files.
    #[arg(required = true, num_args = 1..)]
    files: Vec<PathBuf>,
    /// The roster's first version; later ones and revocations are found beside it.
    #[arg(long, value_name = "FILE")]
    roster: PathBuf,
    /// The roster's pinned fingerprint.
    #[arg(long, value_name = "FINGERPRINT", value_parser = parse_digest)]
    pin: Digest,
    /// The job's signed plan.
    #[arg(long, value_name = "FILE")]
    plan: PathBuf,
    /// Print JSON: a list of verdicts.
    #[arg(long)]
    json: bool,
}

impl Verify {
    fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let roster = verified(&self.roster, &self.pin)?;
        let plan = read_plan(&self.plan, &roster)?;
        let mut verdicts = Vec::new();
        for path in &self.files {
            let text = files::read_text(path, MAX_FILE_BYTES as u64)?;
            let evidence = Evidence::parse(&text).map_err(|e| Failure::in_file(path, e))?;
            verdicts.push(evidence.verify(&roster, &plan).map_err(|e| Failure::in_file(path, e))?);
        }
        if self.json {
            let verdicts: Vec<_> = verdicts
                .iter()
                .map(|verdict| {
                    json!({
                        "round": verdict.round, "attempt": verdict.attempt, "culprit": verdict.culprit,
                        "check": verdict.offence.check(), "offence": verdict.offence.to_string(),
                    })
                })
                .collect();
            return write_json(out, &json!(verdicts));
        }
        for verdict in verdicts {
            writeln!(
                out,
                "{} in round {}, attempt {}: {} (check {})",
                verdict.culprit,
                verdict.round,
                verdict.attempt,
                verdict.offence,
                verdict.offence.check()
            )?;
        }
        Ok(())
    }
}
