//! Sealed boxes: one message under one key, to one peer.
//!
//! ChaCha20-Poly1305 (RFC 8439) with the nonce zero. That is safe because a [`SealKey`] is consumed by
//! [`seal`](SealKey::seal): it exists for one message. The key comes from a Diffie–Hellman secret and a
//! purpose that names direction and place, so the two directions between two parties have two keys.
//!
//! The cipher does not commit to its key; whoever needs "this box opens to that" must commit to the content
//! as well.

use alloc::vec::Vec;
use core::fmt;

use chacha20poly1305::{
    ChaCha20Poly1305, Key, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use zeroize::Zeroizing;

use crate::{digest::Digest, kdf, secret::Secret};

/// Bytes a sealed box has more than its content.
pub const OVERHEAD: usize = 16;

/// The key of one box.
#[derive(Debug)]
pub struct SealKey(Secret<[u8; 32]>);

impl SealKey {
    /// The key for `purpose` out of a Diffie–Hellman secret.
    pub fn new(shared: &Secret<[u8; 32]>, purpose: &Digest) -> Self {
        Self(kdf::derive(shared.expose(), purpose))
    }

    /// Seals `content`; `context` is covered but not contained. The key is used up.
    pub fn seal(self, content: &[u8], context: &[u8]) -> Vec<u8> {
        // Fails above 2^38 bytes only; an empty box opens nowhere, so nothing is lost by it but the message.
        self.cipher().encrypt(&Nonce::default(), Payload { msg: content, aad: context }).unwrap_or_default()
    }

    /// Opens a box sealed under the same key and context.
    ///
    /// # Errors
    ///
    /// When it was not.
    pub fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Zeroizing<Vec<u8>>, DoesNotOpen> {
        self.cipher()
            .decrypt(&Nonce::default(), Payload { msg: sealed, aad: context })
            .map(Zeroizing::new)
            .map_err(|_| DoesNotOpen)
    }

    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new(Key::cast_from_core(self.0.expose()))
    }
}

/// A sealed box that does not open under this key and context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoesNotOpen;

impl fmt::Display for DoesNotOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sealed box does not open under this key and context")
    }
}

impl core::error::Error for DoesNotOpen {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Transcript;

    fn key(purpose: &'static str) -> SealKey {
        SealKey::new(&Secret::new([5; 32]), &Transcript::new(purpose).finish())
    }

    #[test]
    fn opens_under_its_own_key_and_context_only() {
        let sealed = key("a").seal(b"content", b"context");
        assert_eq!(sealed.len(), b"content".len() + OVERHEAD);
        assert_eq!(key("a").open(&sealed, b"context").unwrap().as_slice(), b"content");
        assert_eq!(key("b").open(&sealed, b"context"), Err(DoesNotOpen));
        assert_eq!(key("a").open(&sealed, b"contexT"), Err(DoesNotOpen));
        assert_eq!(key("a").open(&sealed[1..], b"context"), Err(DoesNotOpen));
        for index in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[index] ^= 1;
            assert_eq!(key("a").open(&bent, b"context"), Err(DoesNotOpen), "byte {index}");
        }
    }
}
