//! Threads for work that falls into pieces: masking, packing and hashing a vector.

use std::{
    num::NonZeroUsize,
    panic,
    sync::{Mutex, PoisonError},
    thread,
};

use consilium_crypto::workers::{Packed, Piece, Workers};

/// How many threads to use. They live as long as one piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads(NonZeroUsize);

impl Threads {
    /// The calling thread alone.
    pub const ONE: Self = Self(NonZeroUsize::MIN);

    /// So many, the calling one among them.
    pub fn new(count: NonZeroUsize) -> Self {
        Self(count)
    }

    /// As many as this process may use processors.
    pub fn of_this_machine() -> Self {
        Self(thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }
}

impl Workers for Threads {
    fn map(&self, pieces: Vec<Piece<'_>>, work: &(dyn Fn(Piece<'_>) -> Packed + Sync)) -> Vec<Packed> {
        self.spread(pieces, work)
    }
}

impl Threads {
    /// Applies `work` to every piece; the results are in the order of the pieces.
    fn spread<T: Send, R: Send>(&self, pieces: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
        let threads = self.0.get().min(pieces.len());
        if threads < 2 {
            return pieces.into_iter().map(work).collect();
        }
        let queue = Mutex::new(pieces.into_iter().enumerate());
        // Nobody holds the lock while working.
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let run = || {
            let mut done = Vec::new();
            while let Some((index, piece)) = next() {
                done.push((index, work(piece)));
            }
            done
        };
        let mut done = thread::scope(|scope| {
            let named = |_| thread::Builder::new().name("mask".into());
            // Without a helper the work is done all the same.
            let helpers: Vec<_> =
                (1..threads).map(named).filter_map(|it| it.spawn_scoped(scope, run).ok()).collect();
            let mut done = run();
            for helper in helpers {
                done.extend(helper.join().unwrap_or_else(|why| panic::resume_unwind(why)));
            }
            done
        });
        done.sort_unstable_by_key(|(index, _)| *index);
        done.into_iter().map(|(_, result)| result).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once_and_results_keep_their_order() {
        for threads in [1, 2, 3, 16] {
            let threads = Threads::new(NonZeroUsize::new(threads).unwrap());
            for pieces in [0u32, 1, 2, 3, 100] {
                let mut cells: Vec<u32> = (0..pieces).collect();
                let done = threads.spread(cells.iter_mut().collect(), |cell: &mut u32| {
                    *cell += 1000;
                    *cell * 2
                });
                assert_eq!(cells, (1000..1000 + pieces).collect::<Vec<_>>());
                assert_eq!(done, (0..pieces).map(|i| 2 * (i + 1000)).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_panic_in_one_piece_is_not_lost() {
        let threads = Threads::new(NonZeroUsize::new(3).unwrap());
        let result = panic::catch_unwind(|| {
            threads.spread((0..10).collect(), |piece: i32| assert_ne!(piece, 7));
        });
        assert!(result.is_err());
    }
}
