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
    pub fn open(&self, sealed: &[u8], context: &[u8]) -> Result<Secret<Vec<u8>>, DoesNotOpen> {
        self.cipher()
            .decrypt(&Nonce::default(), Payload { msg: sealed, aad: context })
            .map(Secret::new)
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
        assert_eq!(key("a").open(&sealed, b"context").unwrap().expose(), b"content");
        let refused = |key: SealKey, sealed: &[u8], context: &[u8]| key.open(sealed, context).is_err();
        assert!(refused(key("b"), &sealed, b"context"));
        assert!(refused(key("a"), &sealed, b"contexT"));
        assert!(refused(key("a"), &sealed[1..], b"context"));
        for index in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[index] ^= 1;
            assert!(refused(key("a"), &bent, b"context"), "byte {index}");
        }
    }

    /// RFC 8439, 2.8.2. Its nonce is not zero, so this goes past `seal` to the cipher behind it; that a box is
    /// the same cipher under the zero nonce is what the second half says.
    #[test]
    fn boxes_are_the_standards() {
        let key = || SealKey(Secret::new(core::array::from_fn(|i| 0x80 + i as u8)));
        let plain =
            b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
            sunscreen would be it.";
        let context = hex::decode("50515253c0c1c2c3c4c5c6c7").unwrap();
        let nonce: [u8; 12] = hex::decode("070000004041424344454647").unwrap().try_into().unwrap();
        let sealed = key().cipher().encrypt(&nonce.into(), Payload { msg: plain, aad: &context }).unwrap();
        let expected = concat!(
            "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6",
            "3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36",
            "92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc",
            "3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691"
        );
        assert_eq!(hex::encode(sealed), expected);

        let zero = Nonce::from([0; 12]);
        let by_hand = key().cipher().encrypt(&zero, Payload { msg: plain, aad: &context }).unwrap();
        assert_eq!(key().seal(plain, &context), by_hand);
    }
}
