//! A1 to A7: what a client refuses of the adverts.

use consilium_crypto::secagg::Attempt;

use super::*;

#[test]
fn a1_adverts_that_are_not_a_delivery() {
    malformed(Step::Share, "A1");
    // One id twice, unsorted, or beyond the cohort.
    let relisted = |change: fn(&mut Vec<Vec<u8>>)| {
        forged(Step::Share, "A1", |_, d| {
            let mut adverts = split_list(&d, ADVERT);
            change(&mut adverts);
            join_list(Step::Share, &adverts)
        })
    };
    relisted(|adverts| adverts[3] = adverts[2].clone());
    relisted(|adverts| adverts.swap(0, 1));
    relisted(|adverts| adverts[9][HEAD] = 10);
    relisted(|adverts| adverts[2][0] = 2);
}

#[test]
fn a2_an_advert_altered_on_the_way() {
    for byte in [5, 40, 70, 110, 125, 141, 204] {
        forged(Step::Share, "A2", |_, d| with_item(&d, Step::Share, ADVERT, 2, |advert| advert[byte] ^= 1));
    }
}

#[test]
fn a2_an_advert_from_a_foreign_context() {
    // The same members and keys in another attempt.
    let mut other = World::new(Shape::of(10, 20), 1);
    other.attempt = Arc::new(
        Attempt::new(Digest([7; 32]), *other.attempt.params(), other.attempt.members().to_vec()).unwrap(),
    );
    let foreign = other.start(2);
    forged(Step::Share, "A2", |_, d| with_item(&d, Step::Share, ADVERT, 2, |advert| *advert = foreign));
}

/// Member `i` advertises something of its own making, properly signed.
fn own_making(world: &World, delivery: &[u8], i: usize, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    with_item(delivery, Step::Share, ADVERT, i, |advert| {
        let mut body = advert[..ADVERT - 64].to_vec();
        change(&mut body);
        *advert = world.sign(i as u16, "advert", &body);
    })
}

const KEYS: [std::ops::Range<usize>; 3] = [5..37, 37..69, 69..101];

/// The coordinator goes on with a member whose key the victim knows to be revoked.
#[test]
fn a7_an_advert_under_a_revoked_key() {
    let mut world = before(Step::Share, 1);
    let delivery = world.delivery(VICTIM);
    world.attempt = Arc::new(Attempt::clone(&world.attempt).without([Position(2)]));
    let own = world.start(VICTIM);
    let shown = with_item(&delivery, Step::Share, ADVERT, usize::from(VICTIM), |advert| *advert = own);
    // One that does not know accepts it, and that is no reason for one that does.
    world.show(0, &shown).unwrap();
    let refusal = refused(&mut world, &shown, "A7");
    assert_eq!(refusal.blame(), Blame::Coordinator);
}

#[test]
fn a3_the_identity_and_points_that_are_none() {
    for key in KEYS {
        for point in [[0; 32], [0xff; 32], [1; 32]] {
            forged(Step::Share, "A3", |world, d| {
                own_making(world, &d, 6, |body| body[key.clone()].copy_from_slice(&point))
            });
        }
    }
}

#[test]
fn a4_keys_that_stand_twice() {
    // Another's key, in the same role and in another; one key in two roles; the victim's own.
    for (from, at) in [(2, 0), (2, 1), (VICTIM, 2)] {
        forged(Step::Share, "A4", |world, d| {
            let stolen = split_list(&d, ADVERT)[usize::from(from)][KEYS[1].clone()].to_vec();
            own_making(world, &d, 6, |body| body[KEYS[at].clone()].copy_from_slice(&stolen))
        });
    }
    forged(Step::Share, "A4", |world, d| {
        own_making(world, &d, 6, |body| body.copy_within(KEYS[0].clone(), KEYS[2].start))
    });
}

#[test]
fn a5_the_own_advert_missing_or_an_older_one() {
    forged(Step::Share, "A5", |_, d| {
        let mut adverts = split_list(&d, ADVERT);
        adverts.remove(usize::from(VICTIM));
        join_list(Step::Share, &adverts)
    });
    // The coordinator kept an advert that the same organization made before a restart.
    forged(Step::Share, "A5", |world, d| {
        let mut older = World::new(world.shape, 1);
        older.rngs[usize::from(VICTIM)] = rng_of(99, 0);
        let older = older.start(VICTIM);
        with_item(&d, Step::Share, ADVERT, usize::from(VICTIM), |advert| *advert = older)
    });
}

#[test]
fn a6_too_few_adverts() {
    forged(Step::Share, "A6", |_, d| {
        let adverts = split_list(&d, ADVERT);
        join_list(Step::Share, &adverts[..6])
    });
}
