//! The bit-packing loops.
//!
//! Eight elements of `W` bits fill exactly `W` bytes, so the bulk is done in groups of eight with every shift
//! and offset known at compile time: packing through 64-bit words, unpacking by one unaligned 64-bit read an
//! element. Whatever is left goes through a bit accumulator. Indexing and slicing are allowed in this file
//! alone: in the grouped loops every index is a compile-time constant inside an array, and no index depends
//! on input.
#![allow(clippy::indexing_slicing)]

use super::{RingWidth, STREAMS};

/// Elements in a group.
const GROUP: usize = 8;
/// Bytes that an unaligned read may reach beyond its group.
const SLACK: usize = 8;

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
    let (head, rest) = out.split_at_mut(groups.len() * W);
    for (group, bytes) in groups.iter().zip(head.chunks_exact_mut(W)) {
        bytes.copy_from_slice(&pack_group::<W>(group)[..W]);
    }
    pack_tail(W, tail, rest);
}

#[inline(always)]
fn pack_group<const W: usize>(values: &[u32; GROUP]) -> [u8; 32] {
    let mask = u64::from(u32::MAX >> (32 - W));
    let mut words = [0u64; 4];
    for (k, value) in values.iter().enumerate() {
        let value = u64::from(*value) & mask;
        let (word, shift) = (k * W / 64, k * W % 64);
        words[word] |= value << shift;
        if shift + W > 64 {
            words[word + 1] |= value >> (64 - shift);
        }
    }
    let mut bytes = [0; 32];
    for (word, bytes) in words.iter().zip(bytes.as_chunks_mut::<8>().0) {
        *bytes = word.to_le_bytes();
    }
    bytes
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

/// Unpacks `slots.len()` elements from `bytes`, which has exactly `packed_len(slots.len())` bytes, handing
/// each to `put` with its slot.
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
    // The last groups are left to the accumulator, so that no read reaches beyond the end.
    let bulk = bytes.len().saturating_sub(SLACK) / W;
    let (groups, tail) = slots.split_at_mut(bulk * GROUP);
    for (group, from) in groups.as_chunks_mut::<GROUP>().0.iter_mut().zip((0..).step_by(W)) {
        unpack_group::<W>(&bytes[from..from + W + SLACK], group, put);
    }
    unpack_tail(W, &bytes[bulk * W..], tail, put);
}

#[inline(always)]
fn unpack_group<const W: usize>(bytes: &[u8], slots: &mut [u32; GROUP], put: impl Fn(&mut u32, u32)) {
    let mask = u32::MAX >> (32 - W);
    // Tells the compiler the length, so that the reads below need no checks.
    let bytes = &bytes[..W + SLACK];
    for (k, slot) in slots.iter_mut().enumerate() {
        let (byte, shift) = (k * W / 8, k * W % 8);
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[byte..byte + 8]);
        // An element ends at most 7 + 32 bits into the word; the mask keeps what the cast must.
        put(slot, (u64::from_le_bytes(word) >> shift) as u32 & mask);
    }
}

/// Adds the elements of vectors to `slots`; each vector has exactly `packed_len(slots.len())` bytes. Several at a time are
/// read from memory in as many streams, and the sum is loaded and stored once for all of them.
pub(super) fn unpack_add(width: RingWidth, vectors: &[&[u8]], slots: &mut [u32]) {
    by_width!(width, add_width(vectors, slots));
}

fn add_width<const W: usize>(vectors: &[&[u8]], slots: &mut [u32]) {
    let (several, rest) = vectors.as_chunks::<STREAMS>();
    several.iter().for_each(|vectors| add_streams::<W, STREAMS>(vectors, slots));
    rest.iter().for_each(|vector| add_streams::<W, 1>(&[vector], slots));
}

fn add_streams<const W: usize, const K: usize>(vectors: &[&[u8]; K], slots: &mut [u32]) {
    let add = |slot: &mut u32, value: u32| *slot = slot.wrapping_add(value);
    let length = vectors.first().map_or(0, |bytes| bytes.len());
    let bulk = length.saturating_sub(SLACK) / W;
    // Equal lengths, so that one comparison serves them all.
    let vectors = vectors.map(|bytes| &bytes[..length]);
    let (groups, tail) = slots.split_at_mut(bulk * GROUP);
    for (group, from) in groups.as_chunks_mut::<GROUP>().0.iter_mut().zip((0..).step_by(W)) {
        let mut sum = *group;
        for bytes in &vectors {
            unpack_group::<W>(&bytes[from..from + W + SLACK], &mut sum, add);
        }
        *group = sum;
    }
    for bytes in &vectors {
        unpack_tail(W, &bytes[bulk * W..], tail, add);
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
