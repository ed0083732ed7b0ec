//! The model against the product: random walks through the model, with real clients alongside.
//!
//! At every step one client is shown a delivery, put together from what real clients said and a real colluder
//! signs: sometimes one that the model says it accepts, sometimes any at all. The product must accept exactly the
//! deliveries that the model accepts. One attempt, one model, no crash: those rules are the session's.

use std::collections::BTreeMap;

use chacha20::ChaCha20Rng;
use consilium_crypto::{
    codec::Writer,
    digest::{Digest, Transcript},
    merkle::{Tree, leaf},
    secagg::{
        LedgerHead, Position, Step,
        client::{Participant, Reply},
    },
};
use rand_core::{Rng, SeedableRng};

use crate::{
    ballots::Ballot,
    explorer::Model,
    moves::{Move, What},
    protocol::Protocol,
    rules::{Rules, Scope},
    secagg_world::*,
    state::{COLLUDER, HONEST, Life, MEMBERS, Process, Shown, State},
};

const SCOPE: Scope = Scope { attempts: 1, crash: false, models: false, variants: 3 };
const SHAPE: Shape = Shape { n: 4, t_c: 1, m_min: 3, bits: 20, dimension: 4 };
const MAIN: usize = COLLUDER;

/// What the clients said, and the state of the model that it belongs to.
struct Walk {
    world: World,
    state: State,
    adverts: Vec<Vec<u8>>,
    deals: BTreeMap<usize, Vec<u8>>,
    headers: BTreeMap<usize, Vec<u8>>,
    votes: BTreeMap<usize, [u8; 64]>,
}

impl Walk {
    fn new(seed: u8) -> Self {
        let mut world = World::new(SHAPE, seed);
        let adverts = (0..3).map(|i| world.start(i)).collect();
        let state = Protocol { rules: Rules::STANDING, scope: SCOPE }.initial()[0];
        let (deals, headers, votes) = Default::default();
        Self { world, state, adverts, deals, headers, votes }
    }

    /// The colluder with its keys number `number`, and their advert.
    fn colluder(&self, number: u8) -> (Participant, Vec<u8>) {
        let ledger = LedgerHead { length: 7, salted_head: Digest([9; 32]) };
        let me = Position(MAIN as u16);
        let mut rng = ChaCha20Rng::seed_from_u64(1000 + u64::from(number));
        Participant::start(self.world.attempt.clone(), me, &self.world.keys[MAIN], ledger, &mut rng).unwrap()
    }

    /// Adverts as shown, one after another.
    fn advert_list(&self, shown: Shown) -> Vec<Vec<u8>> {
        let advert = |member: usize| match member {
            MAIN => self.colluder(shown.of(MAIN)).1,
            honest => self.adverts[honest].clone(),
        };
        shown.members().map(advert).collect()
    }

    fn deal(&self, member: usize, shown: Shown, adverts: Shown) -> (Vec<u8>, Shown) {
        if member != MAIN {
            return (self.deals[&member].clone(), self.state.lives[member][0].adverts);
        }
        // Nobody advertised for it: it deals as if it had.
        let adverts = if adverts.has(MAIN) { adverts } else { adverts.with(MAIN, 1) };
        let (mut client, _) = self.colluder(adverts.of(MAIN));
        let mut rng = ChaCha20Rng::seed_from_u64(2000 + u64::from(shown.of(MAIN)));
        let delivery = join_list(Step::Share, &self.advert_list(adverts));
        match client.deliver(Step::Share, &delivery, &self.world.keys[MAIN], &mut rng) {
            Ok(Reply::Send(body)) => (body, adverts),
            other => panic!("{other:?}"),
        }
    }

    fn deals_for(&self, who: usize, shown: Shown) -> Vec<u8> {
        let (mut headers, mut parcels) = (Vec::new(), Vec::new());
        for dealer in shown.members() {
            let (body, adverts) = self.deal(dealer, shown, self.state.lives[who][0].adverts);
            headers.push(body[..DEAL_HEADER].to_vec());
            if dealer != who {
                parcels.push(parcel(&body, adverts, dealer, who));
            }
        }
        join_deals(&headers, &parcels)
    }

