//! Vectors over the ring of integers modulo 2^w, and their bit-packed bytes.
//!
//! Updates, masks and sums live in `Z/2^w` with `8 <= w <= 32`. In memory an element is a `u32`; because 2^w
//! divides 2^32, sums may wrap at 32 bits and be reduced only when they are packed or read. Packed, element
//! `i` takes bits `i*w .. (i+1)*w`, least significant first, bit `k` of the stream being bit `k % 8` of byte
//! `k / 8`; what is left of the last byte is zero, and unpacking refuses anything else.
//!
//! Does not know what an element means: that is the encoding's business.

mod pack;

use alloc::vec::Vec;
use core::fmt;

use zeroize::Zeroize;

/// How wide a ring element is: `w` bits, 8 to 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RingWidth(u8);

impl RingWidth {
    /// The narrowest ring.
    pub const MIN: u32 = 8;
    /// The widest ring.
    pub const MAX: u32 = 32;

    /// A ring of `bits`-bit elements.
    ///
    /// # Errors
    ///
    /// When `bits` is not within 8..=32. Wider rings are part of the protocol's byte formats but not of this
    /// version.
    pub fn new(bits: u32) -> Result<Self, RingError> {
        match u8::try_from(bits) {
            Ok(narrow) if (Self::MIN..=Self::MAX).contains(&bits) => Ok(Self(narrow)),
            _ => Err(RingError::Width { bits }),
        }
    }

    /// `w`.
    pub const fn bits(self) -> u32 {
        self.0 as u32
    }

    /// `2^w - 1`: the largest element, and the mask that reduces a `u32`.
    pub const fn mask(self) -> u32 {
        u32::MAX >> (32 - self.0 as u32)
    }

    /// Bytes that `count` packed elements take: `ceil(count * w / 8)`.
    ///
    /// # Panics
    ///
    /// When the result exceeds a `usize`; counts here come from checked parameters.
    pub const fn packed_len(self, count: usize) -> usize {
        (count / 8) * self.0 as usize + ((count % 8) * self.0 as usize).div_ceil(8)
    }
}

impl fmt::Display for RingWidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "2^{}", self.0)
    }
}

/// A vector over `Z/2^w`. Every element is below 2^w. Wiped on drop and never printed: before masking it
/// is one organization's update.
pub struct RingVector {
    width: RingWidth,
    values: Vec<u32>,
}

impl RingVector {
    /// Takes `values`, each below 2^w.
    ///
    /// # Errors
    ///
    /// When one is not, naming its index.
    pub fn new(width: RingWidth, mut values: Vec<u32>) -> Result<Self, RingError> {
        match values.iter().position(|value| *value > width.mask()) {
            None => Ok(Self { width, values }),
            Some(index) => {
                values.zeroize();
                Err(RingError::Element { index, width })
            }
        }
    }

    /// Takes `values`, each reduced modulo 2^w.
    pub fn reduced(width: RingWidth, mut values: Vec<u32>) -> Self {
        values.iter_mut().for_each(|value| *value &= width.mask());
        Self { width, values }
    }

    /// `length` zeros.
    pub fn zeros(width: RingWidth, length: usize) -> Self {
        Self { width, values: alloc::vec![0; length] }
    }

    /// The ring.
    pub fn width(&self) -> RingWidth {
        self.width
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The elements, each below 2^w.
    pub fn values(&self) -> &[u32] {
        &self.values
    }

    /// The elements, unwrapped: wiping them becomes the caller's business.
    pub fn into_values(mut self) -> Vec<u32> {
        core::mem::take(&mut self.values)
    }
}

impl Drop for RingVector {
    fn drop(&mut self) {
        self.values.zeroize();
    }
}

impl fmt::Debug for RingVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RingVector({} elements of {}, <redacted>)", self.values.len(), self.width)
    }
}

/// Appends the packed form of `values`, each reduced modulo 2^w: `width.packed_len(values.len())` bytes.
pub fn pack(width: RingWidth, values: &[u32], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + width.packed_len(values.len()), 0);
    if let Some(room) = out.get_mut(start..) {
        pack::pack(width, values, room);
    }
}

/// Appends `count` elements unpacked from `bytes`.
///
/// # Errors
///
/// When `bytes` is not exactly `width.packed_len(count)` long, or a bit after the last element is set.
pub fn unpack(width: RingWidth, bytes: &[u8], count: usize, out: &mut Vec<u32>) -> Result<(), RingError> {
    check_packed(width, bytes, count)?;
    let start = out.len();
    out.resize(start + count, 0);
    if let Some(room) = out.get_mut(start..) {
        pack::unpack_with(width, bytes, room, |slot, value| *slot = value);
    }
    Ok(())
}

/// Adds the `acc.len()` elements packed in `bytes` to `acc`, wrapping at 32 bits.
///
/// # Errors
///
/// As [`unpack`]; `acc` is then untouched.
pub fn unpack_add(width: RingWidth, bytes: &[u8], acc: &mut [u32]) -> Result<(), RingError> {
    unpack_add_all(width, &[bytes], acc)
}

/// How many vectors [`unpack_add_all`] reads side by side: with one stream a core waits for memory most of the time, with
/// four it is busy.
pub const STREAMS: usize = 4;

/// Adds vectors of `acc.len()` packed elements to `acc`, wrapping at 32 bits. Fastest when they come [`STREAMS`] at a
/// time.
///
/// # Errors
///
/// As [`unpack`], for the first vector that is not good; `acc` is then untouched.
pub fn unpack_add_all(width: RingWidth, vectors: &[&[u8]], acc: &mut [u32]) -> Result<(), RingError> {
    vectors.iter().try_for_each(|bytes| check_packed(width, bytes, acc.len()))?;
    pack::unpack_add(width, vectors, acc);
    Ok(())
}

/// Whether `bytes` are the packed form of `count` elements.
pub(crate) fn check_packed(width: RingWidth, bytes: &[u8], count: usize) -> Result<(), RingError> {
    let expected = width.packed_len(count);
    if bytes.len() != expected {
        return Err(RingError::PackedLength { expected, got: bytes.len() });
    }
    let used = (count % 8) * width.bits() as usize % 8;
    match bytes.last() {
        Some(last) if used != 0 && last >> used != 0 => Err(RingError::Padding),
        _ => Ok(()),
    }
}

/// What can be wrong with ring elements or their bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingError {
    /// A ring width outside 8..=32.
    Width {
        /// The width asked for, in bits.
        bits: u32,
    },
    /// An element that is not below 2^w.
    Element {
        /// Its index. The value is not told: it may be secret.
        index: usize,
        /// The ring.
        width: RingWidth,
    },
    /// Packed bytes of the wrong length.
    PackedLength {
        /// Bytes expected.
        expected: usize,
        /// Bytes found.
        got: usize,
    },
    /// A set bit after the last packed element.
    Padding,
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Width { bits } => write!(
                f,
                "ring width {bits} is outside 8..=32 bits; this version carries no wider elements, \
                 so choose a coarser rounding or a smaller clip"
            ),
            Self::Element { index, width } => {
                write!(f, "element {index} is not below {width}; reduce it before it enters the ring")
            }
            Self::PackedLength { expected, got } => {
                write!(f, "packed elements take {expected} bytes, got {got}")
            }
            Self::Padding => f.write_str("a bit after the last packed element is set"),
        }
    }
}

impl core::error::Error for RingError {}

#[cfg(test)]
mod tests;
