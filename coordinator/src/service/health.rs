//! What the coordinator knows of its own machine: the disk, the record's chain, the newest backup, keys that end.
//!
//! A task looks now and then, `[observe]` says how often. The chain is walked on a connection of its own, so the round waits for nothing.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use consilium_proto::{
    pinning::day_of,
    roster::{Party, VerifiedRoster},
    wire::{self, KeyEnd},
};
use jiff::civil::Date;
use rustls::pki_types::UnixTime;

use super::engine::now_ms;
use crate::{
    backup::MARK,
    store::{SqliteStore, StoredJob},
};

/// Looks that a forecast is made from: an hour's, if it looks once a minute.
const LOOKS_KEPT: usize = 61;
/// Keys that end within so many days are named.
const DAYS_AHEAD: i64 = 30;

/// The machine, as it was last seen.
pub(super) struct Machine {
    folder: PathBuf,
    job: StoredJob,
    roster: Arc<VerifiedRoster>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Time and free bytes, oldest first.
    free: VecDeque<(u64, u64)>,
    /// When the chain was last walked, and whether it held.
    chain: Option<(u64, bool)>,
    /// When the newest backup was made.
    backup_ms: Option<u64>,
}

impl Machine {
    pub(super) fn new(folder: &Path, job: StoredJob, roster: Arc<VerifiedRoster>) -> Arc<Self> {
        Arc::new(Self { folder: folder.to_owned(), job, roster, seen: Mutex::default() })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks again and again, and walks the chain less often.
    pub(super) async fn look_on(self: Arc<Self>, every: Duration, walk_every: Duration) {
        let mut pulse = tokio::time::interval(every);
        let mut walked: Option<Instant> = None;
        loop {
            pulse.tick().await;
            let walk = walked.is_none_or(|at| at.elapsed() >= walk_every);
            if walk {
                walked = Some(Instant::now());
            }
            let machine = self.clone();
            // A look that panics is a look less.
            drop(tokio::task::spawn_blocking(move || machine.look(now_ms(), walk)).await);
        }
    }

    /// Looks once; walks the chain if asked.
    pub(super) fn look(&self, now_ms: u64, walk: bool) {
        let free = rustix::fs::statvfs(&self.folder).ok();
        let free = free.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        let backup_ms = std::fs::metadata(self.folder.join(MARK)).and_then(|it| it.modified()).ok();
        let backup_ms = backup_ms.and_then(since_epoch_ms);
        if let Some(free) = free {
            self.note_free(now_ms, free);
        }
        self.seen().backup_ms = backup_ms;
        if walk {
            let walked = SqliteStore::walk(&self.folder, &self.job);
            if let Err(error) = &walked {
                tracing::error!(%error, "the record's chain does not hold");
            }
            self.seen().chain = Some((now_ms, walked.is_ok()));
        }
    }

    /// Notes how much of the disk is free.
    fn note_free(&self, now_ms: u64, free: u64) {
        let mut seen = self.seen();
        seen.free.push_back((now_ms, free));
        while seen.free.len() > LOOKS_KEPT {
            seen.free.pop_front();
        }
    }

    /// What is known now.
    pub(super) fn health(&self, now_ms: u64) -> wire::Health {
        let seen = self.seen();
        let ago = |at: u64| now_ms.saturating_sub(at) as f64 / 1e3;
        wire::Health {
            disk_free_bytes: seen.free.back().map(|(_, free)| *free),
            disk_full_seconds: full_in(&seen.free),
            chain_holds: seen.chain.map(|(_, holds)| holds),
            chain_checked_seconds: seen.chain.map(|(at, _)| ago(at)),
            backup_seconds: seen.backup_ms.map(ago),
            keys: ending(&self.roster, day_of(UnixTime::now())),
        }
    }
}

fn since_epoch_ms(at: SystemTime) -> Option<u64> {
    u64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// Seconds until nothing is free at the pace from the first look to the last; none if it is not filling.
fn full_in(free: &VecDeque<(u64, u64)>) -> Option<f64> {
    let ((from_ms, from), (to_ms, to)) = (free.front()?, free.back()?);
    let (used, took_ms) = (from.checked_sub(*to)?, to_ms.checked_sub(*from_ms)?);
    (used > 0 && took_ms > 0).then(|| *to as f64 / used as f64 * took_ms as f64 / 1e3)
}

/// The parties whose keys end soon or have ended, the soonest first.
fn ending(roster: &VerifiedRoster, today: Date) -> Vec<KeyEnd> {
    let mut keys: Vec<_> = parties(roster)
        .map(|(role, party)| (days_left(party, today), role, party))
        .filter(|(days, _, _)| *days <= DAYS_AHEAD)
        .map(|(days, role, party)| KeyEnd {
            id: party.id.to_string(),
            role: role.into(),
            days: i32::try_from(days).unwrap_or(i32::MIN),
        })
        .collect();
    keys.sort_by(|a, b| (a.days, &a.id).cmp(&(b.days, &b.id)));
    keys
}

/// Everybody whom the roster lists, with a role.
pub(crate) fn parties(roster: &VerifiedRoster) -> impl Iterator<Item = (&'static str, &Party)> {
    let document = roster.document();
    let with = |role: &'static str| move |party| (role, party);
    std::iter::once(("coordinator", &document.coordinator))
        .chain(document.organizations.iter().map(with("organization")))
        .chain(document.operators.iter().map(with("operator")))
        .chain(document.viewers.iter().map(with("viewer")))
}

/// Days until the last on which a key counts; negative when it has ended.
pub(crate) fn days_left(party: &Party, today: Date) -> i64 {
    today.until(party.valid_until).map_or(0, |span| i64::from(span.get_days()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_fills_is_forecast_and_one_that_does_not_is_not() {
        let looks = |free: &[u64]| (0u64..).map(|at| at * 60_000).zip(free.iter().copied()).collect();
        let full: VecDeque<_> = looks(&[100_000, 99_000, 98_000]);
        assert_eq!(full_in(&full), Some(98_000.0 / 2_000.0 * 120.0));
        assert_eq!(full_in(&looks(&[100, 100])), None);
        assert_eq!(full_in(&looks(&[100, 200])), None, "somebody tidied up");
        assert_eq!(full_in(&looks(&[100])), None, "one look tells no pace");
        assert_eq!(full_in(&looks(&[])), None);
    }
}
