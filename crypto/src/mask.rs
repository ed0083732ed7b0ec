//! Masks: an AES-256 keystream added to or subtracted from a vector of ring elements.
//!
//! AES-256 in counter mode with a 128-bit big-endian counter (NIST SP 800-38A). Key and first counter block
//! come from a [`MaskSeed`]. Coordinate `j` uses keystream bytes `4j..4j+4` as a little-endian `u32`; sums
//! wrap at 32 bits, and because every ring of width up to 32 divides 2^32, reduction modulo 2^w waits until
//! the vector is packed.
//!
//! The loop runs inside the cipher's backend: it writes as many counters as the backend encrypts at once (30
//! with 256-bit VAES), encrypts them in place and adds them on, so that keystream never leaves the
//! first-level cache, counters and sums overlap with rounds, and nothing is allocated. Assumes AES-256 is a
//! PRP; a seed serves one vector.

use aes::{
    Aes256Enc,
    cipher::{
        Block, BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, Key, KeyInit,
        ParBlocks, consts::U16, typenum::Unsigned,
    },
};
use zeroize::Zeroize;

use crate::{digest::Digest, kdf, secret::Secret};

/// Elements that share one keystream block.
pub const BLOCK: usize = 4;

/// An AES-256 key and a first counter block: 48 bytes.
#[derive(Debug)]
pub struct MaskSeed(Secret<[u8; 48]>);

impl MaskSeed {
    /// The seed for `purpose` out of a secret.
    pub fn new(secret: &[u8], purpose: &Digest) -> Self {
        Self(kdf::derive(secret, purpose))
    }

    /// The seed with these bytes: key, then first counter block.
    pub fn from_bytes(bytes: Secret<[u8; 48]>) -> Self {
        Self(bytes)
    }

    #[cfg(feature = "test-walls")]
    pub(crate) fn copy(&self) -> Self {
        Self(Secret::new(*self.0.expose()))
    }

    /// Adds the mask of elements `first..` to `vector`, or subtracts it, wrapping at 32 bits. `first` counts
    /// elements from the start of the masked vector and must be a multiple of [`BLOCK`]: parts that start
    /// there may be masked in any order and on any thread.
    pub fn apply(&self, sign: Sign, first: u64, vector: &mut [u32]) {
        debug_assert_eq!(first % BLOCK as u64, 0, "a part starts at a block");
        let (cipher, start) = self.expand();
        let counter = start.wrapping_add(u128::from(first) / BLOCK as u128);
        cipher.encrypt_with_backend(Combine { counter, vector, sign });
        wipe_stack();
    }

    fn expand(&self) -> (Aes256Enc, u128) {
        let (mut key, mut block) = ([0; 32], [0; 16]);
        let (key_bytes, counter_bytes) = self.0.expose().split_at(32);
        key.copy_from_slice(key_bytes);
        block.copy_from_slice(counter_bytes);
        let cipher = Aes256Enc::new(Key::<Aes256Enc>::cast_from_core(&key));
        key.zeroize();
        let first = u128::from_be_bytes(block);
        block.zeroize();
        (cipher, first)
    }
}

/// Which way a mask goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// The mask is added.
    Add,
    /// The mask is subtracted.
    Subtract,
}

impl Sign {
    /// Both ways share one loop: of two, the compiler inlines neither's cipher.
    fn flip(self) -> u32 {
        match self {
            Self::Add => 0,
            Self::Subtract => u32::MAX,
        }
    }

    /// The way that takes the mask off again.
    #[must_use]
    pub fn inverse(self) -> Self {
        match self {
            Self::Add => Self::Subtract,
            Self::Subtract => Self::Add,
        }
    }
}

/// The loop, to be run inside the cipher's backend.
struct Combine<'a> {
    counter: u128,
    vector: &'a mut [u32],
    sign: Sign,
}

impl BlockSizeUser for Combine<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Combine<'_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let Self { mut counter, vector, sign } = self;
        let flip = sign.flip();
        let (head, vector) = vector.split_at_mut(until_aligned(vector));
        add_singly(backend, &mut counter, head, flip);

        let mut keystream = ParBlocks::<B>::default();
        let mut counters = Counters::<B>::new(counter);
        // Written a step ahead: the cipher would wait for what was stored just before, in smaller pieces than it loads.
        let mut ahead = ParBlocks::<B>::default();
        counters.write(&mut ahead);
        let mut parts = vector.chunks_exact_mut(keystream.len() * BLOCK);
        for part in &mut parts {
            backend.encrypt_par_blocks((&ahead, &mut keystream).into());
            counters.write(&mut ahead);
            add_words(part, Block::<B>::cast_slice_to_core(&keystream).as_flattened(), flip);
            counter = counter.wrapping_add(keystream.len() as u128);
        }
        add_singly(backend, &mut counter, parts.into_remainder(), flip);
    }
}

