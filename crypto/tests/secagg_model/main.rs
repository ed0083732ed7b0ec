//! A model of the protocol, explored exhaustively: every order of events, everything that a coordinator could show
//! to anyone.
//!
//! Four members, one of them the coordinator's (`t_c = 1`), quorum and `m_min` three; two attempts of a round; one
//! crash. Cryptography is symbolic: signatures are not forged, boxes open only with their key, masks are known or
//! uniform. The manual (`docs/secure-aggregation.md`, "Model") says what is left out and why that is sound.
//!
//! `product` walks through the model and through the product at once and holds one against the other.
//!
//! With all rules standing four properties hold in every reachable state. With a rule switched off the model finds
//! the attack which that rule is there to stop, and prints the shortest: `cargo test --release -p
//! consilium-crypto --test secagg_model -- --nocapture`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod algebra;
mod ballots;
mod explorer;
mod moves;
mod product;
mod properties;
mod protocol;
mod rules;
#[path = "../secagg_world/mod.rs"]
mod secagg_world;
mod state;

use std::{cell::RefCell, collections::HashSet};

use explorer::{Explored, Model, explore};
use moves::Move;
use properties::Property;
use protocol::Protocol;
use rules::{Rules, Scope};
use state::{Known, State};

/// Far above what any exploration here needs.
const LIMIT: usize = 5_000_000;

/// For finding an attack, which wants few choices.
const ONE_ATTEMPT: Scope = Scope { attempts: 1, crash: false, models: false, variants: 1 };
const ONE_CRASH: Scope = Scope { crash: true, ..ONE_ATTEMPT };
const TWO_ATTEMPTS: Scope = Scope { attempts: 2, ..ONE_CRASH };
const TWO_MODELS: Scope = Scope { models: true, ..ONE_ATTEMPT };

fn report(name: &str, explored: &Explored<Protocol>) {
    let Explored { states, moves, found, .. } = explored;
    println!(
        "{name}: {states} states, {moves} moves, {}",
        if found.is_some() { "found:" } else { "nothing found" }
    );
    found.iter().for_each(|trace| println!("{trace}"));
}

/// Explores everything and expects the properties to hold everywhere. Gives the number of states.
fn holds(name: &str, rules: Rules, scope: Scope) -> usize {
    let broken = |state: &State| Property::ALL.iter().any(|property| !property.holds(&rules, state));
    let explored = explore(&Protocol { rules, scope }, LIMIT, broken);
    report(name, &explored);
    assert!(explored.found.is_none(), "{name}: {:#?}", explored.found.unwrap().last());
    assert!(explored.complete, "{name}: cut at {LIMIT} states");
    explored.states
}

/// Expects the property to break, in this many steps and no fewer.
fn breaks(property: Property, name: &str, rules: Rules, scope: Scope, steps: usize) {
    let explored = explore(&Protocol { rules, scope }, LIMIT, |state| !property.holds(&rules, state));
    report(&format!("{name}, {property:?}"), &explored);
    let trace = explored.found.unwrap_or_else(|| panic!("{name}: {property:?} holds"));
    assert_eq!(trace.steps.len(), steps, "{name}, {property:?}\n{trace}");
}

/// The proof. The number is pinned so that a change of the model does not go unnoticed.
#[test]
fn with_every_rule_standing_every_property_holds_in_every_reachable_state() {
    assert_eq!(holds("every rule standing", Rules::STANDING, Scope::WHOLE), 312_162);
}

/// What never happens in a model in which nothing happens proves nothing: sums come about, of all three honest
/// members, and at the second attempt as well.
#[test]
fn rounds_succeed() {
    let (rules, scope) = (Rules::STANDING, TWO_ATTEMPTS);
    let explored = explore(&Protocol { rules, scope }, LIMIT, |state| {
        state.attempt == 1
            && state.known == Known::Nothing
            && state.crashed
            && algebra::known(&rules, state) == Known::Sum(0b111)
    });
    report("a sum of all, at the second attempt, after a crash", &explored);
    assert!(explored.found.is_some());
}

/// The same protocol, with states that differ in names told apart.
struct Named(Protocol);

impl Model for Named {
    type State = State;
    type Move = Move;

    fn initial(&self) -> Vec<State> {
        self.0.initial()
    }

    fn successors(&self, state: &State, out: &mut Vec<(Move, State)>) {
        self.0.successors(state, out);
    }

    fn beginning(&self, initial: &State) -> String {
        self.0.beginning(initial)
    }

    fn canonical(&self, state: &State) -> State {
        *state
    }
}

#[test]
fn taking_honest_members_for_one_another_loses_no_state() {
    let protocol = || Protocol { rules: Rules::STANDING, scope: ONE_CRASH };
    let visit = |seen: &RefCell<HashSet<State>>, state: &State| {
        seen.borrow_mut().insert(state.canonical());
        false
    };
    let (named, merged) = (RefCell::default(), RefCell::default());
    let all = explore(&Named(protocol()), LIMIT, |state| visit(&named, state));
    let few = explore(&protocol(), LIMIT, |state| visit(&merged, state));
    assert!(all.complete && few.complete && all.states > 4 * few.states, "{} {}", all.states, few.states);
    assert!(named == merged);
}

