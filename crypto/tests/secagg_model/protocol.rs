//! What can happen next: an honest client, shown something by the coordinator, does what the product does.
//!
//! The numbers are the manual's. Not modelled, because it only takes words away from honest members and nothing
//! here ever depends on a word's *absence*: refusals (a client that refuses says no more, as one that is not shown
//! anything), messages lost, deadlines, clients that do not join.

use crate::{
    algebra,
    ballots::{Ballot, certified},
    explorer::Model,
    moves::{Joined, Move, What},
    rules::{M_MIN, Rules, Scope},
    state::{COLLUDER, HONEST, Life, MEMBERS, Process, Shown, State},
};

/// The protocol under some rules.
pub(crate) struct Protocol {
    pub(crate) rules: Rules,
    pub(crate) scope: Scope,
}

impl Model for Protocol {
    type State = State;
    type Move = Move;

    fn initial(&self) -> Vec<State> {
        let before = State::default();
        self.dead_models().map(|dead| joined(&before, 0b111, dead)).collect()
    }

    fn successors(&self, state: &State, out: &mut Vec<(Move, State)>) {
        for (who, number, life) in state.all().filter(|(_, _, life)| life.runs()) {
            let turn = Turn { protocol: self, state, who, number, life };
            turn.deal(out);
            turn.receive(out);
            turn.mask(out);
            turn.vote(out);
            turn.answer(out);
            if self.scope.crash && !state.crashed {
                turn.crash(out);
            }
        }
        self.next_attempt(state, out);
    }

    fn beginning(&self, initial: &State) -> String {
        format!("the attempt is announced; it is joined by{}", Joined(initial))
    }

    fn canonical(&self, state: &State) -> State {
        state.canonical()
    }
}

impl Protocol {
    /// Which members are shown a dead model, a bit each.
    fn dead_models(&self) -> impl Iterator<Item = u8> + use<> {
        0..if self.scope.models { 1 << HONEST } else { 1 }
    }

    /// The colluder's words, and its silence.
    fn colluders(&self) -> u8 {
        (2 << self.scope.variants) - 1
    }

    /// A later attempt is announced; everyone joins who may. (Who does not is one who joins and says no more.)
    ///
    /// Nothing happens in the earlier one from here on. That loses no run: a client's steps in it all come before
    /// its steps in the later one, and a step in one attempt takes no word of the other, whose context is another;
    /// so all steps of the earlier can be moved to the front.
    fn next_attempt(&self, state: &State, out: &mut Vec<(Move, State)>) {
        if state.attempt + 1 >= self.scope.attempts {
            return;
        }
        let known = algebra::known(&self.rules, state);
        let before = State { attempt: state.attempt + 1, crashed: state.crashed, known, ..State::default() };
        let may = |who: &usize| !state.lives[*who].iter().any(|life| self.knows_answer(life));
        let who = (0..HONEST).filter(may).fold(0, |bits, who| bits | 1 << who);
        for dead in self.dead_models().filter(|dead| dead & !who == 0) {
            let next = joined(&before, who, dead);
            out.push((Move { who: 0, life: 0, what: What::NextAttempt(next) }, next));
        }
    }

    /// Whether a client knows that it has answered, from its own memory or from its journal.
    fn knows_answer(&self, life: &Life) -> bool {
        let remembers = life.runs() && !life.answers[usize::from(life.resumed)].is_nothing();
        remembers || self.rules.answer_ahead && !life.answers[0].is_nothing()
    }
}

fn joined(before: &State, who: u8, dead_model: u8) -> State {
    let mut state = *before;
    for member in (0..HONEST).filter(|member| who >> member & 1 == 1) {
        state.lives[member][0] = born(dead_model >> member & 1 == 1);
    }
    state
}

fn born(dead_model: bool) -> Life {
    Life { process: Process::Running, dead_model, ..Life::default() }
}

/// One running client.
struct Turn<'a> {
    protocol: &'a Protocol,
    state: &'a State,
    who: usize,
    number: usize,
    life: &'a Life,
}

