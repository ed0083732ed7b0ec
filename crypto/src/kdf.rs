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
    const { assert!(N <= 255 * 32, "HKDF-SHA-256 gives at most 8160 bytes") };
    Secret::fill([0; N], |out| {
        let expanded = Hkdf::<Sha256>::new(None, key).expand(purpose.as_bytes(), out);
        // Cannot fail: the length was checked at compile time.
        debug_assert!(expanded.is_ok());
    })
}
