//! The canonical byte codec of signed things.
//!
//! What is signed is what is sent, so an encoding must have exactly one spelling: integers are fixed-width
//! little-endian, variable bytes carry a 32-bit length, lists a 32-bit count, fixed arrays nothing.
//! [`Reader`] never trusts a length: it refuses one that exceeds what remains or the caller's cap before
//! anything is allocated, and [`Reader::finish`] refuses trailing bytes. It does not check meaning; that
//! is the business of whoever reads.
//!
//! ```
//! use consilium_crypto::codec::{Reader, Writer};
//! let mut w = Writer::new();
//! w.u8(1).u16(7).bytes(b"abc");
//! let bytes = w.finish();
//! let mut r = Reader::new(&bytes);
//! assert_eq!((r.u8("version")?, r.u16("position")?), (1, 7));
//! assert_eq!(r.bytes("name", 63)?, b"abc");
//! r.finish()?;
//! # Ok::<(), consilium_crypto::codec::CodecError>(())
//! ```

use alloc::vec::Vec;
use core::fmt;

use crate::digest::Digest;

/// Writes canonical bytes. Chain calls, then [`finish`](Writer::finish).
#[derive(Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty writer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Eight bytes, little-endian, two's complement.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// A digest's 32 bytes.
    pub fn digest(&mut self, value: &Digest) -> &mut Self {
        self.raw(&value.0)
    }

    /// Bytes whose length both sides know: nothing is put before them.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Bytes with their length before them, as a `u32`.
    ///
    /// # Panics
    ///
    /// When `bytes` is longer than 4 GiB, which only a local mistake can bring about.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len()).raw(bytes)
    }

    /// Text with its length in bytes before it.
    pub fn str(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// How many items follow, as a `u32`.
    ///
    /// # Panics
    ///
    /// When `count` exceeds `u32::MAX`, which only a local mistake can bring about.
    pub fn count(&mut self, count: usize) -> &mut Self {
        let count = u32::try_from(count);
        assert!(count.is_ok(), "more than u32::MAX items or bytes in one field");
        self.u32(count.unwrap_or(u32::MAX))
    }

    /// Bytes written so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// The encoding.
    pub fn finish(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.0)
    }
}

/// Reads canonical bytes. Every call names the field it reads, for the error.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, offset: 0 }
    }

    /// How many bytes have been read.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// How many bytes have not been read.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Exactly `length` bytes.
    ///
    /// # Errors
    ///
    /// When fewer remain.
    pub fn raw(&mut self, field: &'static str, length: usize) -> Result<&'a [u8], CodecError> {
        let Some((head, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.error(field, Problem::Truncated { needed: length, remaining: self.rest.len() }));
        };
        self.rest = rest;
        self.offset = self.offset.saturating_add(length);
        Ok(head)
    }

    /// Exactly `N` bytes.
    ///
    /// # Errors
    ///
    /// When fewer remain.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], CodecError> {
        let mut array = [0; N];
        array.copy_from_slice(self.raw(field, N)?);
        Ok(array)
    }

    /// One byte.
    ///
    /// # Errors
    ///
    /// When none remains. So for the other integers.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, CodecError> {
        self.array(field).map(u8::from_le_bytes)
    }

    /// Two bytes, little-endian.
    #[allow(missing_docs, clippy::missing_errors_doc)]
    pub fn u16(&mut self, field: &'static str) -> Result<u16, CodecError> {
        self.array(field).map(u16::from_le_bytes)
    }

    /// Four bytes, little-endian.
    #[allow(clippy::missing_errors_doc)]
    pub fn u32(&mut self, field: &'static str) -> Result<u32, CodecError> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// Eight bytes, little-endian.
    #[allow(clippy::missing_errors_doc)]
    pub fn u64(&mut self, field: &'static str) -> Result<u64, CodecError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// Eight bytes, little-endian, two's complement.
    #[allow(clippy::missing_errors_doc)]
    pub fn i64(&mut self, field: &'static str) -> Result<i64, CodecError> {
        self.array(field).map(i64::from_le_bytes)
    }

    /// A digest's 32 bytes.
    #[allow(clippy::missing_errors_doc)]
    pub fn digest(&mut self, field: &'static str) -> Result<Digest, CodecError> {
        self.array(field).map(Digest)
    }

    /// Bytes with their length before them, at most `cap` of them.
    ///
    /// # Errors
    ///
    /// When the length exceeds `cap` or what remains.
    pub fn bytes(&mut self, field: &'static str, cap: usize) -> Result<&'a [u8], CodecError> {
        let length = self.count(field, cap, 1)?;
        self.raw(field, length)
    }

    /// Text with its length in bytes before it, at most `cap` bytes of UTF-8.
    ///
    /// # Errors
    ///
    /// When the length exceeds `cap` or what remains, or the bytes are not UTF-8.
    pub fn str(&mut self, field: &'static str, cap: usize) -> Result<&'a str, CodecError> {
        let bytes = self.bytes(field, cap)?;
        core::str::from_utf8(bytes).map_err(|_| self.error(field, Problem::NotText))
    }

    /// How many items follow: at most `cap`, each at least `item_len` bytes, so that a list's memory may be
    /// reserved before it is read.
    ///
    /// # Errors
    ///
    /// When there are more than `cap`, or more than fit into what remains.
    pub fn count(&mut self, field: &'static str, cap: usize, item_len: usize) -> Result<usize, CodecError> {
        let got = u64::from(self.u32(field)?);
        let count = usize::try_from(got).unwrap_or(usize::MAX);
        if count > cap {
            return Err(self.error(field, Problem::OverCap { got, cap: cap as u64 }));
        }
        let needed = count.saturating_mul(item_len);
        if needed > self.rest.len() {
            return Err(self.error(field, Problem::Truncated { needed, remaining: self.rest.len() }));
        }
        Ok(count)
    }

    /// Ends the reading.
    ///
    /// # Errors
    ///
    /// When bytes are left over: one meaning, one encoding.
    pub fn finish(self) -> Result<(), CodecError> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(self.error("end", Problem::Trailing { extra })),
        }
    }

    /// An error about the value just read, for readers that check meaning.
    pub fn invalid(&self, field: &'static str) -> CodecError {
        self.error(field, Problem::Invalid)
    }

    fn error(&self, field: &'static str, problem: Problem) -> CodecError {
        CodecError { field, offset: self.offset, problem }
    }
}

/// Bytes that are not the encoding of anything: which field, where, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecError {
    /// The field being read.
    pub field: &'static str,
    /// How many bytes had been read before the trouble.
    pub offset: usize,
    /// What is wrong.
    pub problem: Problem,
}

