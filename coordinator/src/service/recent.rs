//! The last recorded events in a short form, for operators: who, when, in which step, and never what a message held.
//!
//! The record itself is the store's; this keeps its end at hand, so that a question about it costs the round nothing.

use std::collections::VecDeque;

use consilium_proto::wire::LogEntry;

use crate::round::Event;

/// Entries that are kept at hand.
const KEPT: usize = 8192;
/// Most entries of one answer.
const PORTION: usize = 512;

/// The end of the record.
#[derive(Debug, Default)]
pub(super) struct Recent {
    entries: VecDeque<LogEntry>,
    last: u64,
}

impl Recent {
    /// Notes the next event of the job.
    pub(super) fn note(&mut self, round: u32, attempt: u32, at_ms: u64, event: &Event) {
        self.last += 1;
        self.entries.push_back(entry(self.last, round, attempt, at_ms, event));
        if self.entries.len() > KEPT {
            self.entries.pop_front();
        }
    }

    /// Entries from a sequence on, oldest first, a portion at most.
    pub(super) fn from(&self, sequence: u64) -> Vec<LogEntry> {
        let first = self.entries.front().map_or(1, |entry| entry.sequence);
        let skip = usize::try_from(sequence.saturating_sub(first)).unwrap_or(usize::MAX);
        self.entries.iter().skip(skip).take(PORTION).cloned().collect()
    }
}

fn entry(sequence: u64, round: u32, attempt: u32, at_ms: u64, event: &Event) -> LogEntry {
    let mut entry =
        LogEntry { sequence, round, attempt, at_ms, kind: event.kind().into(), ..LogEntry::default() };
    match event {
        Event::Accepted { from, step, .. } => {
            (entry.who, entry.step) = (from.to_string(), step_word(*step).into());
        }
        Event::Stored { from, .. } => entry.who = from.to_string(),
        Event::Closed { step } => entry.step = step_word(*step).into(),
        Event::Blamed { culprit, check, .. } => {
            (entry.who, entry.code) = (culprit.to_string(), check.clone());
        }
        Event::Declined { from, code } => (entry.who, entry.code) = (from.to_string(), code.clone()),
        Event::Failed { code, .. } => entry.code = code.clone(),
        Event::Acted(action) => entry.action = Some(action.clone()),
        Event::Opened(_)
        | Event::Released { .. }
        | Event::Returned { .. }
        | Event::Seen { .. }
        | Event::Logged(_)
        | Event::Evaluated(_)
        | Event::Pardoned => {}
    }
    entry
}

/// The word for a step's number on the wire.
pub(super) fn step_word(step: u32) -> &'static str {
    const WORDS: [&str; 5] = ["advertise", "share", "input", "vote", "unmask"];
    let index = (step as usize).checked_sub(1);
    index.and_then(|index| WORDS.get(index)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_at_hand_and_no_entry_holds_what_a_message_held() {
        let mut recent = Recent::default();
        let from = "site-1".parse().unwrap();
        let event = Event::Accepted { from, step: 2, body: b"sealed shares".to_vec() };
        for _ in 0..KEPT + 10 {
            recent.note(1, 1, 5, &event);
        }
        let portion = recent.from(1);
        assert_eq!((portion.len(), portion[0].sequence), (PORTION, 11), "the oldest ten are not at hand");
        assert_eq!(recent.from(KEPT as u64 + 8).len(), 3);
        assert!(recent.from(u64::MAX).is_empty());
        assert_eq!((portion[0].who.as_str(), portion[0].step.as_str()), ("site-1", "share"));
        let text = format!("{:?}", portion[0]);
        assert!(!text.contains("sealed") && !text.contains("115, 101"), "{text}");
    }
}
