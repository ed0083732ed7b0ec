//! Bringing a state that was restored from an old copy, or lost, to where its peers have seen it.
//!
//! What was lost is known only from what peers hold: how long the ledger was at the start of the last attempt that this client
//! took part in, and which attempt that was. So every debit up to there, and one for that attempt itself, is charged
//! again in full, and every attempt up to there is fenced off. Which debits they were is not known; their number is, and `ε`
//! follows from the number. Charging too much is possible (the last attempt may have failed before its debit); too little is
//! not, as long as the debits that were lost belong to the plans that are given.
//!
//! Every step is durable and leaves the next one to be done again: whoever dies in the middle starts anew.

use std::collections::BTreeMap;

use consilium_proto::plan::VerifiedPlan;
use thiserror::Error;

use crate::{
    journal::{Journal, JournalError},
    ledger::{Debit, LedgerError, LedgerFile, LedgerState},
    session::{Event, Lost, Recorded},
};

/// What recovering would do, or has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Debits to be charged, by job.
    pub debits: BTreeMap<String, u64>,
    /// No attempt of the current job up to this one will be joined; `None`: the fence stays where it is.
    pub fence: Option<(u32, u32)>,
}

/// Why a state cannot be recovered with what is at hand.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// Nothing says that it was restored.
    #[error(
        "nothing says that this state is older than what peers hold; `consilium-client run` asks them at every start"
    )]
    NotRestored,
    /// Peers hold adverts of a job whose plan is not at hand.
    #[error(
        "peers hold an advert of job {job} (plan {plan}) with a ledger of {length} debits; name its plan with --also PLAN, so that \
         what was lost can be charged at its price, or, if this data set never took part in that job, say so with \
         --other-data-set"
    )]
    NoPlan {
        /// The job.
        job: String,
        /// Its plan's fingerprint.
        plan: String,
        /// The ledger's length in the advert.
        length: u64,
    },
    /// More debits than the plan had attempts.
    #[error(
        "{lost} debits are lost, and job {job} can have spent {possible} of them by round {round} attempt {attempt}: the others \
         belong to jobs that peers hold nothing of; put the newest backup of the ledger back"
    )]
    TooMany {
        /// The job.
        job: String,
        /// Debits lost.
        lost: u64,
        /// Attempts it had that have no debit.
        possible: u64,
        /// Of the advert.
        round: u32,
        /// Of the advert.
        attempt: u32,
    },
    /// The ledger cannot record.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The session's journal cannot record.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// What would be charged: the debits, in order, and the fence.
type Charges = (Vec<Debit>, Option<(u32, u32)>);

/// Works out what is to be charged. `plan` is the current one, `also` those of other jobs that ran on this data set;
/// `elsewhere`: jobs that are not among them ran on another data set.
///
/// # Errors
///
/// [`RecoverError::NotRestored`], [`RecoverError::NoPlan`], [`RecoverError::TooMany`].
pub fn charges(
    recorded: &Recorded,
    ledger: &LedgerState,
    plan: &VerifiedPlan,
    also: &[VerifiedPlan],
    elsewhere: bool,
) -> Result<Charges, RecoverError> {
    let mut lost: Vec<&Lost> = recorded.restored().iter().collect();
    if lost.is_empty() {
        return Err(RecoverError::NotRestored);
    }
    // The shorter ledger came first; what lies between two of them belongs to the plan of the longer.
    lost.sort_by_key(|lost| lost.length);
    let (mut debits, mut fence) = (Vec::new(), None);
    let mut length = ledger.length();
    for lost in lost {
        let of = |plan: &&VerifiedPlan| plan.digest().to_string() == lost.plan;
        if of(&plan) {
            fence = Some((lost.round, lost.attempt).max(recorded.fence));
        }
        let Some(priced) = std::iter::once(plan).chain(also).find(of) else {
            if elsewhere {
                continue;
            }
            let Lost { job, plan, length, .. } = lost.clone();
            return Err(RecoverError::NoPlan { job, plan, length });
        };
        // A ledger that was told at this length and is not this one's: nothing of it is known to be here.
        let same = ledger.told_at(lost.length).is_none_or(|head| head.to_string() == lost.head);
        let due = match (same, recorded.recovering()) {
            (true, _) => (lost.length + 1).saturating_sub(length),
            // An earlier try has charged a part of it.
            (false, Some(target)) => target.saturating_sub(length),
            (false, None) => lost.length + 1,
        };
        let free = |&(round, attempt): &(u32, u32)| !ledger.has(priced, round, attempt);
        let attempts = backwards(priced, lost.round, lost.attempt).filter(free);
        let taken: Vec<_> = attempts.take(usize::try_from(due).unwrap_or(usize::MAX)).collect();
        if (taken.len() as u64) < due {
            let (job, possible) = (lost.job.clone(), taken.len() as u64);
            let (round, attempt) = (lost.round, lost.attempt);
            return Err(RecoverError::TooMany { job, lost: due, possible, round, attempt });
        }
        length += due;
        debits.extend(taken.into_iter().rev().map(|(round, attempt)| Debit::of(priced, round, attempt)));
    }
    Ok((debits, fence))
}

