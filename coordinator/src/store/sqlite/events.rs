//! Event rows and the chain of links over them.

use consilium_crypto::digest::{Digest, Transcript};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::{number, opening::Trouble};
use crate::store::NewEvent;

/// Sequence and link of the last event.
pub(super) fn last_event(database: &Connection, plan: Digest) -> rusqlite::Result<(u64, Digest)> {
    let last = database
        .query_row("SELECT sequence, link FROM event ORDER BY sequence DESC LIMIT 1", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 32]>(1)?))
        })
        .optional()?;
    Ok(match last {
        Some((sequence, link)) => (u64::try_from(sequence).unwrap_or(0), Digest(link)),
        None => (0, first_link(plan)),
    })
}

/// Writes one event after the given one; returns its sequence and link.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    (sequence, link): (u64, Digest),
    event: &NewEvent,
) -> Result<(u64, Digest), Trouble> {
    let sequence = sequence + 1;
    let link = next_link(&link, sequence, event);
    let at_ms = number("at_ms", event.at_ms).map_err(Trouble::Refused)?;
    let place = number("sequence", sequence).map_err(Trouble::Refused)?;
    transaction
        .prepare_cached(
            "INSERT INTO event (sequence, round, attempt, kind, body, at_ms, link) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            place,
            i64::from(event.round),
            i64::from(event.attempt),
            event.kind,
            event.body,
            at_ms,
            link.as_bytes().as_slice()
        ])?;
    Ok((sequence, link))
}

/// Sequence, event and link of a row; a number that no append wrote becomes 0, which its link then contradicts.
pub(super) fn event_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<(u64, NewEvent, Vec<u8>)> {
    let unsigned =
        |column| -> rusqlite::Result<u64> { Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0)) };
    let event = NewEvent {
        round: row.get(1)?,
        attempt: row.get(2)?,
        kind: row.get(3)?,
        body: row.get(4)?,
        at_ms: unsigned(5)?,
    };
    Ok((unsigned(0)?, event, row.get(6)?))
}

/// The link before the first event: another job's events do not follow it.
pub(super) fn first_link(plan: Digest) -> Digest {
    Transcript::new("consilium/1/store").digest(&plan).finish()
}

/// An event's link: over the one before it, its place, and everything it says.
pub(super) fn next_link(before: &Digest, sequence: u64, event: &NewEvent) -> Digest {
    Transcript::new("consilium/1/store-event")
        .digest(before)
        .u64(sequence)
        .u64(event.round.into())
        .u64(event.attempt.into())
        .bytes(event.kind.as_bytes())
        .bytes(&event.body)
        .u64(event.at_ms)
        .finish()
}
