//! What every acting command has in common: it says first what it would do, does it only with `--yes`, and signs it with the
//! operator's own key.

use std::io::Write;

use clap::Args;
use consilium_proto::{
    action::{Action, What, check_reason},
    wire::{ActRequest, JobStatus, SignedAction, StatusRequest},
};
use serde_json::json;

use super::{
    Failure,
    table::clean,
    target::{TargetArgs, block_on},
    write_json,
};
use crate::service::now_ms;

#[derive(Debug, Args)]
pub(super) struct ActArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Why, one line of at most 200 characters; it stands in the job's record beside your signature.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Do it.
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Ask the coordinator what it would do, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl ActArgs {
    /// Carries out what follows from the job as it is now.
    pub(super) fn run(
        self,
        out: &mut dyn Write,
        what: impl FnOnce(&JobStatus) -> Result<What, Failure>,
    ) -> Result<(), Failure> {
        check_reason(&self.reason).map_err(Failure::refused)?;
        let target = self.target.resolve()?;
        let plan = target.plan.as_ref().ok_or_else(|| {
            Failure::Refused(
                "an instruction names its job by the plan, and no plan is given; use --plan, or --config with a file that has it"
                    .into(),
            )
        })?;
        let plan = plan.digest();
        let (verb, done, reply) = block_on(async {
            let (mut client, link) = target.client().await?;
            let status = link.answer(client.status(StatusRequest {})).await?;
            let operator = target.identity.id.clone();
            let action = Action {
                number: status.actions + 1,
                operator,
                at_ms: now_ms(),
                what: what(&status)?,
                reason: self.reason.clone(),
            };
            // Not signed: whoever holds it can carry out nothing.
            let asked = SignedAction { action: action.encode(&plan), signature: Vec::new() };
            let dry = ActRequest { action: Some(asked), dry_run: true };
            let would = link.answer(client.act(dry)).await?;
            if !self.yes {
                return Ok((action.what.verb(), false, would));
            }
            let signed = action.sign(&plan, target.identity.signing_key());
            let act = ActRequest { action: Some(signed), dry_run: false };
            Ok((action.what.verb(), true, link.answer(client.act(act)).await?))
        })?;
        let effect = clean(&reply.effect);
        if !done && !self.dry_run {
            return Err(Failure::Usage(format!(
                "nothing was done; {verb} would do this, says the coordinator: {effect}; repeat it with --yes"
            )));
        }
        if self.json {
            return write_json(
                out,
                &json!({
                    "action": verb, "done": done, "number": reply.number, "effect": effect, "view": "the coordinator",
                }),
            );
        }
        match done {
            true => writeln!(out, "{verb}, number {} in the job's record: {effect}", reply.number)?,
            false => writeln!(out, "{verb} would be number {} in the job's record: {effect}", reply.number)?,
        }
        Ok(())
    }
}
