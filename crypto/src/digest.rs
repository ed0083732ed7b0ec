//! SHA-256 digests and domain-separated transcripts.
//!
//! Every hash that means something in the protocol goes through a [`Transcript`]: it opens with a label,
//! and every item after it is preceded by its length as a 64-bit little-endian number, so that two
//! different sequences of items never give the same bytes (FIPS 180-4 for the hash itself).
//! [`Digest::of`] and [`Hasher`] hash plain bytes, for files and chunks that carry no structure of ours.
//!
//! Assumes that SHA-256 is collision resistant. Digests are public: comparing them is not constant-time.

use alloc::string::String;
use core::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};

/// A SHA-256 digest. Displays as 64 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// SHA-256 of `bytes` alone: no label, no length. For files and chunks.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let mut bytes = [0; 32];
        decode_hex(text, &mut bytes).ok_or_else(|| NotADigest(text.chars().take(80).collect()))?;
        Ok(Self(bytes))
    }
}

/// Reads exactly `2 * out.len()` lowercase hexadecimal digits. One spelling per value.
fn decode_hex(text: &str, out: &mut [u8]) -> Option<()> {
    let digits = text.as_bytes();
    if digits.len() != out.len().checked_mul(2)? {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair.iter().try_fold(0u8, |high, digit| {
            let low = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            Some((high << 4) | low)
        })?;
    }
    Some(())
}

/// The text is not 64 lowercase hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotADigest(String);

impl fmt::Display for NotADigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "digest {:?} is not 64 lowercase hexadecimal digits; copy it whole", self.0)
    }
}

impl core::error::Error for NotADigest {}

/// SHA-256 over plain bytes that arrive in pieces. `Hasher` over the pieces equals [`Digest::of`] over
/// the whole.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// An empty hasher.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything added.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// A hash over a label and a sequence of length-prefixed items.
///
/// ```
/// use consilium_crypto::digest::Transcript;
/// let a = Transcript::new("example").bytes(b"ab").bytes(b"c").finish();
/// let b = Transcript::new("example").bytes(b"a").bytes(b"bc").finish();
/// assert_ne!(a, b);
/// ```
#[derive(Clone)]
pub struct Transcript(Sha256);

impl Transcript {
    /// Opens a transcript. Each purpose has its own label, by habit `consilium/1/<what>`.
    pub fn new(label: &'static str) -> Self {
        Self::with_parts(&[label])
    }

    /// Opens a transcript whose label is the concatenation of `parts`.
    pub(crate) fn with_parts(parts: &[&'static str]) -> Self {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut hasher = Sha256::new();
        hasher.update((length as u64).to_le_bytes());
        parts.iter().for_each(|part| hasher.update(part.as_bytes()));
        Self(hasher)
    }

    /// Adds an item of any length.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds a number, as eight little-endian bytes.
    #[must_use]
    pub fn u64(self, number: u64) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    /// Adds a digest, as its 32 bytes.
    #[must_use]
    pub fn digest(self, digest: &Digest) -> Self {
        self.bytes(&digest.0)
    }

    /// Adds numbers as one item: binary32, little-endian, one after the other.
    #[must_use]
    pub fn floats(mut self, values: &[f32]) -> Self {
        self.0.update((4 * values.len() as u64).to_le_bytes());
        let mut bytes = [0; 4096];
        for block in values.chunks(bytes.len() / 4) {
            for (value, place) in block.iter().zip(bytes.as_chunks_mut::<4>().0) {
                *place = value.to_le_bytes();
            }
            self.0.update(bytes.get(..4 * block.len()).unwrap_or_default());
        }
        self
    }

    /// Closes the transcript.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{format, string::ToString};

    /// The examples that come with FIPS 180: nothing, one block, two blocks, and a million letters in pieces.
    #[test]
    fn digests_are_the_standards() {
        for (message, expected) in [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
            (
                "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrs\
                 mnopqrstnopqrstu",
                "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
            ),
        ] {
            assert_eq!(Digest::of(message.as_bytes()).to_string(), expected);
        }
        let mut million = Hasher::new();
        for _ in 0..1000 {
            million.update(&[b'a'; 1000]);
        }
        let expected = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
        assert_eq!(million.finish().to_string(), expected);
    }

    #[test]
    fn digest_of_abc_is_the_standards_vector() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc").to_string(), expected);
        assert_eq!(format!("{:?}", Digest::of(b"abc")), expected);
        let mut pieces = Hasher::new();
        pieces.update(b"a");
        pieces.update(b"bc");
        assert_eq!(pieces.finish(), Digest::of(b"abc"));
    }

    #[test]
    fn hex_has_one_spelling() {
        let digest = Digest::of(b"abc");
        let text = digest.to_string();
        assert_eq!(text.parse(), Ok(digest));
        assert!(text.to_uppercase().parse::<Digest>().is_err());
        assert!(text[1..].parse::<Digest>().is_err());
        assert!(format!("{text}0").parse::<Digest>().is_err());
        assert!(format!(" {}", &text[1..]).parse::<Digest>().is_err());
        assert!("é".repeat(32).parse::<Digest>().is_err());
    }

    #[test]
    fn floats_are_their_bytes() {
        for count in [0, 1, 1023, 1024, 1025, 3000] {
            let values: alloc::vec::Vec<f32> = (0..count).map(|i| i as f32 * 0.37).collect();
            let bytes: alloc::vec::Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(
                Transcript::new("t").floats(&values).finish(),
                Transcript::new("t").bytes(&bytes).finish()
            );
        }
    }

    #[test]
    fn transcript_is_its_written_bytes() {
        let mut written = alloc::vec::Vec::new();
        written.extend_from_slice(&5u64.to_le_bytes());
        written.extend_from_slice(b"label");
        written.extend_from_slice(&2u64.to_le_bytes());
        written.extend_from_slice(b"xy");
        written.extend_from_slice(&8u64.to_le_bytes());
        written.extend_from_slice(&7u64.to_le_bytes());
        written.extend_from_slice(&32u64.to_le_bytes());
        written.extend_from_slice(&[9; 32]);
        let transcript = Transcript::new("label").bytes(b"xy").u64(7).digest(&Digest([9; 32])).finish();
        assert_eq!(transcript, Digest::of(&written));
        assert_eq!(Transcript::with_parts(&["la", "bel"]).finish(), Transcript::new("label").finish());
    }

    #[test]
    fn where_items_end_is_part_of_the_hash() {
        let split = |at: usize| Transcript::new("t").bytes(&b"abcdef"[..at]).bytes(&b"abcdef"[at..]).finish();
        assert_ne!(split(2), split(3));
        assert_ne!(split(0), Transcript::new("t").bytes(b"abcdef").finish());
        assert_ne!(Transcript::new("t").finish(), Transcript::new("u").finish());
    }
}