    fn step1(&self, adverts: Shown) -> Digest {
        let all = self.advert_list(adverts).concat();
        Transcript::new("consilium/1/step-1").digest(self.world.attempt.ctx()).bytes(&all).finish()
    }

    fn step2(&self, life: &Life) -> Digest {
        let deal = |dealer| self.deal(dealer, life.dealers, life.adverts).0[..DEAL_HEADER].to_vec();
        let all: Vec<Vec<u8>> = life.dealers.members().map(deal).collect();
        Transcript::new("consilium/1/step-2").digest(&self.step1(life.adverts)).bytes(&all.concat()).finish()
    }

    /// Input headers as shown, one after another; the colluder's is for the transcript of `life`.
    fn header_list(&self, shown: Shown, life: &Life) -> Vec<Vec<u8>> {
        let header = |member: usize| match member {
            MAIN => {
                let mut w = Writer::new();
                w.u8(1).u8(3).u8(0).u16(MAIN as u16).digest(&self.step2(life));
                w.digest(&Digest([shown.of(MAIN); 32])).u64(self.world.attempt.params().total_len());
                self.world.sign(MAIN as u16, "input", &w.finish())
            }
            honest => self.headers[&honest].clone(),
        };
        shown.members().map(header).collect()
    }

    /// All votes there are for the set that `voter` voted for, the colluder's among them.
    fn votes_for(&self, voter: usize) -> Vec<u8> {
        let life = &self.state.lives[voter][0];
        let ballot = Ballot::of(&Rules::STANDING, life, life.votes[0]);
        let survivors: Vec<u16> = ballot.survivors.members().map(|member| member as u16).collect();
        let (step1, step2) = (self.step1(life.adverts), self.step2(life));
        let list = self.header_list(ballot.survivors, life).concat();
        let headers = Transcript::new("consilium/1/headers").digest(&step2).bytes(&list).finish();
        let same = |who: &usize| {
            let other = &self.state.lives[*who][0];
            Ballot::of(&Rules::STANDING, other, other.votes[0]) == ballot
        };
        let voters = self.votes.iter().filter(|(who, _)| same(who));
        let mut votes: Vec<(u16, [u8; 64])> = voters.map(|(who, vote)| (*who as u16, *vote)).collect();
        if ballot.survivors.has(MAIN) {
            let body = super::secagg_world::ballot(&step1, &step2, &headers, &survivors);
            let signed = self.world.sign(MAIN as u16, "vote", &body);
            votes.push((MAIN as u16, signed[body.len()..].try_into().unwrap()));
        }
        VotesDelivery { headers, survivors, votes }.bytes()
    }