/// Elements before the vector's first cache line begins, if a keystream block ends there: accesses that straddle two lines
/// cost twice.
fn until_aligned(vector: &[u32]) -> usize {
    let elements = vector.as_ptr().align_offset(64);
    if elements.is_multiple_of(BLOCK) { elements.min(vector.len()) } else { 0 }
}

/// One block of keystream after the other.
#[inline(always)]
fn add_singly<B: BlockCipherEncBackend<BlockSize = U16>>(
    backend: &B,
    counter: &mut u128,
    elements: &mut [u32],
    flip: u32,
) {
    for quad in elements.chunks_mut(BLOCK) {
        let mut block = Block::<B>::from(counter.to_be_bytes());
        *counter = counter.wrapping_add(1);
        backend.encrypt_block((&mut block).into());
        add_words(quad, &block, flip);
    }
}

/// Consecutive counter blocks, as many at a time as the cipher takes.
///
/// All counters from one multiple of 256 to the next share fifteen bytes. Kept as a row of blocks, they need one vector
/// operation for every four counters, where writing each number takes sixteen instructions.
struct Counters<B: BlockCipherEncBackend<BlockSize = U16>> {
    /// The first counter not yet written.
    next: u128,
    /// The upper fifteen bytes of each of the next counters, and zero.
    upper: ParBlocks<B>,
}

impl<B: BlockCipherEncBackend<BlockSize = U16>> Counters<B> {
    #[inline(always)]
    fn new(next: u128) -> Self {
        const { assert!(B::ParBlocksSize::USIZE <= MOST_AT_ONCE) }
        let mut counters = Self { next, upper: ParBlocks::<B>::default() };
        counters.refill(0, next);
        counters.split();
        counters
    }

    /// Writes as many as there are `blocks`, and gets ready for those after them.
    #[inline(always)]
    #[expect(
        clippy::indexing_slicing,
        reason = "low is a byte and count at most MOST_AT_ONCE: tables are that long"
    )]
    fn write(&mut self, blocks: &mut ParBlocks<B>) {
        let (low, count) = (usize::from(self.next as u8), blocks.len());
        let upper = Block::<B>::cast_slice_to_core(&self.upper).as_flattened();
        let last = LAST_BYTES[low % 4].0[low / 4 * 4..][..count].as_flattened();
        let blocks = Block::<B>::cast_slice_to_core_mut(blocks).as_flattened_mut();
        for ((byte, upper), last) in blocks.iter_mut().zip(upper).zip(last) {
            *byte = upper | last;
        }
        self.next = self.next.wrapping_add(count as u128);
        if usize::from(self.next as u8) < count {
            self.refill(0, self.next);
        }
        self.split();
    }

    /// Where the next counters pass a multiple of 256, their upper bytes change.
    #[inline(always)]
    fn split(&mut self) {
        let same = 256 - usize::from(self.next as u8);
        if same < self.upper.len() {
            self.refill(same, self.next.wrapping_add(same as u128));
        }
    }

    /// From block `from` on, the upper bytes are those of `counter`.
    #[inline(always)]
    fn refill(&mut self, from: usize, counter: u128) {
        let mut bytes = counter.to_be_bytes();
        bytes[15] = 0;
        self.upper.iter_mut().skip(from).for_each(|block| *block = bytes.into());
    }
}

/// The widest backend there is takes 64 blocks.
const MOST_AT_ONCE: usize = 64;

/// Blocks whose last bytes count up, modulo 256.
#[repr(align(64))]
struct LastBytes([[u8; 16]; 256 + MOST_AT_ONCE]);

/// Last bytes that count from 0, 1, 2 and 3, so that there is a place on a cache line to read from for any beginning.
static LAST_BYTES: [LastBytes; 4] = [last_bytes(0), last_bytes(1), last_bytes(2), last_bytes(3)];

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn last_bytes(first: usize) -> LastBytes {
    let mut blocks = [[0; 16]; 256 + MOST_AT_ONCE];
    let mut i = 0;
    while i < blocks.len() {
        blocks[i][15] = (first + i) as u8;
        i += 1;
    }
    LastBytes(blocks)
}

