//! A fast generator of cryptographic random bits: AES-256 in counter mode.
//!
//! Keyed once with 32 bytes; block `i` of the stream is the encryption of `i` as a 128-bit little-endian
//! number (NIST SP 800-90A, section 10.2.1, without the derivation function and reseeding). Until 2⁴⁰ blocks
//! are drawn, telling the stream from uniform bits by missing collisions has advantage below 2⁻⁴⁸.
//!
//! Key schedule, counter and unused bytes are wiped on drop. The stream gives no protection against somebody
//! who reads this process's memory while it draws: make one for a task, and drop it after.

use core::convert::Infallible;
use core::fmt;

use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use aes::{Aes256, Block};
use rand_core::{CryptoRng, SeedableRng, TryCryptoRng, TryRng};
use zeroize::Zeroize;

/// Blocks made at a time: 4 KiB, well inside the first-level cache.
const BLOCKS: usize = 256;
const BYTES: usize = 16 * BLOCKS;

/// AES-256 in counter mode as a random generator.
pub struct BulkRng {
    cipher: Aes256,
    counter: u128,
    buffer: [u8; BYTES],
    /// Bytes of `buffer` that have been handed out.
    used: usize,
}

impl BulkRng {
    /// Keys a stream with 32 bytes from the operating system's generator, or from one seeded by it. The same
    /// key gives the same stream: never use one twice.
    pub fn new(mut key: [u8; 32]) -> Self {
        let mut array = Array::from(key);
        let cipher = Aes256::new(&array);
        array.as_mut_slice().zeroize();
        key.zeroize();
        Self { cipher, counter: 0, buffer: [0; BYTES], used: BYTES }
    }

    /// Draws a key from `rng` and keys a stream with it.
    pub fn from_crypto_rng(rng: &mut impl CryptoRng) -> Self {
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        let stream = Self::new(key);
        key.zeroize();
        stream
    }

    fn refill(&mut self) {
        self.counter = keystream(&self.cipher, self.counter, &mut self.buffer);
        self.used = 0;
    }

    #[inline]
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut word = [0; N];
        match self.buffer.get(self.used..self.used + N) {
            Some(bytes) => {
                word.copy_from_slice(bytes);
                self.used += N;
            }
            None => self.copy_to(&mut word),
        }
        word
    }

    fn copy_to(&mut self, dst: &mut [u8]) {
        let dst = self.hand_out(dst);
        if dst.is_empty() {
            return;
        }
        // The buffer is used up: whole buffers go straight to where they are wanted.
        let (whole, rest) = dst.as_chunks_mut::<BYTES>();
        for chunk in whole {
            self.counter = keystream(&self.cipher, self.counter, chunk);
        }
        if !rest.is_empty() {
            self.refill();
            self.hand_out(rest);
        }
    }

    /// Moves what the buffer still has to the front of `dst`; what is left of `dst`.
    fn hand_out<'a>(&mut self, dst: &'a mut [u8]) -> &'a mut [u8] {
        let (_, fresh) = self.buffer.split_at(self.used.min(BYTES));
        let count = fresh.len().min(dst.len());
        let (now, later) = dst.split_at_mut(count);
        now.copy_from_slice(fresh.split_at(count).0);
        self.used += count;
        later
    }
}

/// Overwrites `bytes` with the encryptions of `counter` and its successors; the next counter.
fn keystream(cipher: &Aes256, mut counter: u128, bytes: &mut [u8; BYTES]) -> u128 {
    let (blocks, _) = Block::slice_as_chunks_mut(bytes);
    for block in blocks.iter_mut() {
        *block = Array::from(counter.to_le_bytes());
        counter = counter.wrapping_add(1);
    }
    cipher.encrypt_blocks(blocks);
    counter
}

impl SeedableRng for BulkRng {
    type Seed = [u8; 32];

    fn from_seed(seed: [u8; 32]) -> Self {
        Self::new(seed)
    }
}

impl TryRng for BulkRng {
    type Error = Infallible;

    #[inline]
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(self.take()))
    }

    #[inline]
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_le_bytes(self.take()))
    }

    #[inline]
    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        self.copy_to(dst);
        Ok(())
    }
}

impl TryCryptoRng for BulkRng {}

impl Drop for BulkRng {
    fn drop(&mut self) {
        // The cipher's own key schedule is wiped by its own drop.
        self.buffer.zeroize();
        self.counter = 0;
    }
}

impl zeroize::ZeroizeOnDrop for BulkRng {}

impl fmt::Debug for BulkRng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BulkRng(<redacted>)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use rand_core::Rng;

    #[test]
    fn the_stream_is_aes_256_of_the_counter() {
        // FIPS 197 has no counter of zero: these are AES-256 under key 00…00 of blocks 0 and 1.
        let mut rng = BulkRng::new([0; 32]);
        let mut first = [0; 32];
        rng.fill_bytes(&mut first);
        assert_eq!(hex::encode(&first[..16]), "dc95c078a2408989ad48a21492842087");
        let mut block = Block::from([0u8; 16]);
        block[0] = 1;
        Aes256::new(&Array::from([0; 32])).encrypt_block(&mut block);
        assert_eq!(&first[16..], block.as_slice());
    }

    #[test]
    fn however_it_is_read_the_stream_is_one() {
        let mut whole = vec![0; 3 * BYTES];
        BulkRng::new([7; 32]).fill_bytes(&mut whole);
        let mut rng = BulkRng::new([7; 32]);
        let mut pieces = vec![];
        let mut length = 1;
        while pieces.len() + length + 12 <= whole.len() {
            let mut piece = vec![0; length];
            rng.fill_bytes(&mut piece);
            pieces.extend_from_slice(&piece);
            pieces.extend_from_slice(&rng.next_u32().to_le_bytes());
            pieces.extend_from_slice(&rng.next_u64().to_le_bytes());
            length = length * 3 % 1021 + 1;
        }
        assert_eq!(pieces, whole[..pieces.len()]);
        assert!(pieces.len() > 2 * BYTES);
    }
}
