//! Sequences of operations on both machines: the bytes are a program. What they may do is what a network and a
//! coordinator's clock may do: deliver truly, altered, again, out of turn, to the wrong member; take bodies the same ways;
//! close too early; kill members for good.
//!
//! Whatever happens: nothing panics; no member says two things in one step (one advert, deal, vector, vote, answer); a
//! delivery that differs from the true one is refused; nobody whose own words arrived unaltered is blamed; and a sum that is
//! released is the exact sum over its survivors.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc};

use chacha20::ChaCha20Rng;
use consilium_crypto::{
    ring::RingVector,
    secagg::{
        Attempt, Position, Refusal, Step, chunk_digest,
        client::{Participant, Reply},
        coordinator::Collector,
    },
    sign::SigningKey,
};
use rand_core::SeedableRng;

use crate::{inputs::Inputs, secagg::attempt_facts};

const N: usize = 4;
/// Operations in one program.
const MOST: usize = 200;

/// Runs a program.
pub(crate) fn sequence(data: &[u8]) {
    play(data);
}

/// Runs a program; whether it ended in a sum.
fn play(data: &[u8]) -> bool {
    let mut play = Play::new();
    let mut program = Program(data);
    for _ in 0..MOST {
        let Some(op) = program.byte() else { break };
        play.step(op, &mut program);
        play.check();
    }
    play.check_sum();
    play.collector.revealed().is_some()
}

struct Program<'a>(&'a [u8]);

impl Program<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A number below `bound`; zero when the program has ended.
    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte().unwrap_or(0)) % bound.max(1)
    }
}

struct Play {
    inputs: &'static Inputs,
    attempt: Arc<Attempt>,
    keys: Vec<SigningKey>,
    rngs: Vec<ChaCha20Rng>,
    clients: Vec<Option<Participant>>,
    collector: Collector,
    /// What each member said, by step: at most one thing each.
    said: BTreeMap<(usize, Step), Vec<u8>>,
    chunks: BTreeMap<usize, Vec<Vec<u8>>>,
    stored: BTreeMap<Position, Vec<Vec<u8>>>,
    /// Everything that was ever delivered.
    delivered: Vec<(Step, Vec<u8>)>,
    /// Members in whose name something arrived that they did not say.
    slandered: [bool; N],
}

impl Play {
    fn new() -> Self {
        let (inputs, attempt) = attempt_facts();
        Self {
            inputs,
            keys: inputs.members.iter().map(|member| SigningKey::from_seed(member.signing_seed)).collect(),
            rngs: (0..N as u64).map(ChaCha20Rng::seed_from_u64).collect(),
            clients: (0..N).map(|_| None).collect(),
            collector: Collector::new(attempt.clone()),
            attempt,
            said: BTreeMap::new(),
            chunks: BTreeMap::new(),
            stored: BTreeMap::new(),
            delivered: Vec::new(),
            slandered: [false; N],
        }
    }

    fn step(&mut self, op: u8, program: &mut Program<'_>) {
        match op % 13 {
            0 => self.start(program.below(N)),
            1 => self.deliver(program.below(N)),
            2 => self.deliver_altered(program),
            3 => self.deliver_again(program),
            4 => self.mask(program.below(N)),
            5 => self.say(program.below(N)),
            6 => self.say_anything(program),
            7 => self.store(program.below(N)),
            8 => drop(self.collector.close()),
            9 => self.deliver_raw(program),
            10 => self.clients[program.below(N)] = Some(Participant::Ended),
            // A whole step as it should be, so that short programs get far.
            _ => self.honest_step(),
        }
    }

    fn start(&mut self, i: usize) {
        // A member that was killed sits the attempt out.
        if self.clients[i].is_some() {
            return;
        }
        let (key, ledger) = (&self.keys[i], self.inputs.members[i].ledger);
        let me = Position(i as u16);
        let started = Participant::start(self.attempt.clone(), me, key, ledger, &mut self.rngs[i]);
        let (client, body) = started.expect("the generator is sound");
        self.clients[i] = Some(client);
        self.note(i, Step::Advertise, body);
    }