    /// Shows a delivery to the product and gives its word, or the number of the check it failed.
    fn show(&mut self, who: usize, step: Step, delivery: &[u8]) -> Result<Reply, &'static str> {
        let (key, rng) = (&self.world.keys[who], &mut self.world.rngs[who]);
        self.world.clients[who].deliver(step, delivery, key, rng).map_err(|refusal| refusal.check())
    }

    /// Carries a move out. `voter` is whose ballot an answer is asked for.
    fn carry_out(&mut self, who: usize, what: What, voter: usize) -> Result<(), &'static str> {
        match what {
            What::Deals(shown) => {
                let body = self.show(who, Step::Share, &join_list(Step::Share, &self.advert_list(shown)))?;
                let Reply::Send(body) = body else { panic!() };
                self.deals.insert(who, body);
            }
            What::Receives(shown) => {
                let reply = self.show(who, Step::Input, &self.deals_for(who, shown))?;
                assert_eq!(reply, Reply::UpdateWanted);
            }
            What::Masks => {
                let header = self.world.mask(who as u16).header;
                self.headers.insert(who, header[..INPUT_HEADER].to_vec());
            }
            What::Votes(shown) => {
                let headers = self.header_list(shown, &self.state.lives[who][0]);
                let body = self.show(who, Step::Vote, &join_list(Step::Vote, &headers))?;
                let Reply::Send(body) = body else { panic!() };
                self.votes.insert(who, body[body.len() - 64..].try_into().unwrap());
            }
            What::Answers(_) => {
                let delivery = self.votes_for(voter);
                self.show(who, Step::Unmask, &delivery)?;
            }
            other => panic!("{other:?}"),
        }
        Ok(())
    }

    /// A delivery of any kind the client could be shown next, acceptable or not; and whose ballot, for an answer.
    fn any(&self, dice: &mut ChaCha20Rng, who: usize) -> Option<(What, usize, State)> {
        let life = self.state.lives[who][0];
        let mut shown = Shown::NOTHING.with(COLLUDER, (dice.next_u32() % 4) as u8);
        for member in (0..HONEST).filter(|member| self.said(&life, *member)) {
            let missing = dice.next_u32().is_multiple_of(if member == who { 3 } else { 8 });
            shown = shown.with(member, u8::from(!missing));
        }
        let mut next = life;
        let voters: Vec<usize> = self.votes.keys().copied().collect();
        let ballot = dice.next_u32() as usize;
        let (what, voter) = if life.adverts.is_nothing() {
            next.adverts = shown;
            (What::Deals(shown), 0)
        } else if life.dealers.is_nothing() {
            next.dealers = shown;
            (What::Receives(shown), 0)
        } else if !voters.is_empty() && (ballot.is_multiple_of(2) || !life.votes[0].is_nothing()) {
            let voter = voters[ballot / 2 % voters.len()];
            let survivors = self.state.lives[voter][0].votes[0];
            next.answers[0] = survivors;
            (What::Answers(survivors), voter)
        } else if life.vectors[0] && life.votes[0].is_nothing() {
            next.votes[0] = shown;
            (What::Votes(shown), 0)
        } else {
            return None;
        };
        let mut state = self.state;
        state.lives[who][0] = next;
        Some((what, voter, state))
    }

    /// Whether a member has said what is shown in the step that comes next for `life`.
    fn said(&self, life: &Life, member: usize) -> bool {
        if life.adverts.is_nothing() {
            true
        } else if life.dealers.is_nothing() {
            self.deals.contains_key(&member)
        } else {
            self.headers.contains_key(&member)
        }
    }

    /// Whose ballot an answer for `survivors` in the transcripts of `who` was voted on.
    fn voter_of(&self, who: usize, survivors: Shown) -> usize {
        let life = &self.state.lives[who][0];
        let voted = |voter: &usize| {
            let other = &self.state.lives[*voter][0];
            other.votes[0] == survivors && other.same_step2(life)
        };
        self.votes.keys().copied().find(voted).unwrap()
    }
}

/// What a recipient gets of a deal: box, commitments, path. Zeros where there is none.
fn parcel(body: &[u8], adverts: Shown, dealer: usize, recipient: usize) -> Vec<u8> {
    let mut at = DEAL_HEADER;
    let mut entries = BTreeMap::new();
    for member in adverts.members() {
        let length = if member == dealer { 0 } else { SEALED };
        entries.insert(member, &body[at..at + length + 64]);
        at += length + 64;
    }
    let tree = Tree::new((0..MEMBERS).map(|member| match entries.get(&member) {
        None => leaf("consilium/1/deal", &[]),
        Some(entry) => {
            let (sealed, commitments) = entry.split_at(entry.len() - 64);
            leaf("consilium/1/deal", &[&Digest::of(sealed).0, &commitments[..32], &commitments[32..]])
        }
    }));
    let mut parcel = entries.get(&recipient).map_or(vec![0; SEALED + 64], |entry| entry.to_vec());
    tree.path(recipient).iter().for_each(|sibling| parcel.extend_from_slice(&sibling.0));
    parcel
}

