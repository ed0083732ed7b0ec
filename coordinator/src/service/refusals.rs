//! What the service refuses, by name: counted always, logged at most once a second for each code and party.
//!
//! A flood must not become a flood of log lines, so a line says how many refusals it stands for. Codes are words from a
//! fixed list in [`code`], in [`crate::round`] (chunks) or in the manual's check table (messages); a party is named once it
//! has shown its key.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use consilium_proto::{ids::Id, wire::Problem};

/// Codes of this module's callers.
pub(super) mod code {
    /// A connection showed no key of the roster in time, or did not begin to speak HTTP/2.
    pub(in crate::service) const HANDSHAKE_LATE: &str = "handshake-late";
    /// It was the oldest stranger when one too many came.
    pub(in crate::service) const STRANGER_REPLACED: &str = "stranger-replaced";
    /// What came first is not TLS, or the TLS handshake failed: no key, or one that the roster does not list.
    pub(in crate::service) const HANDSHAKE_BAD: &str = "handshake-bad";
    /// A call on the port for inspected connections, without a signature over that connection's challenge.
    pub(in crate::service) const CHALLENGE_BAD: &str = "challenge-bad";
    /// What came first inside TLS is not HTTP/2.
    pub(in crate::service) const NOT_HTTP2: &str = "not-http2";
    /// A party's oldest connection, when it opened one too many.
    pub(in crate::service) const CONNECTION_REPLACED: &str = "connection-replaced";
    /// Frames that HTTP/2 forbids.
    pub(in crate::service) const HTTP2_BROKEN: &str = "http2-broken";
    /// It did not answer whether it is still there.
    pub(in crate::service) const CONNECTION_DEAD: &str = "connection-dead";
    /// Too many calls under way.
    pub(in crate::service) const TOO_MANY_CALLS: &str = "too-many-calls";
    /// Too many new calls a second.
    pub(in crate::service) const CALLS_TOO_FAST: &str = "calls-too-fast";
    /// Too many session messages a second: they wait.
    pub(in crate::service) const MESSAGES_TOO_FAST: &str = "messages-too-fast";
    /// A party that may not make this call.
    pub(in crate::service) const NOT_ALLOWED: &str = "not-allowed";
    /// An operator's instruction that does not hold.
    pub(in crate::service) const ACTION_REFUSED: &str = "action-refused";
    /// A session without a first message.
    pub(in crate::service) const HELLO_LATE: &str = "hello-late";
    /// A session whose first message is not the greeting, or that greets twice.
    pub(in crate::service) const OUT_OF_PLACE: &str = "out-of-place";
    /// A message longer than its kind can be.
    pub(in crate::service) const TOO_LARGE: &str = "too-large";
    /// Bytes that are no message: a length that lies, or rubbish.
    pub(in crate::service) const NOT_DECODABLE: &str = "not-decodable";
    /// A chunk did not arrive in time.
    pub(in crate::service) const UPLOAD_STALLED: &str = "upload-stalled";
    /// A newer upload of the same organization took its place.
    pub(in crate::service) const UPLOAD_REPLACED: &str = "upload-replaced";
    /// A chunk that this stream has brought already.
    pub(in crate::service) const CHUNK_REPEATED: &str = "chunk-repeated";
    /// An upload that ended before its last chunk.
    pub(in crate::service) const CHUNKS_MISSING: &str = "chunks-missing";
    /// A reader of published sums that does not read.
    pub(in crate::service) const READER_STALLED: &str = "reader-stalled";
}

/// Least time between two lines of one code and party.
const PACE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Seen {
    total: u64,
    /// Since the last line.
    pending: u64,
    logged: Option<Instant>,
    why: String,
    /// When the last hour's were: full minutes since the first, and how many in each.
    minutes: VecDeque<(u64, u64)>,
}

/// Minutes of which refusals are counted apart.
const MINUTES: u64 = 60;
/// Kinds of refusals that an operator is shown.
const SHOWN: usize = 32;

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<BTreeMap<(&'static str, Option<Id>), Seen>>);

impl Refusals {
    /// Counts a refusal and logs it, unless the same one was logged a moment ago.
    pub(super) fn note(&self, code: &'static str, who: Option<&Id>, why: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = all.entry((code, who.cloned())).or_default();
        seen.total += 1;
        seen.count(minute());
        seen.pending += 1;
        seen.why = why.chars().take(200).collect();
        seen.log_if_due(code, who, Instant::now());
    }

    /// What was refused in the last hour, most often first.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let now = minute();
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut problems: Vec<_> = all
            .iter()
            .map(|((code, who), seen)| Problem {
                code: (*code).to_owned(),
                who: who.as_ref().map(Id::to_string).unwrap_or_default(),
                total: seen.total,
                last_hour: seen.last_hour(now),
            })
            .filter(|problem| problem.last_hour > 0)
            .collect();
        problems.sort_by(|a, b| b.last_hour.cmp(&a.last_hour).then_with(|| a.code.cmp(&b.code)));
        problems.truncate(SHOWN);
        problems
    }

    /// Logs what was counted since its last line. To be called every second or so.
    pub(super) fn flush(&self) {
        let now = Instant::now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for ((code, who), seen) in all.iter_mut().filter(|(_, seen)| seen.pending > 0) {
            seen.log_if_due(code, who.as_ref(), now);
        }
    }
}

/// Full minutes of a clock that only goes forward.
fn minute() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed().as_secs() / 60
}

impl Seen {
    fn count(&mut self, minute: u64) {
        match self.minutes.back_mut() {
            Some((at, times)) if *at == minute => *times += 1,
            _ => self.minutes.push_back((minute, 1)),
        }
        while self.minutes.front().is_some_and(|(at, _)| at + MINUTES <= minute) {
            self.minutes.pop_front();
        }
    }

    fn last_hour(&self, minute: u64) -> u64 {
        self.minutes.iter().filter(|(at, _)| at + MINUTES > minute).map(|(_, times)| times).sum()
    }

    /// How many refusals a line would stand for now; none if the last line is too recent.
    fn due(&mut self, now: Instant) -> Option<u64> {
        if self.pending == 0 || self.logged.is_some_and(|last| now.duration_since(last) < PACE) {
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.pending))
    }

    fn log_if_due(&mut self, code: &str, who: Option<&Id>, now: Instant) {
        if let Some(times) = self.due(now) {
            let who = who.map_or("", Id::as_str);
            tracing::warn!(code, who, times, total = self.total, why = self.why, "refused");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_a_second_that_says_how_many() {
        let (mut seen, begin) = (Seen::default(), Instant::now());
        let mut lines = Vec::new();
        for ms in 0..2_500 {
            seen.pending += 1;
            lines.extend(seen.due(begin + Duration::from_millis(ms)));
        }
        assert_eq!(lines, [1, 1000, 1000]);
        assert_eq!(seen.due(begin + Duration::from_secs(3)), Some(499));
        assert_eq!(seen.due(begin + Duration::from_secs(9)), None, "nothing came since");
    }

    #[test]
    fn the_last_hour_is_counted_apart() {
        let mut seen = Seen::default();
        for minute in [0, 0, 30, 59, 60] {
            seen.count(minute);
        }
        assert_eq!([60, 89, 90, 200].map(|minute| seen.last_hour(minute)), [3, 3, 2, 0]);
    }
}
