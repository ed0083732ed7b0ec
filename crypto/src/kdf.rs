//! Key derivation: HKDF-SHA-256 (RFC 5869) with an empty salt.
//!
//! The input key is a uniform secret or the bytes of a group element; what the key is *for* goes into the
//! info string, which here is always a [`Transcript`](crate::digest::Transcript)'s digest. Distinct
//! transcripts therefore give independent keys, as long as SHA-256 has no collisions and HMAC is a PRF.

use hkdf::Hkdf;
use sha2::Sha256;

use crate::{digest::Digest, secret::Secret};

/// `N` bytes derived from `key` for `purpose`. `N` is at most 255 * 32.
pub(crate) fn derive<const N: usize>(key: &[u8], purpose: &Digest) -> Secret<[u8; N]> {
    expand(key, purpose.as_bytes())
}

fn expand<const N: usize>(key: &[u8], info: &[u8]) -> Secret<[u8; N]> {
    const { assert!(N <= 255 * 32, "HKDF-SHA-256 gives at most 8160 bytes") };
    Secret::fill([0; N], |out| {
        let expanded = Hkdf::<Sha256>::new(None, key).expand(info, out);
        // Cannot fail: the length was checked at compile time.
        debug_assert!(expanded.is_ok());
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5869, A.3: the test case with an empty salt, as all of ours are.
    #[test]
    fn derivation_is_the_standards() {
        let expected = concat!(
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d",
            "9d201395faa4b61a96c8"
        );
        assert_eq!(hex::encode(expand::<42>(&[0x0b; 22], &[]).expose()), expected);
    }

    #[test]
    fn purposes_and_keys_have_their_own_output() {
        let derived = |key: &[u8], purpose: u8| *derive::<32>(key, &Digest([purpose; 32])).expose();
        assert_ne!(derived(b"key", 1), derived(b"key", 2));
        assert_ne!(derived(b"key", 1), derived(b"kez", 1));
        // A purpose is the info string, nothing added.
        assert_eq!(derived(b"key", 1), *expand::<32>(b"key", &[1; 32]).expose());
    }
}
