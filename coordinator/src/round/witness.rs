//! Questions of members that have just started, and the others' answers to them: see the manual's page on a client's state.
//!
//! The coordinator only carries them, and nothing here is recorded: who is not answered asks again. Questions are passed on in
//! one message a member when an attempt opens, and answers collected until there are enough to matter, because with a
//! thousand members that all start at once there are a million of each.

use std::collections::{BTreeMap, BTreeSet};

use consilium_proto::{
    ids::Id,
    wire::{self, coordinator_message::Kind},
};
use prost::Message as _;

use super::{Effect, members::Members};

/// Bytes of the nonce in a question.
const NONCE: usize = 32;
/// Largest answer that is carried, bytes; an honest one holds a few hundred for each plan.
const MAX_STATEMENT: usize = 64 << 10;

/// Questions that are open, by who asked.
#[derive(Debug)]
pub(crate) struct Witnesses {
    open: BTreeMap<Id, Open>,
    /// Answers that the plan's numbers ask for.
    needed: usize,
}

#[derive(Debug, Default)]
struct Open {
    nonce: Vec<u8>,
    /// Who has answered.
    answered: BTreeSet<Id>,
    /// Answers that were not passed on yet.
    waiting: Vec<wire::SignedStateStatement>,
    passed: usize,
    /// It has asked again: what was passed on was not enough, so everything is passed on as it comes.
    again: bool,
}

impl Witnesses {
    pub(crate) fn new(needed: u16) -> Self {
        Self { open: BTreeMap::new(), needed: needed.into() }
    }

    /// A member asks. While no attempt runs nobody needs an answer.
    pub(crate) fn asked(
        &mut self,
        from: &Id,
        query: &wire::StateQuery,
        running: bool,
        members: &Members,
        effects: &mut Vec<Effect>,
    ) {
        if query.nonce.len() != NONCE {
            return;
        }
        let open = self.open.entry(from.clone()).or_default();
        if open.nonce == query.nonce {
            open.again = true;
        } else {
            *open = Open { nonce: query.nonce.clone(), ..Open::default() };
        }
        let (nonce, answered) = (open.nonce.clone(), open.answered.clone());
        if running {
            for (id, member) in members.iter().filter(|(id, _)| *id != from && !answered.contains(id)) {
                if member.online {
                    let query = wire::StateQuery { about: from.to_string(), nonce: nonce.clone() };
                    let queries = wire::StateQueries { queries: vec![query] };
                    effects.push(Effect::Send { to: id.clone(), message: Kind::StateQueries(queries) });
                }
            }
        }
        self.pass_on(from, members, effects);
    }

    /// Hands a member every question that it has not answered.
    pub(crate) fn greet(&self, to: &Id, effects: &mut Vec<Effect>) {
        let unanswered = |(from, open): &(&Id, &Open)| *from != to && !open.answered.contains(to);
        let query = |(from, open): (&Id, &Open)| wire::StateQuery {
            about: from.to_string(),
            nonce: open.nonce.clone(),
        };
        let queries: Vec<_> = self.open.iter().filter(unanswered).map(query).collect();
        if !queries.is_empty() {
            let message = Kind::StateQueries(wire::StateQueries { queries });
            effects.push(Effect::Send { to: to.clone(), message });
        }
    }

    /// A member answers: once to each question, and only to one that is open.
    pub(crate) fn answered(
        &mut self,
        from: &Id,
        statements: wire::StateStatements,
        members: &Members,
        effects: &mut Vec<Effect>,
    ) {
        for signed in statements.statements {
            if signed.statement.len() > MAX_STATEMENT {
                continue;
            }
            let Ok(statement) = wire::StateStatement::decode(signed.statement.as_slice()) else { continue };
            let Ok(about) = statement.about.parse::<Id>() else { continue };
            let Some(open) = self.open.get_mut(&about) else { continue };
            if open.nonce != statement.nonce || about == *from || !open.answered.insert(from.clone()) {
                continue;
            }
            open.waiting.push(wire::SignedStateStatement { from: from.to_string(), ..signed });
            self.pass_on(&about, members, effects);
        }
    }

    /// A member takes part in an attempt.
    pub(crate) fn satisfied(&mut self, id: &Id) {
        self.open.remove(id);
    }

    /// A member's session closed: it asks again when it is back, and nobody waits for its answers.
    pub(crate) fn left(&mut self, id: &Id, members: &Members, effects: &mut Vec<Effect>) {
        self.open.remove(id);
        let others: Vec<Id> = self.open.keys().cloned().collect();
        others.iter().for_each(|about| self.pass_on(about, members, effects));
    }

    /// Passes answers on once there are enough of them, or no more to come, or every one is wanted.
    fn pass_on(&mut self, about: &Id, members: &Members, effects: &mut Vec<Effect>) {
        let Some(open) = self.open.get_mut(about) else { return };
        let enough = open.passed == 0 && open.waiting.len() >= self.needed;
        let silent = |(id, member): (&Id, &super::members::Member)| {
            member.online && id != about && !open.answered.contains(id)
        };
        if open.waiting.is_empty() || !(open.again || enough || !members.iter().any(silent)) {
            return;
        }
        let statements = std::mem::take(&mut open.waiting);
        open.passed += statements.len();
        let message = Kind::StateStatements(wire::StateStatements { statements });
        effects.push(Effect::Send { to: about.clone(), message });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: usize) -> Id {
        format!("org-{index}").parse().unwrap()
    }

