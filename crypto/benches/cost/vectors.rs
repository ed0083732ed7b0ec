//! The masked vectors of a cohort, packed, as a coordinator's disk would hold them.

use consilium_crypto::{
    digest::Digest,
    secagg::{Attempt, CHUNK_ELEMENTS, chunk_digest},
};

/// Chunks in a pool: together more than the last-level cache.
const POOL: usize = 256;

/// Everybody's chunks.
pub struct Vectors {
    /// The real client's.
    client: Vec<Vec<u8>>,
    others: Others,
}

enum Others {
    /// Each survivor's own, from position 1 on.
    Whole(Vec<Vec<Vec<u8>>>),
    /// Pieces that many share: their bytes are read like any, but their sum means nothing.
    Pool { pool: Vec<(Vec<u8>, Digest)>, lengths: Vec<usize> },
}

impl Vectors {
    pub fn whole(client: Vec<Vec<u8>>, others: Vec<Vec<Vec<u8>>>) -> Self {
        Self { client, others: Others::Whole(others) }
    }

    /// Vectors of the attempt's shape, out of a pool. Elements must fill whole bytes at every chunk's end.
    pub fn pooled(client: Vec<Vec<u8>>, attempt: &Attempt) -> Self {
        let lengths = (0..attempt.params().chunk_count()).map(|i| attempt.params().chunk_len(i)).collect();
        let full = attempt.params().ring().packed_len(CHUNK_ELEMENTS);
        let pool = (0..POOL as u64)
            .map(|seed| {
                let chunk = noise(seed, full);
                let digest = chunk_digest(&chunk);
                (chunk, digest)
            })
            .collect();
        Self { client, others: Others::Pool { pool, lengths } }
    }

    /// A survivor's chunk.
    pub fn chunk(&self, member: u16, index: usize) -> &[u8] {
        match (&self.others, usize::from(member).checked_sub(1)) {
            (_, None) => &self.client[index],
            (Others::Whole(chunks), Some(other)) => &chunks[other][index],
            (Others::Pool { pool, lengths }, Some(other)) => {
                &pool[(other * lengths.len() + index) % POOL].0[..lengths[index]]
            }
        }
    }

    /// The digests of a survivor's chunks.
    pub fn digests(&self, member: u16) -> Vec<Digest> {
        let digest = |index: usize| match &self.others {
            Others::Pool { pool, lengths } if member > 0 => {
                let (whole, digest) = &pool[((usize::from(member) - 1) * lengths.len() + index) % POOL];
                if whole.len() == lengths[index] { *digest } else { chunk_digest(self.chunk(member, index)) }
            }
            _ => chunk_digest(self.chunk(member, index)),
        };
        (0..self.client.len()).map(digest).collect()
    }
}

/// Bytes that do not compress: the quality of a generator does not matter here.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