/// What can be wrong with an encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The field needs more bytes than remain.
    Truncated {
        /// Bytes the field needs.
        needed: usize,
        /// Bytes that remain.
        remaining: usize,
    },
    /// A length or count exceeds its cap.
    OverCap {
        /// The length or count found.
        got: u64,
        /// The most allowed.
        cap: u64,
    },
    /// Bytes follow the last field.
    Trailing {
        /// How many.
        extra: usize,
    },
    /// Text that is not UTF-8.
    NotText,
    /// A value outside the field's range.
    Invalid,
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "field `{}` at byte {}: ", self.field, self.offset)?;
        match self.problem {
            Problem::Truncated { needed, remaining } => {
                write!(f, "needs {needed} bytes, {remaining} remain")
            }
            Problem::OverCap { got, cap } => write!(f, "{got} exceeds the most allowed, {cap}"),
            Problem::Trailing { extra } => write!(f, "{extra} bytes too many"),
            Problem::NotText => f.write_str("not UTF-8"),
            Problem::Invalid => f.write_str("value outside its range"),
        }
    }
}

impl core::error::Error for CodecError {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn reads_back_what_it_wrote() {
        let bytes = Writer::new()
            .u8(1)
            .u16(0x0203)
            .u32(0x0405_0607)
            .u64(8)
            .i64(-9)
            .digest(&Digest([7; 32]))
            .bytes(b"ab")
            .str("é")
            .raw(b"tail")
            .finish();
        assert_eq!(bytes[..7], [1, 3, 2, 7, 6, 5, 4]);
        let mut r = Reader::new(&bytes);
        assert_eq!(r.u8("a"), Ok(1));
        assert_eq!(r.u16("b"), Ok(0x0203));
        assert_eq!(r.u32("c"), Ok(0x0405_0607));
        assert_eq!(r.u64("d"), Ok(8));
        assert_eq!(r.i64("e"), Ok(-9));
        assert_eq!(r.digest("f"), Ok(Digest([7; 32])));
        assert_eq!(r.bytes("g", 2), Ok(&b"ab"[..]));
        assert_eq!(r.str("h", 2), Ok("é"));
        assert_eq!(r.offset() + r.remaining(), bytes.len());
        assert_eq!(r.array::<4>("i"), Ok(*b"tail"));
        assert_eq!(r.finish(), Ok(()));
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = Writer::new().u16(5).bytes(b"abc").finish();
        let read = |bytes: &[u8]| -> Result<(), CodecError> {
            let mut r = Reader::new(bytes);
            r.u16("a")?;
            r.bytes("b", 3)?;
            r.finish()
        };
        assert_eq!(read(&whole), Ok(()));
        for length in 0..whole.len() {
            let problem = read(&whole[..length]).unwrap_err().problem;
            assert!(matches!(problem, Problem::Truncated { .. }), "{length}: {problem:?}");
        }
        let mut longer = whole;
        longer.push(0);
        let error = read(&longer).unwrap_err();
        assert_eq!(error.problem, Problem::Trailing { extra: 1 });
        assert_eq!(error.to_string(), "field `end` at byte 9: 1 bytes too many");
    }

    #[test]
    fn hostile_lengths_are_refused_before_memory_is_taken() {
        let over_what_remains = Writer::new().u32(u32::MAX).finish();
        let mut r = Reader::new(&over_what_remains);
        let problem = r.bytes("b", usize::MAX).unwrap_err().problem;
        assert_eq!(problem, Problem::Truncated { needed: u32::MAX as usize, remaining: 0 });

        let over_cap = Writer::new().bytes(b"abcd").finish();
        let problem = Reader::new(&over_cap).bytes("b", 3).unwrap_err().problem;
        assert_eq!(problem, Problem::OverCap { got: 4, cap: 3 });

        let items = Writer::new().count(3).raw(&[0; 23]).finish();
        assert!(Reader::new(&items).count("c", 10, 8).is_err());
        assert_eq!(Reader::new(&items).count("c", 10, 7), Ok(3));
        assert!(Reader::new(&items).count("c", 10, usize::MAX).is_err());
        assert!(Reader::new(&[2, 0, 0, 0, 0xff, 0xff]).str("s", 9).is_err());
    }
}