fn kind(what: What) -> &'static str {
    match what {
        What::Deals(_) => "adverts",
        What::Receives(_) => "deals",
        What::Votes(_) => "headers",
        What::Answers(_) => "votes",
        _ => "update",
    }
}

#[test]
fn the_product_accepts_what_the_model_accepts_and_nothing_else() {
    let protocol = Protocol { rules: Rules::STANDING, scope: SCOPE };
    let (mut accepted, mut refused) = (BTreeMap::new(), BTreeMap::new());
    for seed in 0..600 {
        let mut dice = ChaCha20Rng::seed_from_u64(seed);
        let mut walk = Walk::new(1);
        loop {
            let mut legal: Vec<(Move, State)> = Vec::new();
            protocol.successors(&walk.state, &mut legal);
            if legal.is_empty() {
                break;
            }
            let who = dice.next_u32() as usize % HONEST;
            let odds = if walk.state.lives[who][0].vectors[0] { 4 } else { 12 };
            let stray = dice.next_u32().is_multiple_of(odds) && walk.state.lives[who][0].runs();
            let stray = if stray { walk.any(&mut dice, who) } else { None };
            let (who, what, voter, next) = match stray {
                Some((what, voter, next)) => (who, what, voter, next),
                None => {
                    // Mostly what others were shown as well, or the walk ends early.
                    let draws = if dice.next_u32().is_multiple_of(8) { 1 } else { 40 };
                    let mut draw = |_| legal[dice.next_u32() as usize % legal.len()];
                    let agreement = |(step, _): &(Move, State)| agreement(step, &walk.state);
                    let (step, next) = (0..draws).map(&mut draw).max_by_key(agreement).unwrap();
                    let voter = match step.what {
                        What::Answers(survivors) => walk.voter_of(step.who, survivors),
                        _ => 0,
                    };
                    (step.who, step.what, voter, next)
                }
            };
            let same_ballot = match what {
                What::Answers(_) => walk.state.lives[voter][0].same_step2(&walk.state.lives[who][0]),
                _ => true,
            };
            let expected = same_ballot && legal.iter().any(|(_, state)| *state == next);
            let result = walk.carry_out(who, what, voter);
            let told = format!("walk {seed}: member {who}, {what:?}: {result:?}\n{:#?}", walk.state);
            assert_eq!(result.is_ok(), expected, "{told}");
            match result {
                Ok(()) => {
                    *accepted.entry(kind(what)).or_insert(0) += 1;
                    walk.state = next;
                }
                Err(check) => {
                    *refused.entry(check).or_insert(0) += 1;
                    // A refusal ends a client's part. Out of turn it does not, but then it has no other word.
                    walk.state.lives[who][0].process = Process::Lost;
                }
            }
        }
    }
    println!("accepted: {accepted:?}\nrefused: {refused:?}");
    assert!(accepted.len() == 5 && accepted.values().all(|count| *count > 50), "{accepted:?}");
    for check in ["A5", "A6", "D2", "D3", "D4", "D6", "H2", "H3", "H4", "H6", "V5", "V6", "V7"] {
        assert!(refused.contains_key(check), "{check} was never tripped: {refused:?}");
    }
}

/// How many others were shown the same; then how much it is.
fn agreement(step: &Move, state: &State) -> (usize, u32) {
    let (of, shown): (fn(&Life) -> Shown, _) = match step.what {
        What::Deals(shown) => (|life| life.adverts, shown),
        What::Receives(shown) => (|life| life.dealers, shown),
        What::Votes(shown) => (|life| life.votes[0], shown),
        // Last, so that there is something to vote on.
        What::Answers(_) => return (0, 0),
        _ => return (2, 0),
    };
    let same = state.all().filter(|(who, _, life)| *who != step.who && of(life) == shown);
    (same.count(), shown.count())
}
