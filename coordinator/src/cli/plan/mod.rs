//! `consilium plan`: make a plan from a template, check its arithmetic, show it.

mod model;
mod refusal;
mod report;
mod start;
mod template;

use std::{io::Write, path::PathBuf};

use clap::{Args, Subcommand};
use consilium_crypto::digest::Digest;
use consilium_proto::{
    plan::{Plan as Document, PrivacyUnit, TaskKind},
    signed::{Kind, fingerprint},
};
use serde_json::json;

use super::{
    Failure, parse_digest, read_document, read_signatures, roster::verified, table::Table, write_json,
};
use crate::files;
use refusal::Refusal;
use report::Report;

/// Makes, checks and shows job plans.
#[derive(Debug, Subcommand)]
pub(super) enum Plan {
    New(New),
    Check(Check),
    Show(Show),
}

impl Plan {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Self::New(command) => command.run(out),
            Self::Check(command) => command.run(out),
            Self::Show(command) => command.run(out),
        }
    }
}

/// Makes a plan from a template, a roster and a model folder.
///
/// Fills in what follows from them: the roster's fingerprint, the model's digests, every tensor of the adapter, and, where
/// the template leaves them out, the cohort's numbers, the noise, the scale and the ring's width.
///
/// With adapter.start in the template, the adapter goes on from a PEFT folder: its values are written to PLAN.start, which belongs to the
/// plan and goes wherever it goes.
#[derive(Debug, Args)]
#[command(after_long_help = template::HELP, after_help = "\
Example (`--help` shows a whole template):
  consilium plan new --template template.toml --roster roster.toml --model models/minilm --out plan.toml")]
pub(super) struct New {
    /// The template.
    #[arg(long, value_name = "FILE")]
    template: PathBuf,
    /// The roster that the job runs under.
    #[arg(long, value_name = "FILE")]
    roster: PathBuf,
    /// Folder with config.json, tokenizer.json and model.safetensors. May be left out if the template lists every [[adapter.tensor]].
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// The plan's file; never overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl New {
    fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        if self.out.exists() {
            return Err(files::FileError::Exists { path: self.out }.into());
        }
        let template = template::read(&self.template)?;
        let roster_text = read_document(&self.roster)?;
        let roster = consilium_proto::roster::Roster::parse(&roster_text)
            .map_err(|e| Failure::in_file(&self.roster, e))?;
        let model = match &self.model {
            folder if template.names_tensors() => model::read_digests(folder.as_deref())?,
            Some(folder) => model::read(folder)?,
            None => {
                let why = "--model is missing: the tensors follow from the model's folder";
                return Err(Failure::Refused(format!(
                    "{why}, unless the template lists every [[adapter.tensor]]"
                )));
            }
        };
        let (plan, start) = template
            .fill(&roster, fingerprint(Kind::Roster, &roster_text), &model)
            .map_err(|why| Failure::in_file(&self.template, why))?;
        let text = plan.to_text().map_err(|e| Failure::in_file(&self.template, e))?;
        // What is written is what every client will read.
        let plan = Document::read(&text).map_err(|e| Failure::in_file(&self.out, e))?;
        let derived =
            plan.check().map_err(|e| Refusal::new(&plan, &e).report(&self.template, self.json, out))?;
        let report = Report::new(&plan, &derived, fingerprint(Kind::Plan, &text))?;
        if let Some(start) = start {
            // Beside the plan and before it: a plan never stands without the file that it names.
            files::write_atomic(&start::path(&self.out), &start)?;
        }
        files::create_public(&self.out, &text)?;
        if self.json {
            return write_json(out, &json!({"plan": self.out, "numbers": report}));
        }
        writeln!(out, "{}\n", self.out.display())?;
        write!(out, "{report}")?;
        Ok(())
    }
}

/// Recomputes everything that follows from a plan, and prints the numbers.
///
/// A plan that does not work is refused: a sum that could wrap, noise or honest contributors too few, hours without a common
/// window, a budget that ends before the rounds and a reserve for retries do, and whatever else is out of its range. The
/// refusal shows the arithmetic, and the nearest changes with which the plan works.
///
/// With --roster and --pin, the roster and the plan's signatures in FILE.sig are verified as well, as every client will.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium plan check plan.toml
  consilium plan check plan.toml --roster roster.toml --pin $(cat pin.txt) --json")]
