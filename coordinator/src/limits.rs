//! How much of the machine anybody may use, and for how long: the `[limits]` table of `coordinator.toml`.
//!
//! Strangers (connections that have not shown a key of the roster) can only use what [`Limits::strangers`] and
//! [`Limits::handshake_s`] leave them. Members are known by name, so their limits are per organization or operator: one
//! that goes wild harms itself. Every default serves 1000 organizations; what turning it costs stands at the field.

use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

/// The limits, as written. Fields that are left out have their defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Open files that the process asks the system for at its start: 65536. It gets at most the hard limit. Each
    /// connection takes one, each upload one more while a chunk is written.
    pub open_files: u32,
    /// Connections that have not shown a key yet, at once: 1024. When more come, the oldest goes. More costs about 2 KiB
    /// each while they say nothing, 40 KiB while they shake hands; fewer lets a flood push out an honest member that takes
    /// longer to shake hands than it takes the flood to open so many connections.
    pub strangers: u32,
    /// Seconds from the connection to the first bytes of HTTP/2: 10. More keeps silent connections longer; fewer shuts
    /// out members with slow lines.
    pub handshake_s: u32,
    /// Connections of one organization or operator: 4. When it opens another, its oldest is closed. A client needs one,
    /// and another while the coordinator has not noticed that the first is dead; an operator needs one for each command.
    pub connections: u32,
    /// Calls under way of one organization or operator, over all its connections: 12. A client needs three. Each may
    /// hold `window_bytes` and one message.
    pub calls: u32,
    /// New calls a second of one organization or operator, twice as many at once: 50. A client makes two a round.
    pub calls_per_s: u32,
    /// Session messages a second of one organization, twice as many at once: 50. What comes faster waits in the sender's
    /// own connection. A client sends five a round, each verified.
    pub messages_per_s: u32,
    /// Seconds from the opening of a session to its first message: 10.
    pub hello_s: u32,
    /// Seconds in which a chunk of an upload must arrive, and a reader of published sums must take a part: 60. With the
    /// largest chunk, 256 KiB, the slowest line that serves has 35 kbit/s. More lets a stalled upload hold its call longer.
    pub stall_s: u32,
    /// Uploads read at once as long as they keep up with the coordinator: 8. Those whose chunks take long to arrive are
    /// limited by their lines and read beside these. More costs 0.5 MiB each and gains nothing once the disk is busy.
    pub uploads: u32,
    /// Bytes that one call may have under way unread: 65536; a connection twice as many. One upload is no faster than this
    /// in a round-trip time (1.3 MB/s at 50 ms). More costs so much memory for each organization that uploads.
    pub window_bytes: u32,
    /// Seconds between two questions whether a silent connection is still there, and until the answer is missed: 10. More
    /// finds a dead client later, and past 240 firewalls forget the connection; fewer costs two packets each.
    pub keepalive_s: u32,
    /// Seconds that calls under way have to end after SIGTERM: 10. Then they are cut.
    pub drain_s: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            open_files: 65_536,
            strangers: 1024,
            handshake_s: 10,
            connections: 4,
            calls: 12,
            calls_per_s: 50,
            messages_per_s: 50,
            hello_s: 10,
            stall_s: 60,
            uploads: 8,
            window_bytes: 65_536,
            keepalive_s: 10,
            drain_s: 10,
        }
    }
}

/// A limit that cannot be worked with.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("limits.{field} = {value} is out of range; write {low} to {high}, or leave it out")]
pub struct LimitError {
    field: &'static str,
    value: u32,
    low: u32,
    high: u32,
}

impl Limits {
    /// Checks every field's range.
    ///
    /// # Errors
    ///
    /// [`LimitError`] with the first field that is out of it.
    pub fn check(&self) -> Result<(), LimitError> {
        for (field, value, low, high) in [
            ("open_files", self.open_files, 64, 1 << 24),
            ("strangers", self.strangers, 1, 1 << 20),
            ("handshake_s", self.handshake_s, 1, 600),
            ("connections", self.connections, 1, 1000),
            ("calls", self.calls, 3, 1000),
            ("calls_per_s", self.calls_per_s, 1, 100_000),
            ("messages_per_s", self.messages_per_s, 1, 100_000),
            ("hello_s", self.hello_s, 1, 600),
            ("stall_s", self.stall_s, 1, 3600),
            ("uploads", self.uploads, 1, 1000),
            ("window_bytes", self.window_bytes, 16_384, 1 << 26),
            ("keepalive_s", self.keepalive_s, 1, 240),
            ("drain_s", self.drain_s, 1, 3600),
        ] {
            if !(low..=high).contains(&value) {
                return Err(LimitError { field, value, low, high });
            }
        }
        Ok(())
    }

    /// Asks the system for [`Limits::open_files`]; the number that the process may open now. Soft limits are often 1024,
    /// which is as many connections.
    pub fn raise_open_files(&self) -> u64 {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let now = getrlimit(Resource::Nofile);
        let wanted = u64::from(self.open_files).min(now.maximum.unwrap_or(u64::MAX));
        if now.current.is_none_or(|soft| soft >= wanted) {
            return now.current.unwrap_or(u64::MAX);
        }
        let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: now.maximum });
        if raised.is_ok() { wanted } else { now.current.unwrap_or(0) }
    }
}

/// A field in seconds.
pub(crate) fn seconds(value: u32) -> Duration {
    Duration::from_secs(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_range_and_what_is_not_is_named() {
        assert_eq!(Limits::default().check(), Ok(()));
        let wrong = Limits { keepalive_s: 241, ..Limits::default() };
        let error = wrong.check().unwrap_err().to_string();
        assert_eq!(error, "limits.keepalive_s = 241 is out of range; write 1 to 240, or leave it out");
        let nothing: Limits = toml::from_str("").unwrap();
        assert_eq!(nothing, Limits::default());
        assert!(toml::from_str::<Limits>("streams = 3").is_err(), "unknown fields are refused");
    }

    #[test]
    fn files_are_raised_and_never_lowered() {
        let few = Limits { open_files: 64, ..Limits::default() }.raise_open_files();
        assert!(few >= 64);
        assert!(Limits::default().raise_open_files() >= few);
    }
}
