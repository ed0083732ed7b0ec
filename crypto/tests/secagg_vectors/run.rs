//! The library's side of a transcript: real clients, a real collector, and everything they said.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use consilium_crypto::{
    ring::RingVector,
    secagg::{
        Attempt, Position, Step,
        client::{Participant, Reply},
        coordinator::Collector,
    },
    sign::SigningKey,
};

use crate::inputs::{Inputs, Tape};

pub struct Run {
    pub attempt: Arc<Attempt>,
    pub keys: Vec<SigningKey>,
    pub clients: BTreeMap<u16, Participant>,
    /// The bodies of each step, by sender.
    pub bodies: [BTreeMap<u16, Vec<u8>>; 5],
    /// What opened each step, by recipient.
    pub deliveries: [BTreeMap<u16, Vec<u8>>; 5],
    pub chunks: BTreeMap<u16, Vec<Vec<u8>>>,
    pub collector: Collector,
}

/// Runs an attempt to its end.
pub fn run(inputs: &Inputs) -> Run {
    run_through(inputs, 5)
}

/// Runs the first `steps` steps of an attempt, closing each.
pub fn run_through(inputs: &Inputs, steps: usize) -> Run {
    let mut run = run_open(inputs, steps, |_, _, body| body);
    run.collector.close().unwrap();
    run
}

/// Runs the first `steps` steps of an attempt, closing each but the last; bodies may be replaced on their way to the
/// collector.
pub fn run_open(inputs: &Inputs, steps: usize, replace: impl Fn(Step, u16, Vec<u8>) -> Vec<u8>) -> Run {
    let attempt = Arc::new(inputs.attempt());
    let mut run = Run {
        keys: inputs.members.iter().map(|member| SigningKey::from_seed(member.signing_seed)).collect(),
        clients: BTreeMap::new(),
        bodies: Default::default(),
        deliveries: Default::default(),
        chunks: BTreeMap::new(),
        collector: Collector::new(attempt.clone()),
        attempt,
    };
    let mut tapes = BTreeMap::new();
    for step in Step::ALL.iter().take(steps) {
        let at = usize::from(step.number()) - 1;
        if at > 0 {
            run.collector.close().unwrap();
        }
        let mut shown = inputs.speaks[at].clone();
        if *step == Step::Input {
            // Whoever answers takes its shares in, even if it sends no vector.
            shown.extend(inputs.speaks[4].iter().filter(|member| !inputs.speaks[2].contains(member)));
        }
        for member in shown {
            let key = &run.keys[usize::from(member)];
            let reply = if *step == Step::Advertise {
                let inputs_of = &inputs.members[usize::from(member)];
                let mut tape = Tape::new(&inputs_of.draws, member, &inputs.speaks[0]);
                let me = Position(member);
                let started =
                    Participant::start(run.attempt.clone(), me, key, inputs_of.ledger, &mut tape).unwrap();
                run.clients.insert(member, started.0);
                tapes.insert(member, tape);
                Reply::Send(started.1)
            } else {
                let delivery = run.collector.delivery(Position(member)).unwrap();
                let client = run.clients.get_mut(&member).unwrap();
                let reply = client.deliver(*step, &delivery, key, tapes.get_mut(&member).unwrap()).unwrap();
                run.deliveries[at].insert(member, delivery);
                reply
            };
            let body = match reply {
                Reply::Send(body) => body,
                Reply::UpdateWanted if inputs.speaks[at].contains(&member) => {
                    let update = RingVector::new(run.attempt.params().ring(), inputs.update(member)).unwrap();
                    let input = run.clients.get_mut(&member).unwrap().mask(update, key).unwrap();
                    run.chunks.insert(member, input.chunks);
                    input.header
                }
                Reply::UpdateWanted => continue,
            };
            let body = replace(*step, member, body);
            run.collector.accept(Position(member), *step, &body).unwrap();
            run.collector.input_complete(Position(member));
            run.bodies[at].insert(member, body);
        }
        if *step == Step::Share {
            assert!(inputs.speaks[1].iter().all(|member| tapes[member].is_played()));
        }
    }
    run
}

impl Run {
    /// The sum, from the stored chunks.
    pub fn sum(&self) -> Vec<u32> {
        let revealed = self.collector.revealed().unwrap();
        let (mut sum, mut chunk) = (Vec::new(), Vec::new());
        for index in 0..self.attempt.params().chunk_count() {
            let mut input = |who: Position, out: &mut Vec<u8>| {
                out.extend_from_slice(&self.chunks[&who.0][index as usize]);
                Ok::<_, Infallible>(())
            };
            revealed.unmask_chunk(index, &mut input, &mut chunk).unwrap();
            sum.extend_from_slice(&chunk);
        }
        sum
    }
}
