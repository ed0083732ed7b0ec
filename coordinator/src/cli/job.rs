//! `consilium job`: hold, release and end a job.

use std::io::Write;

use clap::Subcommand;
use consilium_proto::action::What;

use super::{Failure, act::ActArgs};

/// Starts, pauses, resumes or stops the job. Each is signed with your own key and stands in the job's record.
#[derive(Debug, Subcommand)]
pub(super) enum Job {
    /// Begins a job whose coordinator is configured with start = "manual".
    #[command(after_help = "\
Example:
  consilium job start --config operator.toml --reason 'all five sites have called in' --yes")]
    Start(ActArgs),
    /// Begins no new attempt. One that runs goes on to its end, because what it has cost in privacy would be lost.
    #[command(after_help = "\
Example:
  consilium job pause --config operator.toml --reason 'network maintenance tonight' --dry-run
  consilium job pause --config operator.toml --reason 'network maintenance tonight' --yes")]
    Pause(ActArgs),
    /// Goes on after a pause.
    #[command(after_help = "\
Example:
  consilium job resume --config operator.toml --reason 'maintenance is over' --yes")]
    Resume(ActArgs),
    /// Ends the job for good once no attempt runs; what was released stays. `round abort` ends a running attempt.
    #[command(after_help = "\
Example:
  consilium job stop --config operator.toml --reason 'the study board closed the study' --yes")]
    Stop(ActArgs),
}

impl Job {
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let (what, args) = match self {
            Self::Start(args) => (What::JobStart, args),
            Self::Pause(args) => (What::JobPause, args),
            Self::Resume(args) => (What::JobResume, args),
            Self::Stop(args) => (What::JobStop, args),
        };
        args.run(out, |_| Ok(what))
    }
}
