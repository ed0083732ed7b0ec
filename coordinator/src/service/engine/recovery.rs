//! A job rebuilt from its store.

use consilium_proto::wire::SignedReleaseHead;

use crate::{
    round::{Event, Job, Recovered, RecoveryError},
    service::{ServiceError, recent::Recent},
    store::{EventRecord, Store},
};

/// Rebuilds a job from a store's events; how many there are.
pub(crate) fn recover(job: &mut Job, store: &impl Store) -> Result<u64, ServiceError> {
    recover_and(job, store, &mut Recent::default())
}

pub(super) fn recover_and(
    job: &mut Job,
    store: &impl Store,
    recent: &mut Recent,
) -> Result<u64, ServiceError> {
    let mut events = 0;
    let mut failed: Option<RecoveryError> = None;
    let broken = |record: &EventRecord, why: String| RecoveryError {
        round: record.round,
        attempt: record.attempt,
        why,
    };
    store.replay(&mut |record| {
        events += 1;
        if failed.is_some() {
            return Ok(());
        }
        let event = match Event::decode(&record.kind, &record.body) {
            Ok(event) => event,
            Err(error) => {
                failed = Some(broken(&record, error.to_string()));
                return Ok(());
            }
        };
        recent.note(record.round, record.attempt, record.at_ms, &event);
        let recovered =
            Recovered { round: record.round, attempt: record.attempt, event, at_ms: record.at_ms };
        let mut release = |round| {
            let row = store.release(round).ok().flatten()?;
            Some((SignedReleaseHead { head: row.head, signature: row.signature }, row.sum))
        };
        if let Err(error) = job.replay(recovered, &mut release) {
            failed = Some(error);
        }
        Ok(())
    })?;
    failed.map_or(Ok(events), |error| Err(error.into()))
}
