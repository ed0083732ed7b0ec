//! Votes, and which survivor sets they settle.

use crate::{
    rules::Rules,
    state::{COLLUDER, Life, Shown, State},
};

/// What a vote signs: the transcripts and the survivors' headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ballot {
    dead_model: bool,
    adverts: Shown,
    dealers: Shown,
    pub(crate) survivors: Shown,
}

impl Ballot {
    /// What a member's vote or answer is for. Where nobody compares transcripts, the survivors are all there is to
    /// tell ballots apart.
    pub(crate) fn of(rules: &Rules, life: &Life, survivors: Shown) -> Self {
        if rules.same_transcript {
            let Life { dead_model, adverts, dealers, .. } = *life;
            Self { dead_model, adverts, dealers, survivors }
        } else {
            Self { dead_model: false, adverts: Shown::NOTHING, dealers: Shown::NOTHING, survivors }
        }
    }
}

/// The ballots with a quorum of votes by distinct survivors. The colluder votes for every set it is in.
pub(crate) fn certified(rules: &Rules, state: &State) -> Vec<Ballot> {
    let mut tally: Vec<(Ballot, u8)> = Vec::new();
    for (who, _, life) in state.all() {
        for survivors in life.votes.into_iter().filter(|survivors| !survivors.is_nothing()) {
            let ballot = Ballot::of(rules, life, survivors);
            let at = tally.iter().position(|(counted, _)| *counted == ballot).unwrap_or_else(|| {
                let colluder = u8::from(survivors.has(COLLUDER)) << COLLUDER;
                tally.push((ballot, colluder));
                tally.len() - 1
            });
            tally[at].1 |= 1 << who;
        }
    }
    tally.retain(|(_, voters)| voters.count_ones() >= rules.quorum);
    tally.into_iter().map(|(ballot, _)| ballot).collect()
}

/// The ballots that are certified, or that an honest member answered for: under the product's rules the second are
/// among the first.
pub(crate) fn settled(rules: &Rules, state: &State) -> Vec<Ballot> {
    let mut settled = certified(rules, state);
    for (_, _, life) in state.all() {
        for survivors in life.answers.into_iter().filter(|survivors| !survivors.is_nothing()) {
            let ballot = Ballot::of(rules, life, survivors);
            if !settled.contains(&ballot) {
                settled.push(ballot);
            }
        }
    }
    settled
}