pub(super) struct Check {
    /// The plan.
    file: PathBuf,
    /// The roster, to verify the plan's signatures.
    #[arg(long, value_name = "FILE", requires = "pin")]
    roster: Option<PathBuf>,
    /// The roster's pinned fingerprint.
    #[arg(long, value_name = "FINGERPRINT", value_parser = parse_digest, requires = "roster")]
    pin: Option<Digest>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Check {
    fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let text = read_document(&self.file)?;
        let plan = Document::read(&text).map_err(|e| Failure::in_file(&self.file, e))?;
        let derived = plan.check().map_err(|e| Refusal::new(&plan, &e).report(&self.file, self.json, out))?;
        let signed = match (&self.roster, &self.pin) {
            (Some(roster), Some(pin)) => {
                let roster = verified(roster, pin)?;
                let signatures = read_signatures(&self.file)?;
                Document::verify(&text, &signatures, &roster).map_err(|e| Failure::in_file(&self.file, e))?;
                true
            }
            _ => false,
        };
        let report = Report::new(&plan, &derived, fingerprint(Kind::Plan, &text))?;
        if self.json {
            return write_json(
                out,
                &json!({"plan": self.file, "signatures_verified": signed, "numbers": report}),
            );
        }
        write!(out, "{report}")?;
        let words = if signed { "hold" } else { "not looked at (give --roster and --pin)" };
        writeln!(out, "signatures: {words}")?;
        Ok(())
    }
}

/// Shows what a plan says: model, task, and every tensor that is trained.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  consilium plan show plan.toml")]
pub(super) struct Show {
    /// The plan.
    file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Show {
    fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let text = read_document(&self.file)?;
        let (plan, _) = Document::parse(&text).map_err(|e| Failure::in_file(&self.file, e))?;
        let digest = fingerprint(Kind::Plan, &text);
        if self.json {
            return write_json(out, &json!({"fingerprint": digest.to_string(), "document": plan}));
        }
        writeln!(out, "job {}: {} rounds, fingerprint {digest}", plan.job, plan.rounds)?;
        writeln!(out, "roster {}", plan.roster)?;
        let model = &plan.model;
        writeln!(
            out,
            "model {} (weights {}), at most {} tokens",
            model.name, model.weights, model.max_tokens
        )?;
        let (kind, labels) = (plan.task.kind, &plan.task.labels);
        match kind {
            TaskKind::SingleLabel => {}
            TaskKind::MultiLabel => writeln!(out, "any number of labels for a text")?,
            TaskKind::NextToken => writeln!(out, "the next token is learned; no labels")?,
        }
        if !labels.is_empty() {
            writeln!(out, "{} labels: {}", labels.len(), labels.join(", "))?;
        }
        let unit = plan.privacy.unit;
        let red = if unit == PrivacyUnit::None { "NO PRIVACY: " } else { "" };
        writeln!(out, "{red}protects {}", unit.protects())?;
        if !plan.privacy.note.is_empty() {
            writeln!(out, "note: {}", plan.privacy.note)?;
        }
        let e = &plan.evaluation;
        writeln!(
            out,
            "{} evaluates every {} rounds on at most {} examples\n",
            e.organization, e.every_rounds, e.max_examples
        )?;
        let mut table = Table::new(&["tensor", "shape", "starts", "trained"]);
        for tensor in &plan.adapter.tensors {
            let shape: Vec<_> = tensor.shape.iter().map(u32::to_string).collect();
            let starts =
                if tensor.bound == 0.0 { "at zero".to_owned() } else { format!("within ±{}", tensor.bound) };
            let trained = match tensor.trained {
                true if plan.adapter.is_local(&tensor.name) => "stays at home",
                true => "yes",
                false => "frozen",
            };
            table.row([tensor.name.clone(), format!("[{}]", shape.join(", ")), starts, trained.to_owned()]);
        }
        write!(out, "{table}")?;
        Ok(())
    }
}