    /// Five members, of whom so many are online; two answers are needed.
    fn members(online: usize) -> (Members, Witnesses) {
        let all: Vec<Id> = (0..5).map(id).collect();
        let mut members = Members::new(&all, (0, 0), 0);
        all.iter().take(online).for_each(|id| members.came(id, String::new(), 3, None));
        (members, Witnesses::new(2))
    }

    fn query(seed: u8) -> wire::StateQuery {
        // Whom it claims to ask for is not believed.
        wire::StateQuery { about: "org-4".into(), nonce: vec![seed; NONCE] }
    }

    fn answer(about: usize, seed: u8) -> wire::StateStatements {
        let statement =
            wire::StateStatement { about: id(about).to_string(), nonce: vec![seed; NONCE], held: Vec::new() };
        let signed = wire::SignedStateStatement {
            from: "org-4".into(),
            statement: statement.encode_to_vec(),
            signature: vec![9; 64],
        };
        wire::StateStatements { statements: vec![signed] }
    }

    /// Who is sent how many questions or answers, and about or from whom.
    fn sent(effects: &[Effect]) -> Vec<(String, Vec<String>)> {
        let of = |effect: &Effect| match effect {
            Effect::Send { to, message: Kind::StateQueries(queries) } => {
                (to.to_string(), queries.queries.iter().map(|query| query.about.clone()).collect())
            }
            Effect::Send { to, message: Kind::StateStatements(all) } => {
                (to.to_string(), all.statements.iter().map(|signed| signed.from.clone()).collect())
            }
            other => panic!("{other:?}"),
        };
        effects.iter().map(of).collect()
    }

    fn expect(effects: &mut Vec<Effect>, expected: &[(usize, &[usize])]) {
        let name = |index: &usize| id(*index).to_string();
        let expected: Vec<_> = expected
            .iter()
            .map(|(to, about)| (name(to), about.iter().map(name).collect::<Vec<_>>()))
            .collect();
        assert_eq!(sent(effects), expected);
        effects.clear();
    }

    #[test]
    fn questions_wait_for_an_attempt_and_answers_until_they_are_enough() {
        let (members, mut witnesses) = members(4);
        let mut effects = Vec::new();
        for index in [0, 1] {
            witnesses.asked(&id(index), &query(index as u8), false, &members, &mut effects);
        }
        expect(&mut effects, &[]);
        (0..4).for_each(|index| witnesses.greet(&id(index), &mut effects));
        expect(&mut effects, &[(0, &[1]), (1, &[0]), (2, &[0, 1]), (3, &[0, 1])]);
        witnesses.answered(&id(2), answer(0, 0), &members, &mut effects);
        expect(&mut effects, &[]);
        witnesses.answered(&id(2), answer(0, 0), &members, &mut effects);
        witnesses.answered(&id(3), answer(0, 7), &members, &mut effects);
        witnesses.answered(&id(3), answer(4, 0), &members, &mut effects);
        witnesses.answered(&id(0), answer(0, 0), &members, &mut effects);
        expect(&mut effects, &[]);
        witnesses.answered(&id(3), answer(0, 0), &members, &mut effects);
        expect(&mut effects, &[(0, &[2, 3])]);
        // The last one comes with nobody to follow it.
        witnesses.answered(&id(1), answer(0, 0), &members, &mut effects);
        expect(&mut effects, &[(0, &[1])]);
        witnesses.satisfied(&id(0));
        witnesses.greet(&id(2), &mut effects);
        expect(&mut effects, &[(2, &[1])]);
    }

    #[test]
    fn while_an_attempt_runs_a_question_is_passed_on_at_once() {
        let (members, mut witnesses) = members(3);
        let mut effects = Vec::new();
        witnesses.asked(&id(0), &query(1), true, &members, &mut effects);
        expect(&mut effects, &[(1, &[0]), (2, &[0])]);
        witnesses.answered(&id(1), answer(0, 1), &members, &mut effects);
        expect(&mut effects, &[]);
        // It asks again: what there is is passed on, and whoever has not answered is asked again.
        witnesses.asked(&id(0), &query(1), true, &members, &mut effects);
        expect(&mut effects, &[(2, &[0]), (0, &[1])]);
        witnesses.answered(&id(2), answer(0, 1), &members, &mut effects);
        expect(&mut effects, &[(0, &[2])]);
        let short = wire::StateQuery { about: String::new(), nonce: vec![1; 31] };
        witnesses.asked(&id(1), &short, true, &members, &mut effects);
        expect(&mut effects, &[]);
    }

    #[test]
    fn who_has_left_is_not_waited_for_and_a_new_process_asks_anew() {
        let (mut members, mut witnesses) = members(3);
        let mut effects = Vec::new();
        witnesses.asked(&id(0), &query(1), true, &members, &mut effects);
        effects.clear();
        witnesses.answered(&id(1), answer(0, 1), &members, &mut effects);
        members.left(&id(2), 0);
        witnesses.left(&id(2), &members, &mut effects);
        expect(&mut effects, &[(0, &[1])]);
        witnesses.asked(&id(0), &query(2), true, &members, &mut effects);
        expect(&mut effects, &[(1, &[0])]);
        witnesses.answered(&id(1), answer(0, 1), &members, &mut effects);
        expect(&mut effects, &[]);
        witnesses.left(&id(0), &members, &mut effects);
        witnesses.greet(&id(1), &mut effects);
        expect(&mut effects, &[]);
    }
}
