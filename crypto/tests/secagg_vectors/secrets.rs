//! What a client prints of itself: nothing that anybody could use.

use consilium_crypto::{
    ring::RingVector,
    secagg::{
        Position, Step,
        client::{Participant, Reply},
    },
};

use crate::{
    inputs::{Inputs, Tape},
    manual::{Pair, scalar},
    read,
    run::run,
};

/// The secrets of one member, as anything that prints bytes would print them.
fn spellings(inputs: &Inputs, member: u16) -> Vec<String> {
    let inputs_of = &inputs.members[usize::from(member)];
    let draws = &inputs_of.draws;
    let mut secrets: Vec<Vec<u8>> = vec![inputs_of.signing_seed.to_vec()];
    secrets.extend(draws.keys.iter().map(|draw| scalar(draw).to_bytes().to_vec()));
    secrets.extend(draws.coefficients.iter().flatten().map(|draw| scalar(draw).to_bytes().to_vec()));
    secrets.extend(draws.salts.iter().map(|salt| salt.to_vec()));
    let keys = |i: u16| inputs.members[usize::from(i)].draws.keys.map(|draw| Pair::of(scalar(&draw)));
    for peer in (0..inputs.n()).filter(|peer| *peer != member) {
        secrets.extend([0, 1].map(|key| keys(member)[key].agree(&keys(peer)[key].public).to_vec()));
    }
    let mut spellings = Vec::new();
    // One coefficient of this vector is zero, and zeros are printed for other reasons.
    for secret in secrets.iter().filter(|secret| secret.iter().any(|byte| *byte != 0)) {
        let hex = hex::encode(&secret[..8]);
        let decimal: Vec<String> = secret[..6].iter().map(u8::to_string).collect();
        spellings.extend([hex.to_uppercase(), hex, decimal.join(",")]);
    }
    spellings
}

/// Every state of a client, and the collector and the revealed secrets at the end, printed both ways.
#[test]
fn nothing_secret_is_printed_in_any_state() {
    let vector = read("n5.json");
    let inputs = Inputs::from_json(&vector);
    let run = run(&inputs);
    let me = 2;
    let forbidden = spellings(&inputs, me);
    let update: Vec<String> = inputs.update(me).iter().take(4).map(u32::to_string).collect();
    let check = |what: &str, printed: String| {
        let printed: String = printed.split_whitespace().collect();
        for secret in forbidden.iter().chain([&update.join(",")]) {
            assert!(!printed.contains(secret.as_str()), "{what} prints {secret}: {printed}");
        }
    };
    let show = |client: &Participant| check("a client", format!("{client:?} {client:#?}"));

    let member = &inputs.members[usize::from(me)];
    let key = &run.keys[usize::from(me)];
    check("a signing key", format!("{key:?}"));
    let mut tape = Tape::new(&member.draws, me, &inputs.speaks[0]);
    let (mut client, _) =
        Participant::start(run.attempt.clone(), Position(me), key, member.ledger, &mut tape).unwrap();
    show(&client);
    let mut states = 1;
    for step in [Step::Share, Step::Input, Step::Vote, Step::Unmask] {
        let delivery = &run.deliveries[usize::from(step.number()) - 1][&me];
        let reply = client.deliver(step, delivery, key, &mut tape).unwrap();
        show(&client);
        states += 1;
        if reply == Reply::UpdateWanted {
            let update = RingVector::new(run.attempt.params().ring(), inputs.update(me)).unwrap();
            check("an update", format!("{update:?} {update:#?}"));
            client.mask(update, key).unwrap();
            show(&client);
            states += 1;
        }
    }
    assert_eq!(states, 6, "advertised, dealt, ready, masked, voted, ended");
    check("a collector", format!("{:?} {:#?}", run.collector, run.collector));
    check("revealed secrets", format!("{:?}", run.collector.revealed().unwrap()));
}
