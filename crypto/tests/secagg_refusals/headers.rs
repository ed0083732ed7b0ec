//! H1 to H7: what a client refuses of the survivors' headers.

use super::*;

#[test]
fn h1_headers_that_are_not_a_delivery() {
    malformed(Step::Vote, "H1");
    forged(Step::Vote, "H1", |_, d| {
        let mut headers = split_list(&d, INPUT_HEADER);
        headers[1] = headers[0].clone();
        join_list(Step::Vote, &headers)
    });
}

#[test]
fn h2_not_a_survivor_or_with_an_altered_header() {
    forged(Step::Vote, "H2", |_, d| {
        let mut headers = split_list(&d, INPUT_HEADER);
        headers.remove(usize::from(VICTIM));
        join_list(Step::Vote, &headers)
    });
    // What the same organization might have signed over another vector.
    forged(Step::Vote, "H2", |world, d| {
        with_item(&d, Step::Vote, INPUT_HEADER, usize::from(VICTIM), |header| {
            let mut body = header[..INPUT_HEADER - 64].to_vec();
            body[HEAD + 2 + 32] ^= 1;
            *header = world.sign(VICTIM, "input", &body);
        })
    });
}

#[test]
fn h3_a_survivor_that_never_dealt() {
    let mut world = World::new(Shape::of(10, 20), 1);
    let all = world.everyone();
    world.advertise(&all);
    world.share(&all[..9]);
    world.input(&all[..9]);
    let mut headers = split_list(&world.delivery(VICTIM), INPUT_HEADER);
    let mut body = headers[8][..INPUT_HEADER - 64].to_vec();
    body[HEAD] = 9;
    headers.push(world.sign(9, "input", &body));
    refused(&mut world, &join_list(Step::Vote, &headers), "H3");
}

#[test]
fn h4_too_few_survivors() {
    forged(Step::Vote, "H4", |_, d| join_list(Step::Vote, &split_list(&d, INPUT_HEADER)[..6]));
}

#[test]
fn h5_a_survivors_header_altered_on_the_way() {
    for byte in [40, 70, 140] {
        forged(Step::Vote, "H5", |_, d| with_item(&d, Step::Vote, INPUT_HEADER, 1, |h| h[byte] ^= 1));
    }
}

/// Equivocated dealers: the others are shown one dealer less, and mask under another step 2 hash.
#[test]
fn h6_survivors_that_saw_other_dealers() {
    let mut world = before(Step::Input, 1);
    let all = world.everyone();
    for i in &all {
        let (mut headers, mut parcels) = split_deals(&world.delivery(*i));
        if *i != VICTIM && *i != 9 {
            headers.pop();
            parcels.pop();
        }
        let deals = join_deals(&headers, &parcels);
        assert_eq!(world.show(*i, &deals).unwrap(), Reply::UpdateWanted);
    }
    let headers: Vec<Vec<u8>> = all.iter().map(|i| world.mask(*i).header[..INPUT_HEADER].to_vec()).collect();
    // An honest collector would have refused most of these headers; show them to the victim regardless.
    let delivery = join_list(Step::Vote, &headers);
    let at = usize::from(VICTIM);
    let refusal =
        world.clients[at].deliver(Step::Vote, &delivery, &world.keys[at], &mut world.rngs[at]).unwrap_err();
    assert_eq!(refusal.check(), "H6", "{refusal}");
}

#[test]
fn h7_a_survivor_with_a_vector_of_another_length() {
    forged(Step::Vote, "H7", |world, d| {
        with_item(&d, Step::Vote, INPUT_HEADER, 1, |header| {
            let mut body = header[..INPUT_HEADER - 64].to_vec();
            body[HEAD + 2 + 64] ^= 1;
            *header = world.sign(1, "input", &body);
        })
    });
}
