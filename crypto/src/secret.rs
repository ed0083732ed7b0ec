//! The one wrapper for secrets.
//!
//! A [`Secret`] is wiped when it is dropped, prints as `<redacted>`, and cannot be cloned, compared or
//! serialized. There is one way in, [`Secret::expose`], so that a reader can list every use of a
//! secret with one search. The value lives on the heap, so that moving the wrapper from one protocol
//! step to the next leaves no copy behind on the stack.
//!
//! Every key, share, salt and seed of the protocol is in one. Four types hold what is secret in another form,
//! because it is large and worked on in place or lives inside another library's type; they wipe and redact by
//! themselves, which a test below holds them to: an update ([`RingVector`](crate::ring::RingVector)), a lot's
//! sum ([`LotSum`](crate::encoding::LotSum)), a generator's stream ([`BulkRng`](crate::noise::BulkRng)) and a
//! roster key ([`SigningKey`](crate::sign::SigningKey)).
//!
//! # Not protected
//!
//! Copies that the compiler spills to registers or the stack during a computation, pages swapped to
//! disk, core dumps, and whatever a caller copies out of `expose()`.

use alloc::boxed::Box;
use core::fmt;

use zeroize::Zeroize;

/// A value that is wiped on drop and never printed.
pub struct Secret<T: Zeroize>(Box<T>);

impl<T: Zeroize> Secret<T> {
    /// Takes `value` in. The caller's own copy, if it kept one, stays the caller's to wipe.
    pub fn new(value: T) -> Self {
        Self(Box::new(value))
    }

    /// Fills a value in place, starting from `blank`, so that the secret is never on the stack.
    pub fn fill(blank: T, fill: impl FnOnce(&mut T)) -> Self {
        let mut value = Box::new(blank);
        fill(&mut value);
        Self(value)
    }

    /// The one way in.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize + Default> Secret<T> {
    /// [`fill`](Self::fill), starting from the default.
    pub fn build(fill: impl FnOnce(&mut T)) -> Self {
        Self::fill(T::default(), fill)
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> zeroize::ZeroizeOnDrop for Secret<T> {}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{format, rc::Rc};
    use core::cell::Cell;

    struct Probe(Rc<Cell<bool>>);
    impl Zeroize for Probe {
        fn zeroize(&mut self) {
            self.0.set(true);
        }
    }

    #[test]
    fn prints_nothing_of_its_value() {
        let secret = Secret::new([0x5au8; 32]);
        assert_eq!(format!("{secret:?}"), "<redacted>");
        assert_eq!(format!("{:?}", Some(&secret)), "Some(<redacted>)");
    }

    #[test]
    fn is_wiped_when_dropped() {
        let wiped = Rc::new(Cell::new(false));
        let secret = Secret::new(Probe(wiped.clone()));
        assert!(!wiped.get());
        drop(secret);
        assert!(wiped.get());
    }

    /// The types that are secret without being in the wrapper, and the library types that keys pass through.
    #[test]
    fn what_is_not_in_the_wrapper_wipes_itself() {
        fn wipes<T: zeroize::ZeroizeOnDrop>() {}
        wipes::<Secret<[u8; 32]>>();
        wipes::<crate::ring::RingVector>();
        wipes::<crate::encoding::LotSum<'_>>();
        wipes::<crate::noise::BulkRng>();
        wipes::<ed25519_dalek::SigningKey>();
        wipes::<aes::Aes256Enc>();
        wipes::<aes::Aes256>();
        wipes::<chacha20poly1305::ChaCha20Poly1305>();
    }

    #[test]
    fn is_built_in_place() {
        let secret = Secret::<[u8; 4]>::build(|bytes| bytes.copy_from_slice(&[1, 2, 3, 4]));
        assert_eq!(secret.expose(), &[1, 2, 3, 4]);
    }
}
