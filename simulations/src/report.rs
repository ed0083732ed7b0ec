//! What a simulation came to.

use std::fmt;

use consilium_crypto::digest::Digest;
use consilium_proto::wire::RoundSummary;

/// The end of a simulation.
#[derive(Clone, Debug)]
pub struct Report {
    /// Digest of the adapter that the coordinator and every organization ended with.
    pub adapter_digest: Digest,
    /// Digest over the whole event log.
    pub log_digest: Digest,
    /// Every attempt, oldest first, as the operator's table has it.
    pub attempts: Vec<RoundSummary>,
    /// Released sums that were compared with the plain sums of what their survivors encoded; all were equal.
    pub sums: u32,
    /// Virtual time.
    pub virtual_seconds: f64,
    /// Wall time.
    pub seconds: f64,
}

impl Report {
    /// Attempts that ended with a sum.
    pub fn released(&self) -> impl Iterator<Item = &RoundSummary> {
        self.attempts.iter().filter(|attempt| attempt.outcome == "released")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "round  attempt  outcome             survivors    loss  accuracy  evaluated   virtual s"
        )?;
        for attempt in &self.attempts {
            let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
            writeln!(
                f,
                "{:>5}  {:>7}  {:<18}  {:>9}  {:>6}  {:>8}  {:>9}  {:>10.1}",
                attempt.round,
                attempt.attempt,
                attempt.outcome,
                attempt.survivors.len(),
                number(attempt.train_loss),
                number(attempt.train_accuracy),
                number(attempt.test_accuracy),
                attempt.seconds,
            )?;
        }
        writeln!(
            f,
            "loss and accuracy: all survivors' training, from the noisy sum; evaluated: org-0001 on the public test set"
        )?;
        writeln!(f, "{} released sums equal the plain sums of what their survivors encoded", self.sums)?;
        writeln!(f, "adapter {}", self.adapter_digest)?;
        writeln!(f, "log     {}", self.log_digest)?;
        write!(f, "{:.1} virtual seconds in {:.2} s", self.virtual_seconds, self.seconds)
    }
}

/// An attempt that has just ended, for people who wait.
#[derive(Clone, Debug)]
pub struct Progress(String);

impl Progress {
    pub(crate) fn new(attempt: &RoundSummary, rounds: u32, virtual_seconds: f64, seconds: f64) -> Self {
        Self(format!(
            "round {}/{rounds} attempt {}: {}, {} survivors; {virtual_seconds:.1} virtual seconds, {seconds:.1} s",
            attempt.round,
            attempt.attempt,
            attempt.outcome,
            attempt.survivors.len(),
        ))
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
