//! The sum of an attempt, on as many threads as its driver has.
//!
//! One thread reads the survivors' chunks and adds them up: a store is read in one place, and memory is what it waits
//! for. Taking the masks off is where the time goes when members were lost; that is split by coordinate, a chunk a
//! piece. Chunks share nothing, so the sum has the same bits however many threads there are. Memory is that of the sum
//! and of two chunks a thread, whatever the cohort's size.

use std::{
    num::NonZeroUsize,
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, TrySendError, sync_channel},
    },
    thread,
};

use consilium_crypto::ring;
use consilium_proto::ids::Id;

use super::Aggregation;

/// A chunk of the sum with its masks still on, and where it belongs in the packed sum.
struct Piece<'a> {
    index: u32,
    values: Vec<u32>,
    room: &'a mut [u8],
}

impl Aggregation {
    /// The exact ring sum, packed. `read` writes a survivor's chunk into the buffer given; it is called on this thread.
    ///
    /// # Errors
    ///
    /// In words, when `read` fails or gives what is no chunk.
    pub fn sum(
        &self,
        threads: NonZeroUsize,
        mut read: impl FnMut(&Id, u32, &mut Vec<u8>) -> Result<(), String>,
    ) -> Result<Vec<u8>, String> {
        let params = self.revealed.attempt().params();
        let total = usize::try_from(params.total_len()).map_err(|_| "the sum does not fit in memory")?;
        let mut sum = vec![0; total];
        let mut rooms = sum.chunks_mut(params.chunk_len(0).max(1));
        let helpers = threads.get().min(self.chunks as usize).saturating_sub(1);
        let (queue, inbox) = sync_channel::<Piece<'_>>(helpers);
        let inbox = Mutex::new(inbox);
        thread::scope(|scope| {
            for _ in 0..helpers {
                // Without a helper the work is done all the same.
                let named = thread::Builder::new().name("unmask".into());
                let _ = named.spawn_scoped(scope, || self.finish_all(&inbox));
            }
            let result: Result<(), String> =
                (0..self.chunks).zip(&mut rooms).try_for_each(|(index, room)| {
                    let mut values = Vec::new();
                    let read = |position, out: &mut Vec<u8>| {
                        read(self.id(position).ok_or("unknown position")?, index, out)
                    };
                    self.revealed.sum_chunk(index, read, &mut values).map_err(|error| error.to_string())?;
                    // Whoever reads takes a piece itself when all others have one waiting.
                    match queue.try_send(Piece { index, values, room }) {
                        Err(TrySendError::Full(piece) | TrySendError::Disconnected(piece)) => {
                            self.finish(piece)
                        }
                        Ok(()) => {}
                    }
                    Ok(())
                });
            drop(queue);
            self.finish_all(&inbox);
            result
        })?;
        // It could still hold pieces, for all the borrow checker knows.
        drop(inbox);
        Ok(sum)
    }

    fn finish_all(&self, inbox: &Mutex<Receiver<Piece<'_>>>) {
        // Nobody holds the lock while working, only while waiting for the next piece.
        let next = || inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
        while let Ok(piece) = next() {
            self.finish(piece);
        }
    }

    fn finish(&self, Piece { index, mut values, room }: Piece<'_>) {
        self.revealed.remove_masks(index, &mut values);
        let mut packed = Vec::with_capacity(room.len());
        ring::pack(self.revealed.attempt().params().ring(), &values, &mut packed);
        room.copy_from_slice(&packed);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use consilium_crypto::{
        digest::Digest,
        ring::{RingVector, RingWidth},
        secagg::{
            Attempt, CHUNK_ELEMENTS, LedgerHead, Member, MemberId, Params, Position, Step,
            client::{Participant, Reply},
            coordinator::Collector,
        },
        sign::SigningKey,
    };
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    const DIMENSION: usize = 5 * CHUNK_ELEMENTS + 77;

    fn name(i: u16) -> Id {
        format!("org-{i}").parse().unwrap()
    }

    /// An attempt of four of whom the last is lost after dealing: what its sum takes, and everybody's chunks.
    fn played() -> (Aggregation, BTreeMap<Id, Vec<Vec<u8>>>) {
        let width = RingWidth::new(20).unwrap();
        let params = Params::new(4, 1, 3, width, DIMENSION as u32).unwrap();
        let mut rng = StdRng::seed_from_u64(1);
        let keys: Vec<_> = (0..4).map(|_| SigningKey::generate(&mut rng)).collect();
        let members = keys.iter().zip(0..).map(|(key, i)| Member {
            id: MemberId::new(name(i).as_str()).unwrap(),
            key: key.verifying_key(),
        });
        let attempt = Arc::new(Attempt::new(Digest::of(b"sum"), params, members.collect()).unwrap());
        let mut collector = Collector::new(attempt.clone());
        let (mut clients, mut stored) = (Vec::new(), BTreeMap::new());
        let ledger = LedgerHead { length: 0, salted_head: Digest::of(b"") };
        for (i, key) in (0..).zip(&keys) {
            let (client, body) =
                Participant::start(attempt.clone(), Position(i), key, ledger, &mut rng).unwrap();
            clients.push(client);
            collector.accept(Position(i), Step::Advertise, &body).unwrap();
        }
        collector.close().unwrap();
        for (step, speakers) in [(Step::Share, 4), (Step::Input, 3), (Step::Vote, 3), (Step::Unmask, 3)] {
            for i in 0..speakers {
                let (client, key) = (&mut clients[usize::from(i)], &keys[usize::from(i)]);
                let shown = collector.delivery(Position(i)).unwrap();
                let body = match client.deliver(step, &shown, key, &mut rng).unwrap() {
                    Reply::Send(body) => body,
                    Reply::UpdateWanted => {
                        let values = (0..DIMENSION as u32).map(|j| j.wrapping_mul(31) ^ u32::from(i));
                        let update = RingVector::reduced(width, values.collect());
                        let input = client.mask(update, key).unwrap();
                        stored.insert(name(i), input.chunks);
                        input.header
                    }
                };
                collector.accept(Position(i), step, &body).unwrap();
                collector.input_complete(Position(i));
            }
            collector.close().unwrap();
        }
        let revealed = collector.revealed().unwrap().clone();
        let ids = (0..4).map(name).collect();
        (Aggregation { round: 1, attempt: 1, revealed, chunks: params.chunk_count(), ids }, stored)
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bytes_and_they_are_the_sum() {
        let (work, stored) = played();
        let ring = work.revealed.attempt().params().ring();
        let expected: Vec<u32> = (0..DIMENSION as u32)
            .map(|j| (0..3).fold(0u32, |sum, i| sum.wrapping_add(j.wrapping_mul(31) ^ i)) & ring.mask())
            .collect();
        let mut packed = Vec::new();
        ring::pack(ring, &expected, &mut packed);
        for threads in [1, 2, 3, 4, 6, 50] {
            let sum = work.sum(NonZeroUsize::new(threads).unwrap(), |id, index, out| {
                out.extend_from_slice(&stored[id][index as usize]);
                Ok(())
            });
            assert!(sum.unwrap() == packed, "{threads} threads");
        }
    }

    #[test]
    fn a_store_that_fails_on_the_way_is_heard_on_any_number_of_threads() {
        let (work, stored) = played();
        for threads in [1, 2, 5] {
            let sum = work.sum(NonZeroUsize::new(threads).unwrap(), |id, index, out| {
                out.extend_from_slice(&stored[id][index as usize]);
                if index == 3 { Err("disk".into()) } else { Ok(()) }
            });
            assert_eq!(sum, Err("disk".to_owned()), "{threads} threads");
        }
    }
}
