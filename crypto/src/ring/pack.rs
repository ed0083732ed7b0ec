//! The bit-packing loops.
//!
//! Thirty-two elements of `W` bits fill exactly `W` little-endian 32-bit words, so the bulk is done in groups of
//! that size with every shift known at compile time; the last, shorter group goes through a 64-bit
//! accumulator. Indexing is allowed in this file alone: in the grouped loops each index is a compile-time
//! constant below the array's length (`word < W <= 32`), and no index depends on input.
#![allow(clippy::indexing_slicing)]

use super::RingWidth;

const GROUP: usize = 32;

/// Calls `$run::<W>` with `W` the width in bits.
macro_rules! by_width {
    ($width:expr, $run:ident ( $($arg:expr),* )) => {
        by_width!(@arms $width, $run, ($($arg),*),
            8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31)
    };
    (@arms $width:expr, $run:ident, $args:tt, $($w:literal)*) => {
        match $width.bits() {
            $($w => by_width!(@call $run, $w, $args),)*
            _ => by_width!(@call $run, 32, $args),
        }
    };
    (@call $run:ident, $w:literal, ($($arg:expr),*)) => { $run::<$w>($($arg),*) };
}

/// Packs `values`, reduced, into `out`, which has exactly `packed_len(values.len())` bytes, all zero.
pub(super) fn pack(width: RingWidth, values: &[u32], out: &mut [u8]) {
    by_width!(width, pack_width(values, out));
}

fn pack_width<const W: usize>(values: &[u32], out: &mut [u8]) {
    let (groups, tail) = values.as_chunks::<GROUP>();
    let (head, rest) = out.split_at_mut(groups.len() * W * 4);
    for (group, bytes) in groups.iter().zip(head.chunks_exact_mut(W * 4)) {
        let words = pack_group::<W>(group);
        for (word, bytes) in words[..W].iter().zip(bytes.as_chunks_mut::<4>().0) {
            *bytes = word.to_le_bytes();
        }
    }
    pack_tail(W, tail, rest);
}

#[inline(always)]
fn pack_group<const W: usize>(values: &[u32; GROUP]) -> [u32; GROUP] {
    let mask = u32::MAX >> (32 - W);
    let mut words = [0u32; GROUP];
    for (k, value) in values.iter().enumerate() {
        let value = value & mask;
        let (word, shift) = (k * W / 32, k * W % 32);
        words[word] |= value << shift;
        if shift + W > 32 {
            words[word + 1] |= value >> (32 - shift);
        }
    }
    words
}

fn pack_tail(w: usize, values: &[u32], out: &mut [u8]) {
    let mask = u64::from(u32::MAX >> (32 - w));
    let (mut acc, mut bits) = (0u64, 0);
    let mut bytes = out.iter_mut();
    for value in values {
        acc |= (u64::from(*value) & mask) << bits;
        bits += w;
        while bits >= 8 {
            if let Some(byte) = bytes.next() {
                *byte = acc.to_le_bytes()[0];
            }
            acc >>= 8;
            bits -= 8;
        }
    }
    if let Some(byte) = bytes.next() {
        *byte = acc.to_le_bytes()[0];
    }
}

/// Unpacks `slots.len()` elements from `bytes`, which has exactly `packed_len(slots.len())` bytes, handing each
/// to `put` with its slot.
#[inline(always)]
pub(super) fn unpack_with(
    width: RingWidth,
    bytes: &[u8],
    slots: &mut [u32],
    put: impl Fn(&mut u32, u32) + Copy,
) {
    by_width!(width, unpack_width(bytes, slots, put));
}

fn unpack_width<const W: usize>(bytes: &[u8], slots: &mut [u32], put: impl Fn(&mut u32, u32) + Copy) {
    let (groups, tail) = slots.as_chunks_mut::<GROUP>();
    let (head, rest) = bytes.split_at(groups.len() * W * 4);
    for (group, bytes) in groups.iter_mut().zip(head.chunks_exact(W * 4)) {
        let mut words = [0u32; GROUP];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        unpack_group::<W>(&words, group, put);
    }
    unpack_tail(W, rest, tail, put);
}

#[inline(always)]
fn unpack_group<const W: usize>(words: &[u32; GROUP], slots: &mut [u32; GROUP], put: impl Fn(&mut u32, u32)) {
    let mask = u32::MAX >> (32 - W);
    for (k, slot) in slots.iter_mut().enumerate() {
        let (word, shift) = (k * W / 32, k * W % 32);
        let mut value = words[word] >> shift;
        if shift + W > 32 {
            value |= words[word + 1] << (32 - shift);
        }
        put(slot, value & mask);
    }
}

fn unpack_tail(w: usize, bytes: &[u8], slots: &mut [u32], put: impl Fn(&mut u32, u32)) {
    let mask = u64::from(u32::MAX >> (32 - w));
    let (mut acc, mut bits) = (0u64, 0);
    let mut bytes = bytes.iter();
    for slot in slots {
        while bits < w {
            acc |= u64::from(bytes.next().copied().unwrap_or(0)) << bits;
            bits += 8;
        }
        // The mask fits 32 bits, so the cast drops nothing.
        put(slot, (acc & mask) as u32);
        acc >>= w;
        bits -= w;
    }
}
