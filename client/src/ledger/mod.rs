//! What a data set's privacy has cost so far, and whether one more attempt fits.
//!
//! The ledger belongs to the organization's **data set**, not to a job: every job debits the same one. It is append-only.
//! There is exactly one [`Debit`] for every attempt of which a byte left the organization, never two, and it is durable
//! before that byte leaves.
//!
//! `ε` values are never added. Every question ([`LedgerState::spent`], [`LedgerState::admits`]) is answered by composing all
//! the entries it concerns anew, through [`consilium_crypto::privacy`]; equal entries are counted together and answers are
//! kept, so that asking before every round is cheap. An entry therefore records what a recomputation needs.
//!
//! - [`LedgerState`]: in memory, no clock and no file; what the session asks.
//! - [`LedgerFile`]: the same on disk, a [`crate::journal`] whose first entry names the data set and a random salt.
//!
//! Peers hold its length and a **salted head** from every advertise message. The salt stays at home, so the head tells
//! them nothing about other jobs; if this ledger is ever restored from an old copy, they know that it was longer.
//!
//! What it does not do: see patients who have records at several organizations (each one's ledger counts alone), or
//! find out by itself that it was restored: that takes the session and its peers, and [`crate::recover`] charges what was lost.

#[cfg(test)]
mod crash_tests;
mod debit;
mod file;
mod state;
mod tally;
#[cfg(test)]
mod tests;

use consilium_crypto::privacy::PrivacyError;
use consilium_proto::ids::Id;
use thiserror::Error;

pub use debit::Debit;
pub use file::{LEDGER_FILE, LedgerError, LedgerFile};
pub use state::{LedgerState, Outlook, Spent};

/// A bound on what may be spent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Greatest `ε`.
    pub epsilon: f64,
    /// At this `δ`.
    pub delta: f64,
}

/// Why an attempt must not be debited, and therefore not take place.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum LedgerRefusal {
    /// The attempt has its debit already.
    #[error(
        "round {round} attempt {attempt} of this plan is debited already; an attempt is encoded once, and its only cure is \
         the next attempt"
    )]
    Twice {
        /// The round.
        round: u32,
        /// The attempt.
        attempt: u32,
    },
    /// The job's own budget ends here.
    #[error(
        "one more attempt would bring job {job} to ε = {epsilon:.4} at δ = {:e}, and its plan allows {}; it has {debits} \
         debits: the job ends here, unless the consortium signs a plan with a larger budget",
        budget.delta, budget.epsilon
    )]
    JobBudget {
        /// The job.
        job: Id,
        /// `ε` after the attempt.
        epsilon: f64,
        /// What the plan allows.
        budget: Budget,
        /// Debits of the job so far.
        debits: u64,
    },
    /// The organization's own budget over all jobs ends here.
    #[error(
        "one more attempt would bring this data set to ε = {epsilon:.4} at δ = {:e} over {debits} debits of all its jobs, \
         and policy.epsilon_total allows {}; raising it is this organization's decision alone",
        budget.delta, budget.epsilon
    )]
    TotalBudget {
        /// `ε` after the attempt.
        epsilon: f64,
        /// What the policy allows.
        budget: Budget,
        /// Debits so far, all jobs.
        debits: u64,
    },
    /// The organization's own budget against everybody else together, over all jobs, ends here.
    #[error(
        "one more attempt would bring this data set to ε = {epsilon:.4} at δ = {:e} against everybody else together, over \
         {debits} debits of all its jobs, and policy.epsilon_total_everybody_else allows {}; raising it is this organization's \
         decision alone",
        budget.delta, budget.epsilon
    )]
    EverybodyElse {
        /// `ε` after the attempt.
        epsilon: f64,
        /// What the policy allows.
        budget: Budget,
        /// Debits so far, all jobs.
        debits: u64,
    },
    /// A plan without noise, at an organization that has a budget.
    #[error(
        "job {job} adds no noise (privacy.unit = \"none\"): no ε bounds it, and policy.epsilon_total sets one; run it on \
         another data set, or lift the budget: that is this organization's decision alone"
    )]
    NoGuarantee {
        /// The job.
        job: Id,
    },
    /// A debit contradicts itself.
    #[error("a debit's {field} is {value}: {problem}")]
    Malformed {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The accountant cannot bound what the entries cost.
    #[error("what this data set has spent cannot be bounded: {0}")]
    Unbounded(#[from] PrivacyError),
}
