//! Who does independent pieces of work.
//!
//! Nothing here starts a thread: a caller that has some lends them through [`Workers`]. What is computed does not depend
//! on them, because pieces share nothing and their results are put together in the pieces' order.

use alloc::vec::Vec;

use crate::digest::Digest;

/// A chunk of a vector, and the index of its first element.
pub type Piece<'a> = (u64, &'a mut [u32]);

/// A chunk, masked and packed, and its digest.
pub type Packed = (Digest, Vec<u8>);

/// Hands of a caller.
pub trait Workers {
    /// Applies `work` to every piece, in any order and on any number of threads, and returns the results in the order of
    /// the pieces.
    fn map(&self, pieces: Vec<Piece<'_>>, work: &(dyn Fn(Piece<'_>) -> Packed + Sync)) -> Vec<Packed>;
}

/// The calling thread alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OneThread;

impl Workers for OneThread {
    fn map(&self, pieces: Vec<Piece<'_>>, work: &(dyn Fn(Piece<'_>) -> Packed + Sync)) -> Vec<Packed> {
        pieces.into_iter().map(work).collect()
    }
}
