//! What was verified last, so that the same bytes are not verified twice.
//!
//! A client is shown one announcement several times: on every new connection, and again when its witnesses have answered. Where many
//! members share a process and a plan, as in simulations and tests, all of them are shown the same. What verification says is a
//! function of the bytes, the roster and the plan, so it may be remembered: the last accepted one of each kind, found again by
//! comparing everything that went in. What was refused is not kept.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use consilium_crypto::{digest::Digest, secagg::Attempt};

use crate::{announcement::Announcement, release::VerifiedHead, wire};

/// The last accepted result of a verification, with what went into it.
pub(crate) struct Last<In, Out>(Mutex<Option<(In, Out)>>);

impl<In, Out> Default for Last<In, Out> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<In: PartialEq + Clone, Out: Clone> Last<In, Out> {
    /// The result for `input`: remembered, or computed now and remembered.
    pub(crate) fn or_else<E>(
        &self,
        same: impl Fn(&In) -> bool,
        input: impl FnOnce() -> In,
        compute: impl FnOnce() -> Result<Out, E>,
    ) -> Result<Out, E> {
        // Whoever panicked while it held the lock had not written yet.
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, out)) = lock().as_ref().filter(|(last, _)| same(last)) {
            return Ok(out.clone());
        }
        let out = compute()?;
        *lock() = Some((input(), out.clone()));
        Ok(out)
    }
}

/// One of each kind; a part of the plan under which they were verified. Each input begins with the roster's digest.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) announcement: Last<(Digest, wire::SignedAnnouncement), Announcement>,
    pub(crate) facts: Last<(Digest, Announcement), Attempt>,
    pub(crate) head: Last<(Digest, wire::SignedReleaseHead), VerifiedHead>,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Known")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_accepted_is_known_and_only_for_the_same_input() {
        let last = Last::<u32, u32>::default();
        let ask =
            |input: u32, answer: Result<u32, ()>| last.or_else(|last| *last == input, || input, || answer);
        assert_eq!(ask(1, Err(())), Err(()));
        assert_eq!(ask(1, Ok(10)), Ok(10));
        assert_eq!(ask(1, Err(())), Ok(10), "remembered");
        assert_eq!(ask(2, Err(())), Err(()), "another input");
        assert_eq!(ask(2, Ok(20)), Ok(20));
        assert_eq!(ask(1, Err(())), Err(()), "only the last");
    }
}
