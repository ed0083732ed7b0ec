//! What a coordinator's state may forget: masked inputs past their time.
//!
//! Those of an attempt without a sum are of no use to anybody once it has ended; those of a released one are kept as long as the
//! plan says. Normally they go at once; this finds what a crash has left, and what has come of age.

use std::{fs, path::PathBuf};

use consilium_proto::plan::VerifiedPlan;

use crate::store::{InputLayout, StoreError, StoreView, StoredJob};

const HOUR_MS: u64 = 3_600_000;

/// Masked inputs of one attempt that may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Round.
    pub round: u32,
    /// Attempt.
    pub attempt: u32,
    /// Its folder.
    pub folder: PathBuf,
    /// Bytes in it.
    pub bytes: u64,
}

/// What may go at a moment, oldest first.
///
/// # Errors
///
/// [`StoreError`].
pub fn due(state: &std::path::Path, plan: &VerifiedPlan, now_ms: u64) -> Result<Vec<Due>, StoreError> {
    let job = StoredJob { plan: plan.digest(), input: InputLayout::of_plan(plan.derived()) };
    let keep_ms = plan.document().retention.as_ref().map_or(0, |it| u64::from(it.masked_inputs_h) * HOUR_MS);
    let inputs = state.join("inputs");
    let mut all = Vec::new();
    for ended in StoreView::open(state, &job)?.ended()? {
        let folder = inputs.join(format!("round-{}-attempt-{}", ended.round, ended.attempt));
        let keep_ms = if ended.with_sum { keep_ms } else { 0 };
        if folder.is_dir() && now_ms >= ended.at_ms.saturating_add(keep_ms) {
            let bytes = fs::read_dir(&folder)
                .map(|entries| {
                    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|it| it.len()).sum()
                })
                .unwrap_or(0);
            all.push(Due { round: ended.round, attempt: ended.attempt, folder, bytes });
        }
    }
    Ok(all)
}

/// Removes what may go; what was removed. May run beside a coordinator that serves: it asks for none of this again.
///
/// # Errors
///
/// [`StoreError`]; what was removed before stays removed.
pub fn prune(state: &std::path::Path, plan: &VerifiedPlan, now_ms: u64) -> Result<Vec<Due>, StoreError> {
    let due = due(state, plan, now_ms)?;
    for attempt in &due {
        fs::remove_dir_all(&attempt.folder)
            .map_err(|e| StoreError::io(state, &attempt.folder, "removed", e))?;
    }
    Ok(due)
}
