//! Who does independent pieces of work.
//!
//! Nothing here starts a thread: a caller that has some lends them through [`Workers`]. What is computed does not depend
//! on them, because pieces share nothing and their results are put together in the pieces' order.

use alloc::vec::Vec;

/// Hands of a caller.
pub trait Workers {
    /// Applies `work` to every piece, in any order and on any number of threads, and returns the results in the order of
    /// the pieces.
    fn map<T: Send, R: Send>(&self, pieces: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R>;
}

/// The calling thread alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OneThread;

impl Workers for OneThread {
    fn map<T: Send, R: Send>(&self, pieces: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
        pieces.into_iter().map(work).collect()
    }
}