/// Overwrites the stack below the caller, where the loop may have left its last keystream. Wiping a buffer inside
/// the loop's own function would keep the keystream in memory instead of registers, and halves the speed. A best
/// effort: see [`secret`](crate::secret) for what is not protected.
#[inline(never)]
fn wipe_stack() {
    let mut below = [0u64; 256];
    below.zeroize();
}

/// Adds `stream` if `flip` is zero and subtracts it if all its bits are ones: `-k = (k ^ !0) - !0`.
#[inline(always)]
fn add_words(elements: &mut [u32], stream: &[u8], flip: u32) {
    for (element, word) in elements.iter_mut().zip(stream.as_chunks::<4>().0) {
        *element = element.wrapping_add(u32::from_le_bytes(*word) ^ flip).wrapping_sub(flip);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Transcript;
    use aes::Block;
    use alloc::{vec, vec::Vec};

    fn seed_of(key: &str, counter: &str) -> MaskSeed {
        let mut bytes = [0; 48];
        hex::decode_to_slice(key, &mut bytes[..32]).unwrap();
        hex::decode_to_slice(counter, &mut bytes[32..]).unwrap();
        MaskSeed::from_bytes(Secret::new(bytes))
    }

    /// The definition, one block at a time.
    fn keystream(seed: &MaskSeed, length: usize) -> Vec<u32> {
        let (cipher, start) = seed.expand();
        let mut words = Vec::new();
        for i in 0..length.div_ceil(4) {
            let mut block = Block::from(start.wrapping_add(i as u128).to_be_bytes());
            cipher.encrypt_block(&mut block);
            words.extend(block.chunks(4).map(|w| u32::from_le_bytes(w.try_into().unwrap())));
        }
        words.truncate(length);
        words
    }

    /// NIST SP 800-38A, F.5.5 (CTR-AES256.Encrypt): plaintext xor ciphertext is the keystream.
    #[test]
    fn keystream_is_the_standards() {
        let seed = seed_of(
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
            "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
        );
        let plain = hex::decode(concat!(
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51",
            "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
        ))
        .unwrap();
        let cipher = hex::decode(concat!(
            "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5",
            "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
        ))
        .unwrap();
        let expected: Vec<u32> = plain
            .iter()
            .zip(&cipher)
            .map(|(p, c)| p ^ c)
            .collect::<Vec<u8>>()
            .chunks(4)
            .map(|w| u32::from_le_bytes(w.try_into().unwrap()))
            .collect();
        let mut vector = vec![0; 16];
        seed.apply(Sign::Add, 0, &mut vector);
        assert_eq!(vector, expected);
    }

    #[test]
    fn parts_of_any_length_agree_with_the_definition_and_come_off_again() {
        let seed = MaskSeed::new(b"secret", &Transcript::new("test").finish());
        for length in [0, 1, 3, 4, 5, 1023, 1024, 1025, 5000] {
            let stream = keystream(&seed, length);
            let mut vector: Vec<u32> = (0..length as u32).map(|i| i.wrapping_mul(77)).collect();
            let before = vector.clone();
            seed.apply(Sign::Add, 0, &mut vector);
            for ((masked, plain), word) in vector.iter().zip(&before).zip(&stream) {
                assert_eq!(*masked, plain.wrapping_add(*word));
            }
            let cut = length / 2 / BLOCK * BLOCK;
            let (front, back) = vector.split_at_mut(cut);
            seed.apply(Sign::Subtract, cut as u64, back);
            seed.apply(Sign::Add.inverse(), 0, front);
            assert_eq!(vector, before);
        }
    }

    /// The counter is one 128-bit number: it carries through the upper half and wraps.
    #[test]
    fn the_counter_carries() {
        let key = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";
        for counter in ["0000000000000000ffffffffffffff80", "ffffffffffffffffffffffffffffff80"] {
            let seed = seed_of(key, counter);
            let mut vector = vec![0; 4096];
            seed.apply(Sign::Add, 0, &mut vector);
            assert_eq!(vector, keystream(&seed, 4096), "{counter}");
            let mut later = vec![0; 2048];
            seed.apply(Sign::Add, 2048, &mut later);
            assert_eq!(later, vector[2048..]);
        }
    }

    #[test]
    fn purposes_have_independent_masks() {
        let masks = ["a", "b"].map(|purpose| {
            let mut vector = vec![0; 4];
            MaskSeed::new(b"secret", &Transcript::new(purpose).finish()).apply(Sign::Add, 0, &mut vector);
            vector
        });
        assert_ne!(masks[0], masks[1]);
    }
}
