//! `pause`, `resume`, `stop`, `leave`: what a person here decides, signed, and at once.

use std::{
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use clap::Args;
use consilium_proto::{ids::Id, plan::VerifiedPlan};
use jiff::Timestamp;
use serde::Serialize;

use super::{Failure, output};
use crate::{
    config::Config,
    decisions::{Act, Decided, Decision, Decisions},
    files::FolderLock,
    live::Live,
};

/// How long a command waits for a running client to say that it has acted.
const WAIT: Duration = Duration::from_secs(30);

/// Who decides, and why.
#[derive(Debug, Args)]
pub(crate) struct Person {
    /// The client's configuration.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Who decides: a name that means something to whoever reads the journal later.
    #[arg(long, value_name = "NAME")]
    pub(crate) by: String,
    /// Why.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) reason: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Leaving {
    #[command(flatten)]
    pub(crate) person: Person,
    /// The job's name once more: this cannot be taken back for its present plan.
    #[arg(long, value_name = "JOB")]
    pub(crate) confirm: Id,
}

impl Leaving {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let config = Config::load(&self.person.config)?;
        let roster = config.open_roster()?;
        let job = config.open_plan(&roster)?.document().job.clone();
        if job != self.confirm {
            return Err(Failure::refused(format!(
                "--confirm names {}, and the job is {job}; nothing was decided",
                self.confirm
            )));
        }
        decide(Act::Leave, &self.person)
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    decision: &'a Decision,
    /// Whether a running client has acted; absent: none is running here.
    acted: Option<bool>,
}

/// Signs and records a decision about the plan at hand.
pub(crate) fn record(
    config: &Config,
    plan: &VerifiedPlan,
    act: Act,
    person: &Person,
) -> Result<Decision, Failure> {
    let identity = config.open_identity()?;
    let decided = Decided {
        time: Timestamp::now(),
        act,
        job: plan.document().job.clone(),
        plan: plan.digest().to_string(),
        by: person.by.clone(),
        reason: person.reason.clone(),
    };
    Ok(Decisions::append(&config.state, &identity, decided)?)
}

pub(crate) fn decide(act: Act, person: &Person) -> Result<(), Failure> {
    let config = Config::load(&person.config)?;
    let roster = config.open_roster()?;
    let plan = config.open_plan(&roster)?;
    let job = &plan.document().job;
    let key = config.open_identity()?.signing_key().verifying_key();
    let before = Decisions::read(&config.state, &config.organization)?.standing(job, &plan.digest(), &key);
    if act == Act::Resume {
        match before.halted() {
            None => return Err(Failure::refused(format!("job {job} is neither paused nor stopped here"))),
            Some(left) if left.act == Act::Leave => {
                return Err(Failure::refused(format!(
                    "{} left job {job} on {}: there is no way back under this plan; a later one can be approved",
                    left.by, left.time
                )));
            }
            Some(_) => {}
        }
    }
    let running = FolderLock::is_held(&config.state);
    let decision = record(&config, &plan, act, person)?;
    let acted = running.then(|| wait_until_acted(&config, &plan, act));
    if person.json {
        return output::print_json(&Shown { decision: &decision, acted });
    }
    let Decided { by, time, .. } = &decision.decided;
    let what = match act {
        Act::Approve => "approved",
        Act::Reject => "rejected",
        Act::Pause => "paused",
        Act::Resume => "resumed",
        Act::Stop => "stopped",
        Act::Leave => "left",
    };
    let then = match (acted, act) {
        (None, Act::Resume) => "no client is running here; start it with `consilium-client run`".to_owned(),
        (None, _) => "no client is running here; one that is started heeds it".to_owned(),
        (Some(true), _) => "the running client has acted on it".to_owned(),
        (Some(false), _) => format!(
            "the running client has not said yet that it has acted; look with `consilium-client status --config {}`",
            person.config.display()
        ),
    };
    output::print(&format!("job {job}: {what} by {by} at {time:.0}, signed\n{then}\n"))
}

/// Waits until the client that runs here has acted on a decision that was just written.
fn wait_until_acted(config: &Config, plan: &VerifiedPlan, act: Act) -> bool {
    let folder = config.job_folder(plan);
    let began = Instant::now();
    while began.elapsed() < WAIT {
        if has_acted(&folder, act) || !FolderLock::is_held(&config.state) {
            return true;
        }
        sleep(Duration::from_millis(50));
    }
    false
}

fn has_acted(folder: &Path, act: Act) -> bool {
    let phase = Live::read(folder).map(|live| live.phase).unwrap_or_default();
    match act {
        Act::Pause => phase == "paused",
        Act::Resume => phase != "paused",
        _ => phase == "ended",
    }
}