    /// A member has said something: for the first and only time in this step.
    fn note(&mut self, i: usize, step: Step, body: Vec<u8>) {
        assert!(self.said.insert((i, step), body).is_none(), "member {i} spoke twice in step {step}");
    }

    fn show(&mut self, i: usize, step: Step, delivery: &[u8]) -> Result<(), Refusal> {
        let Some(client) = &mut self.clients[i] else { return Ok(()) };
        match client.deliver(step, delivery, &self.keys[i], &mut self.rngs[i])? {
            Reply::Send(body) => self.note(i, step, body),
            Reply::UpdateWanted => {}
        }
        Ok(())
    }

    fn deliver(&mut self, i: usize) {
        let step = self.collector.step();
        if let Some(delivery) = self.collector.delivery(Position(i as u16)) {
            if let Err(refusal) = self.show(i, step, &delivery) {
                // The coordinator is honest here, so only turns can be wrong.
                assert_eq!(refusal.check(), "T1", "{refusal}");
            }
            self.delivered.push((step, delivery));
        }
    }

    fn deliver_altered(&mut self, program: &mut Program<'_>) {
        let (i, step) = (program.below(N), self.collector.step());
        let (high, low, change) = (program.below(256), program.below(256), program.below(255) as u8 + 1);
        if let Some(mut delivery) = self.collector.delivery(Position(i as u16)) {
            let at = (high << 8 | low) % delivery.len();
            delivery[at] ^= change;
            if self.clients[i].is_some() {
                assert!(
                    self.show(i, step, &delivery).is_err(),
                    "an altered delivery was taken, step {step} byte {at}"
                );
            }
        }
    }

    fn deliver_again(&mut self, program: &mut Program<'_>) {
        let i = program.below(N);
        let index = program.below(self.delivered.len());
        if let Some((step, delivery)) = self.delivered.get(index).cloned() {
            let step = if program.below(4) == 0 { Step::ALL[program.below(5)] } else { step };
            let _ = self.show(i, step, &delivery);
        }
    }

    fn deliver_raw(&mut self, program: &mut Program<'_>) {
        let (i, step, length) = (program.below(N), Step::ALL[program.below(5)], program.below(64));
        let delivery: Vec<u8> = (0..length).map_while(|_| program.byte()).collect();
        if self.clients[i].is_some() {
            assert!(self.show(i, step, &delivery).is_err());
        }
    }

    fn mask(&mut self, i: usize) {
        let update = RingVector::new(self.attempt.params().ring(), self.inputs.update(i as u16)).unwrap();
        if let Some(client) = &mut self.clients[i]
            && let Ok(input) = client.mask(update, &self.keys[i])
        {
            self.note(i, Step::Input, input.header);
            self.chunks.insert(i, input.chunks);
        }
    }

    /// What a member said in the open step arrives.
    fn say(&mut self, i: usize) {
        let step = self.collector.step();
        if let Some(body) = self.said.get(&(i, step)) {
            let _ = self.collector.accept(Position(i as u16), step, body);
        }
    }

    /// Anything that anybody said arrives in anybody's name, in any step, perhaps altered.
    fn say_anything(&mut self, program: &mut Program<'_>) {
        let index = program.below(self.said.len());
        let Some(((of, said_in), body)) = self.said.iter().nth(index) else { return };
        let (of, said_in, mut body) = (*of, *said_in, body.clone());
        let from = if program.below(2) == 0 { of } else { program.below(N + 1) };
        let step = if program.below(2) == 0 { said_in } else { Step::ALL[program.below(5)] };
        let (high, low, change) = (program.below(256), program.below(256), program.below(4) as u8);
        let at = (high << 8 | low) % body.len();
        body[at] ^= change;
        let own = from == of && step == said_in && change == 0;
        let result = self.collector.accept(Position(from as u16), step, &body);
        if change != 0 {
            assert!(result.is_err(), "an altered body was taken, step {step} byte {at}");
        }
        if !own && from < N {
            self.slandered[from] = true;
        }
    }