#[test]
fn without_votes_two_sets_are_answered_for_and_a_member_is_laid_open() {
    let rules = Rules { votes: false, ..Rules::STANDING };
    breaks(Property::OneSet, "no votes", rules, ONE_ATTEMPT, 7);
    breaks(Property::NobodyAlone, "no votes", rules, ONE_ATTEMPT, 9);
}

#[test]
fn with_a_quorum_one_lower_two_sets_are_certified_and_both_secrets_are_had() {
    let rules = Rules { quorum: 2, ..Rules::STANDING };
    breaks(Property::OneSet, "a quorum of two", rules, ONE_ATTEMPT, 11);
    breaks(Property::OneKind, "a quorum of two", rules, ONE_ATTEMPT, 13);
    breaks(Property::NobodyAlone, "a quorum of two", rules, ONE_ATTEMPT, 13);
}

#[test]
fn with_nothing_recorded_ahead_a_restarted_client_votes_twice_in_one_attempt() {
    let rules = Rules { joined_ahead: false, vote_ahead: false, answer_ahead: false, ..Rules::STANDING };
    breaks(Property::OneSet, "nothing recorded ahead", rules, ONE_CRASH, 17);
    breaks(Property::OnlyTheSum, "nothing recorded ahead", rules, ONE_CRASH, 21);
}

#[test]
fn with_the_answer_not_recorded_ahead_two_attempts_of_a_round_are_opened() {
    let rules = Rules { answer_ahead: false, ..Rules::STANDING };
    breaks(Property::OnlyTheSum, "answer not recorded ahead", rules, TWO_ATTEMPTS, 22);
    breaks(Property::NobodyAlone, "answer not recorded ahead", rules, TWO_ATTEMPTS, 25);
}

/// The vote's and the attempt's records each have the other behind them: who sits out does not vote, and who finds
/// a vote casts no other.
#[test]
fn either_of_two_records_is_enough_against_a_second_vote() {
    let scope = Scope { variants: 1, ..Scope::WHOLE };
    holds("vote not recorded ahead", Rules { vote_ahead: false, ..Rules::STANDING }, scope);
    holds("attempt not recorded ahead", Rules { joined_ahead: false, ..Rules::STANDING }, scope);
    let rules = Rules { joined_ahead: false, vote_ahead: false, ..Rules::STANDING };
    breaks(Property::OneSet, "neither recorded ahead", rules, ONE_CRASH, 17);
}

#[test]
fn who_does_not_sit_out_sends_two_vectors_under_one_mask() {
    let rules = Rules { sit_out: false, ..Rules::STANDING };
    breaks(Property::OneVector, "not sat out", rules, ONE_CRASH, 6);
    breaks(Property::OnlyTheSum, "not sat out", rules, ONE_CRASH, 6);
    let rules = Rules { vote_ahead: false, ..rules };
    breaks(Property::OneSet, "not sat out, vote not recorded ahead", rules, ONE_CRASH, 15);
    let rules = Rules { answer_ahead: false, ..rules };
    breaks(Property::OneKind, "not sat out, neither vote nor answer recorded ahead", rules, ONE_CRASH, 19);
}

/// Pasquini et al.: everybody but the victim trains a dead model, and the sum is the victim's.
#[test]
fn without_checks_and_masks_that_bind_the_context_the_sum_is_one_members() {
    let rules = Rules { same_transcript: false, masks_bind: false, ..Rules::STANDING };
    breaks(Property::NobodyAlone, "transcripts neither compared nor bound", rules, TWO_MODELS, 10);
}

/// One of the two is enough. (One attempt where they are not compared: the other attempt's words would count, and
/// the model keeps attempts apart.)
#[test]
fn transcripts_compared_or_bound_are_enough() {
    let compared = Rules { masks_bind: false, ..Rules::STANDING };
    holds("transcripts compared, not bound", compared, Scope { variants: 2, ..Scope::WHOLE });
    let bound = Rules { same_transcript: false, ..Rules::STANDING };
    holds("transcripts bound, not compared", bound, Scope { attempts: 1, variants: 2, ..Scope::WHOLE });
}

/// What both protect at this size is the context. With one model shown to all, step hashes that nobody compares
/// or binds cost no property.
#[test]
fn with_one_model_for_all_the_quorum_stands_behind_the_step_hashes() {
    let rules = Rules { same_transcript: false, masks_bind: false, ..Rules::STANDING };
    let scope = Scope { attempts: 1, models: false, ..Scope::WHOLE };
    holds("one model, transcripts neither compared nor bound", rules, Scope { variants: 1, ..scope });
}

/// V7 names the coordinator early; what stands behind it is that no second set finds a quorum.
#[test]
fn the_own_vote_is_compared_for_blame_only() {
    let rules = Rules { own_vote: false, ..Rules::STANDING };
    holds("own vote not compared", rules, Scope { variants: 1, ..Scope::WHOLE });
}

#[test]
fn without_self_mask_or_with_both_kinds_of_share_a_member_called_dropped_is_laid_open() {
    let rules = Rules { self_mask: false, ..Rules::STANDING };
    breaks(Property::NobodyAlone, "no self-mask", rules, ONE_ATTEMPT, 13);
    let rules = Rules { one_kind: false, ..Rules::STANDING };
    breaks(Property::OneKind, "both kinds of share", rules, ONE_ATTEMPT, 10);
    breaks(Property::NobodyAlone, "both kinds of share", rules, ONE_ATTEMPT, 10);
}