/// What the session's journal knows of that the ledger does not: a header is recorded after its debit, so a ledger without it is
/// older than the journal beside it.
pub fn behind_journal(events: &[Event], ledger: &LedgerState, plan: &VerifiedPlan) -> Option<Lost> {
    let job = &plan.document().job;
    let debited = |of: &(u32, u32)| {
        ledger.debits().iter().any(|debit| debit.job == *job && (debit.round, debit.attempt) == *of)
    };
    let header = |event: &Event| match event {
        Event::Header { round, attempt, .. } => Some((*round, *attempt)),
        _ => None,
    };
    let missing: Vec<_> = events.iter().filter_map(header).filter(|of| !debited(of)).collect();
    let &(round, attempt) = missing.iter().max()?;
    Some(Lost {
        job: job.to_string(),
        plan: plan.digest().to_string(),
        round,
        attempt,
        length: ledger.length() + missing.len() as u64 - 1,
        head: ledger.salted_head().to_string(),
    })
}

/// The attempts of a plan up to this one, latest first.
fn backwards(plan: &VerifiedPlan, round: u32, attempt: u32) -> impl Iterator<Item = (u32, u32)> {
    let most = plan.document().retries.max_attempts;
    (1..=round).rev().flat_map(move |of| {
        let last = if of == round { attempt } else { most };
        (1..=last).rev().map(move |attempt| (of, attempt))
    })
}

/// Charges and fences, durably: debits first, so that what is joined afterwards is always paid for.
///
/// # Errors
///
/// As [`charges`]; [`RecoverError::Ledger`], [`RecoverError::Journal`], after which it may be called again.
pub fn recover(
    recorded: &Recorded,
    (file, ledger): (&mut LedgerFile, &mut LedgerState),
    journal: &mut Journal<Event>,
    plan: &VerifiedPlan,
    also: &[VerifiedPlan],
    elsewhere: bool,
) -> Result<Recovery, RecoverError> {
    let (debits, fence) = charges(recorded, ledger, plan, also, elsewhere)?;
    if recorded.recovering().is_none() {
        journal.append(&[Event::Recovering { length: ledger.length() + debits.len() as u64 }])?;
    }
    for debit in &debits {
        ledger.debit(debit.clone()).map_err(LedgerError::from)?;
        file.append(debit)?;
    }
    ledger.recovered();
    file.recovered()?;
    let known = |plan: &&String| also.iter().all(|other| other.digest().to_string() != **plan);
    let foreign = recorded.restored().iter().map(|lost| &lost.plan).filter(known);
    let other_data_sets = if elsewhere {
        foreign.filter(|of| **of != plan.digest().to_string()).cloned().collect()
    } else {
        Vec::new()
    };
    let (round, attempt) = fence.unwrap_or(recorded.fence);
    journal.append(&[Event::Recovered { round, attempt, other_data_sets }])?;
    Ok(summary(&debits, fence))
}

/// The charges in short.
pub fn summary(debits: &[Debit], fence: Option<(u32, u32)>) -> Recovery {
    let mut by_job = BTreeMap::new();
    debits.iter().for_each(|debit| *by_job.entry(debit.job.to_string()).or_default() += 1);
    Recovery { debits: by_job, fence }
}