    /// A member's chunks arrive and are stored, if its header has.
    fn store(&mut self, i: usize) {
        let Some(chunks) = self.chunks.get(&i) else { return };
        let position = Position(i as u16);
        let fits = |(index, chunk): (u32, &Vec<u8>)| {
            self.collector.chunk_digest(position, index) == Some(chunk_digest(chunk))
                && self.collector.chunk_len(index) == chunk.len()
        };
        if (0..).zip(chunks).all(fits) {
            self.stored.insert(position, chunks.clone());
            self.collector.input_complete(position);
        }
    }

    fn honest_step(&mut self) {
        for i in 0..N {
            match self.collector.step() {
                Step::Advertise => self.start(i),
                _ => self.deliver(i),
            }
            if self.collector.step() == Step::Input {
                self.mask(i);
            }
            self.say(i);
            self.store(i);
        }
        let _ = self.collector.close();
    }

    fn check(&self) {
        for (who, fault) in self.collector.faults() {
            let known = usize::from(who.0) >= N || self.slandered[usize::from(who.0)];
            assert!(known, "{who} is blamed for {fault} and did nothing");
        }
    }

    fn check_sum(&self) {
        let Some(revealed) = self.collector.revealed() else { return };
        let ring = self.attempt.params().ring().mask();
        let mut expected = vec![0u32; self.inputs.dimension as usize];
        for survivor in revealed.survivors() {
            for (sum, element) in expected.iter_mut().zip(self.inputs.update(survivor.0)) {
                *sum = sum.wrapping_add(element) & ring;
            }
        }
        let mut sum = Vec::new();
        let mut input = |who: Position, out: &mut Vec<u8>| {
            out.extend_from_slice(&self.stored[&who][0]);
            Ok::<_, Infallible>(())
        };
        revealed.unmask_chunk(0, &mut input, &mut sum).unwrap();
        assert_eq!(sum, expected, "the sum over {:?}", revealed.survivors());
    }
}

/// Programs that end in a sum, with and without trouble on the way, and some that do not.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    // An honest attempt, spelled out.
    let mut long = Vec::new();
    for step in 0..5 {
        for i in 0..N as u8 {
            match step {
                0 => long.extend([0, i]),
                2 => long.extend([1, i, 4, i]),
                _ => long.extend([1, i]),
            }
            long.extend([5, i]);
            if step == 2 {
                long.extend([7, i]);
            }
        }
        long.push(8);
    }
    vec![
        long,
        vec![11; 5],
        // Member 3 is killed after its deal, after its vector, after its vote.
        vec![11, 11, 10, 3, 11, 11, 11],
        vec![11, 11, 11, 10, 3, 11, 11],
        vec![11, 11, 11, 11, 10, 3, 11],
        // Replays, alterations and words out of turn between honest steps.
        vec![11, 3, 0, 0, 1, 11, 2, 3, 0, 9, 7, 11, 3, 1, 1, 1, 11, 6, 2, 0, 0, 0, 9, 1, 11],
        vec![11, 6, 1, 1, 2, 1, 3, 0, 0, 0, 11, 6, 4, 0, 0, 0, 0, 0, 11, 9, 1, 2, 5, 1, 2, 3, 4, 5, 11, 11],
        vec![11, 11, 1, 0, 1, 1, 4, 0, 5, 0, 8, 11],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mutator;

    /// The mutations are of use only if many of them get far.
    #[test]
    fn many_programs_end_in_a_sum_and_many_do_not() {
        let seeds = seeds();
        let released: Vec<bool> = seeds.iter().map(|seed| play(seed)).collect();
        assert_eq!(released[..5], [true; 5], "{released:?}");
        let mut mutator = Mutator::new(seeds, 1);
        let sums = (0..200).filter(|_| play(&mutator.next_input())).count();
        assert!((20..180).contains(&sums), "{sums} of 200");
    }
}
