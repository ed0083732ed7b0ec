//! What holds in every step: one answer each, the own update checked, no panic.

use super::{votes::votes_on, *};

/// Both kinds of share asked for: first for a set with member 9, then for one without. After the first answer
/// there is nothing left to answer with.
#[test]
fn t1_both_kinds_of_share_asked() {
    let mut world = before(Step::Unmask, 1);
    let delivery = world.delivery(VICTIM);
    world.show(VICTIM, &delivery).unwrap();
    let without = [0, 1, 2, 3, 4, 5, 6, 7, 8];
    let votes = votes_on(&world, &delivery, &without, &without);
    let refusal = world.show(VICTIM, &votes).unwrap_err();
    assert_eq!(refusal, Refusal::OutOfTurn { next: None, got: Step::Unmask });
}

#[test]
fn t1_a_second_vote_and_a_second_vector() {
    let mut world = before(Step::Vote, 1);
    let delivery = world.delivery(VICTIM);
    let at = usize::from(VICTIM);
    let update = || RingVector::zeros(RingWidth::new(20).unwrap(), 20);
    let again = world.clients[at].mask(update(), &world.keys[at]).unwrap_err();
    assert_eq!(again, Refusal::OutOfTurn { next: Some(Step::Vote), got: Step::Input });
    world.show(VICTIM, &delivery).unwrap();
    let fewer = join_list(Step::Vote, &split_list(&delivery, INPUT_HEADER)[..9]);
    let again = world.show(VICTIM, &fewer).unwrap_err();
    assert_eq!(again, Refusal::OutOfTurn { next: Some(Step::Unmask), got: Step::Vote });
    assert!(matches!(world.clients[at], Participant::Voted(_)), "nothing was read");
}

#[test]
fn l1_an_update_of_another_shape() {
    for (bits, length) in [(20, 19), (20, 21), (19, 20), (32, 20)] {
        let mut world = before(Step::Input, 1);
        world.ready(VICTIM);
        let at = usize::from(VICTIM);
        let update = RingVector::zeros(RingWidth::new(bits).unwrap(), length);
        let refusal = world.clients[at].mask(update, &world.keys[at]).unwrap_err();
        assert_eq!((refusal.check(), refusal.blame()), ("L1", Blame::Local));
        assert!(matches!(world.clients[at], Participant::Ended));
    }
}

#[test]
fn a_client_does_not_start_with_the_wrong_key_or_a_broken_generator() {
    struct Stuck;
    impl rand_core::TryRng for Stuck {
        type Error = std::convert::Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            Ok(7)
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            Ok(7)
        }
        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
            bytes.fill(7);
            Ok(())
        }
    }
    impl rand_core::TryCryptoRng for Stuck {}

    let world = World::new(Shape::of(3, 5), 1);
    let ledger = consilium_crypto::secagg::LedgerHead { length: 0, salted_head: Digest([0; 32]) };
    let start = |me, key| {
        Participant::start(world.attempt.clone(), Position(me), key, ledger, &mut rng_of(1, 0)).unwrap_err()
    };
    assert!(matches!(start(0, &world.keys[1]), SetupError::WrongKey { .. }));
    assert_eq!(start(3, &world.keys[0]), SetupError::NotAMember { position: Position(3) });
    let stuck = Participant::start(world.attempt.clone(), Position(0), &world.keys[0], ledger, &mut Stuck);
    assert!(matches!(stuck, Err(SetupError::Randomness(_))));
}

/// Rubbish and near misses into every decoder a client has: nothing panics, and nothing but the honest bytes
/// is accepted.
#[test]
fn mutated_deliveries_are_refused_without_panic() {
    let mut dice = rng_of(77, 0);
    for step in [Step::Share, Step::Input, Step::Vote, Step::Unmask] {
        for round in 0..60 {
            let mut world = World::new(Shape::of(3, 4), 1);
            let all = world.everyone();
            world.advertise(&all);
            for earlier in [Step::Share, Step::Input, Step::Vote] {
                if earlier < step {
                    if earlier == Step::Input { world.input(&all) } else { world.share(&all) }
                }
            }
            let honest = world.delivery(0);
            let bent = mutate(&honest, round, &mut dice);
            if bent != honest {
                assert!(world.show(0, &bent).is_err(), "{step}, round {round}");
            }
        }
    }
}

/// A seeded mutation: flipped bits, cuts, insertions, repeated parts, noise.
fn mutate(honest: &[u8], kind: usize, dice: &mut impl Rng) -> Vec<u8> {
    let mut bytes = honest.to_vec();
    let mut at = || dice.next_u32() as usize % honest.len();
    match kind % 6 {
        0 => bytes[at()] ^= 1 << (kind / 6 % 8),
        1 => bytes.truncate(at()),
        2 => bytes.insert(at(), kind as u8),
        3 => {
            let (a, b) = (at(), at());
            bytes.copy_within(a.min(b)..a.max(b), 0);
        }
        4 => {
            let from = at();
            dice.fill_bytes(&mut bytes[from..]);
        }
        _ => {
            let from = at();
            bytes.extend_from_slice(&honest[from..]);
        }
    }
    bytes
}
