//! What was verified last, so that the same bytes are not verified twice.
//!
//! A client is shown one announcement several times: on every new connection, and again when its witnesses have answered. Where many
//! members share a process, as in simulations and tests, all of them are shown the same. What verification says is a function of what goes
//! into it, so it may be remembered: the last accepted one of each kind, found again by comparing everything that went in. What was refused
//! is not kept.
//!
//! Only what is public may be remembered here. Without `std` there is no lock, and nothing is remembered.

use core::fmt;

#[cfg(feature = "std")]
type Kept<In, Out> = std::sync::Mutex<Option<(In, Out)>>;
#[cfg(not(feature = "std"))]
type Kept<In, Out> = core::marker::PhantomData<fn() -> (In, Out)>;

/// The last accepted result of a verification, with what went into it.
pub struct Last<In, Out>(Kept<In, Out>);

impl<In, Out> Default for Last<In, Out> {
    fn default() -> Self {
        Self(Kept::default())
    }
}

impl<In, Out: Clone> Last<In, Out> {
    /// The result for an input: remembered if the last input was the same, or computed now and remembered.
    ///
    /// # Errors
    ///
    /// Those of `compute`.
    #[cfg(feature = "std")]
    pub fn or_else<E>(
        &self,
        same: impl Fn(&In) -> bool,
        input: impl FnOnce() -> In,
        compute: impl FnOnce() -> Result<Out, E>,
    ) -> Result<Out, E> {
        // Whoever panicked while it held the lock had not written yet.
        let lock = || self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, out)) = lock().as_ref().filter(|(last, _)| same(last)) {
            return Ok(out.clone());
        }
        let out = compute()?;
        *lock() = Some((input(), out.clone()));
        Ok(out)
    }

    /// The result for an input, computed.
    ///
    /// # Errors
    ///
    /// Those of `compute`.
    #[cfg(not(feature = "std"))]
    pub fn or_else<E>(
        &self,
        _: impl Fn(&In) -> bool,
        _: impl FnOnce() -> In,
        compute: impl FnOnce() -> Result<Out, E>,
    ) -> Result<Out, E> {
        compute()
    }
}

impl<In, Out> fmt::Debug for Last<In, Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Last")
    }
}

#[cfg(all(test, feature = "std"))]
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