impl Turn<'_> {
    fn push(&self, out: &mut Vec<(Move, State)>, what: What, life: Life) {
        let mut state = *self.state;
        state.lives[self.who][self.number] = life;
        out.push((Move { who: self.who, life: self.number, what }, state));
    }

    /// Which slot of votes, answers and vectors the process fills.
    fn slot(&self) -> usize {
        usize::from(self.life.resumed)
    }

    /// The number its advert and its deal stand under.
    fn own(&self) -> u8 {
        life_number(self.number)
    }

    fn others(&self) -> impl Iterator<Item = (usize, usize, &Life)> {
        self.state.all().filter(|(who, _, _)| *who != self.who)
    }

    /// Step 2, on any adverts: A2 (signed in this context), A5 (its own), A6 (enough).
    fn deal(&self, out: &mut Vec<(Move, State)>) {
        if !self.life.adverts.is_nothing() {
            return;
        }
        let mut allowed = [1; MEMBERS];
        allowed[self.who] = 1 << self.own();
        allowed[COLLUDER] = self.protocol.colluders();
        let signed = |life: &Life| !self.rules().same_transcript || life.dead_model == self.life.dead_model;
        for (who, number, _) in self.others().filter(|(_, _, life)| signed(life)) {
            allowed[who] |= 1 << life_number(number);
        }
        for adverts in Shown::choices(allowed, M_MIN) {
            self.push(out, What::Deals(adverts), Life { adverts, ..*self.life });
        }
    }

    /// The deals of step 3, any: D2 (advertised), D3 (enough), D4 and D5 (same context and adverts), D6 (its own),
    /// D8 (the boxes open).
    fn receive(&self, out: &mut Vec<(Move, State)>) {
        if self.life.adverts.is_nothing() || !self.life.dealers.is_nothing() {
            return;
        }
        let mut allowed = [1; MEMBERS];
        allowed[self.who] = 1 << self.own();
        if self.life.adverts.has(COLLUDER) {
            allowed[COLLUDER] = self.protocol.colluders();
        }
        for (who, number, dealer) in self.others() {
            // A box is sealed between the keys that dealer and recipient saw of each other.
            let opens = self.life.adverts.of(who) == life_number(number)
                && dealer.adverts.of(self.who) == self.own()
                && (!self.rules().masks_bind || dealer.same_step1(self.life));
            let accepted = !self.rules().same_transcript || dealer.same_step1(self.life);
            if opens && accepted {
                allowed[who] |= 1 << life_number(number);
            }
        }
        for dealers in Shown::choices(allowed, M_MIN) {
            self.push(out, What::Receives(dealers), Life { dealers, ..*self.life });
        }
    }

    /// The word of step 3: one vector a process.
    fn mask(&self, out: &mut Vec<(Move, State)>) {
        if !self.life.dealers.is_nothing() && !self.life.vectors[self.slot()] && !self.has_answered() {
            let mut masked = *self.life;
            masked.vectors[self.slot()] = true;
            self.push(out, if self.life.resumed { What::MasksAgain } else { What::Masks }, masked);
        }
    }

    /// Step 4, on any headers: H2 (its own), H3 (dealt), H4 (enough), H5 and H6 (same context and deals); one vote.
    fn vote(&self, out: &mut Vec<(Move, State)>) {
        let voted = self.known_vote().is_some() || self.first_life_voted();
        if !self.life.vectors[self.slot()] || voted || self.has_answered() {
            return;
        }
        let mut allowed = [1; MEMBERS];
        allowed[self.who] = 1 << vector_number(self.number, self.slot());
        if self.life.dealers.has(COLLUDER) {
            allowed[COLLUDER] = self.protocol.colluders();
        }
        for (who, number, survivor) in self.others() {
            let accepted = !self.rules().same_transcript || survivor.same_step2(self.life);
            if self.life.dealers.has(who) && accepted {
                for (slot, _) in survivor.vectors.iter().enumerate().filter(|(_, sent)| **sent) {
                    allowed[who] |= 1 << vector_number(number, slot);
                }
            }
        }
        for survivors in Shown::choices(allowed, M_MIN) {
            let mut voted = *self.life;
            voted.votes[self.slot()] = survivors;
            self.push(out, What::Votes(survivors), voted);
        }
    }

    /// Step 5, on any votes: V2 (dealt), V3 (enough survivors), V5 (a quorum), V6 (for this set, in these
    /// transcripts), V7 (the set voted for); one answer.
    fn answer(&self, out: &mut Vec<(Move, State)>) {
        if self.life.dealers.is_nothing() || self.has_answered() {
            return;
        }
        let dealt = |shown: &Shown| shown.members().all(|member| self.life.dealers.has(member));
        let voted =
            |shown: &Shown| !self.rules().own_vote || self.known_vote().is_none_or(|own| own == *shown);
        let sets: Vec<Shown> = if self.rules().votes {
            let own = |ballot: &Ballot| *ballot == Ballot::of(self.rules(), self.life, ballot.survivors);
            certified(self.rules(), self.state)
                .into_iter()
                .filter(own)
                .map(|ballot| ballot.survivors)
                .collect()
        } else {
            Shown::choices([0b11; MEMBERS], M_MIN).collect()
        };
        for survivors in sets.into_iter().filter(dealt).filter(voted) {
            let mut answered = *self.life;
            answered.answers[self.slot()] = survivors;
            self.push(out, What::Answers(survivors), answered);
        }
    }

    fn crash(&self, out: &mut Vec<(Move, State)>) {
        let crashed = State { crashed: true, ..*self.state };
        let turn = Turn { state: &crashed, ..*self };
        let lost = Life { process: Process::Lost, ..*self.life };
        turn.push(out, What::Crashes, lost);
        let answered = self.rules().answer_ahead && !self.life.answers[0].is_nothing();
        if !self.rules().joined_ahead && !answered {
            for dead_model in [false, true].into_iter().take(1 + usize::from(self.protocol.scope.models)) {
                let mut state = crashed;
                state.lives[self.who] = [lost, born(dead_model)];
                let what = What::CrashesAndBeginsAgain { dead_model };
                out.push((Move { who: self.who, life: 0, what }, state));
            }
        }
        if !self.rules().sit_out && !answered {
            turn.push(out, What::CrashesAndResumes, Life { resumed: true, ..*self.life });
        }
    }

    /// The vote that this process remembers or finds recorded.
    fn known_vote(&self) -> Option<Shown> {
        let recorded = if self.rules().vote_ahead { self.life.votes[0] } else { Shown::NOTHING };
        [self.life.votes[self.slot()], recorded].into_iter().find(|vote| !vote.is_nothing())
    }

    /// Whether a client that began again finds the vote of its first life.
    fn first_life_voted(&self) -> bool {
        let first = &self.state.lives[self.who][0];
        self.number == 1 && self.rules().vote_ahead && !first.votes[0].is_nothing()
    }

    fn has_answered(&self) -> bool {
        self.protocol.knows_answer(self.life)
    }

    fn rules(&self) -> &Rules {
        &self.protocol.rules
    }
}

/// What an honest member's advert and deal are numbered in [`Shown`].
pub(crate) fn life_number(number: usize) -> u8 {
    if number == 0 { 1 } else { 2 }
}

/// What its vectors are numbered. There is one crash, so a second life does not resume.
pub(crate) fn vector_number(number: usize, slot: usize) -> u8 {
    match (number, slot) {
        (0, 0) => 1,
        (0, _) => 2,
        _ => 3,
    }
}
