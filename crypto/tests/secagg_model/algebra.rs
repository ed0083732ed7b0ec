//! What coordinator and colluder can compute: which secrets they hold enough shares of, and which combinations of
//! honest vectors the masked vectors give once every mask they know is taken off.
//!
//! Masks are symbols: each is either known or independent of all others and uniform. Then what can be learnt from
//! masked vectors is what linear algebra gives, exactly: the combinations in which no unknown mask is left.

use crate::{
    protocol::life_number,
    rules::Rules,
    state::{COLLUDER, HONEST, Known, Life, Shown, State},
};

/// Which parties' shares of one life's two secrets are in the adversary's hands, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(crate) mask: u8,
    pub(crate) seed: u8,
}

/// The shares of what `who` dealt in its life `number`: the colluder's of both kinds, if it was dealt to, and what
/// honest members released.
pub(crate) fn shares(rules: &Rules, state: &State, who: usize, number: usize) -> Shares {
    let mut shares = Shares::default();
    if state.lives[who][number].adverts.has(COLLUDER) {
        shares = Shares { mask: 1 << COLLUDER, seed: 1 << COLLUDER };
    }
    for (party, _, life) in state.all().filter(|(_, _, life)| life.dealers.of(who) == life_number(number)) {
        for survivors in life.answers.into_iter().filter(|survivors| !survivors.is_nothing()) {
            let survived = survivors.has(who);
            shares.seed |= u8::from(survived || !rules.one_kind) << party;
            shares.mask |= u8::from(!survived || !rules.one_kind) << party;
        }
    }
    shares
}

/// What the attempt under way, together with the one before, gives away.
pub(crate) fn known(rules: &Rules, state: &State) -> Known {
    if let Known::More { .. } = state.known {
        return state.known;
    }
    let enough = |shares: u8| shares.count_ones() >= rules.quorum;
    let mut opened = [[(false, false); 2]; HONEST];
    for (who, number, _) in state.all() {
        let Shares { mask, seed } = shares(rules, state, who, number);
        opened[who][number] = (enough(mask), enough(seed));
    }
    let twice = state.all().any(|(_, _, life)| life.vectors == [true; 2]);
    let seeds = opened.iter().flatten().any(|(_, seed)| *seed);
    if !seeds && !twice && rules.self_mask {
        // Each vector has a mask of its own that is not known.
        return state.known;
    }
    let mut rows = Vec::new();
    for (who, number, life) in state.all() {
        for (slot, _) in life.vectors.iter().enumerate().filter(|(_, sent)| **sent) {
            let mut row = masks(rules, state, &opened, (who, number));
            if !life.dead_model {
                row.push((Symbol::Vector { who, again: slot == 1 }, 1));
            }
            rows.push(row);
        }
    }
    if let Known::Sum(of) = state.known {
        let summed = (0..HONEST).filter(|who| of >> who & 1 == 1);
        rows.push(summed.map(|who| (Symbol::Vector { who, again: false }, 1)).collect());
    }
    classify(span(rows))
}

/// What a masked vector is made of. An honest member's data stay what they are: its vectors of a round are one
/// unknown, except the second under one mask, which is sure to differ from the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Symbol {
    SelfMask { who: usize, number: usize },
    PairMask { low: (usize, usize), high: (usize, usize), bound: (bool, Shown, Shown) },
    // Last, so that masks are eliminated first.
    Vector { who: usize, again: bool },
}

type Row = Vec<(Symbol, i64)>;

/// The masks on a vector that are not known. `opened` has, by member and life, whether the masking key and the
/// self-mask seed are.
fn masks(rules: &Rules, state: &State, opened: &[[(bool, bool); 2]; HONEST], of: (usize, usize)) -> Row {
    let (who, number) = of;
    let life: &Life = &state.lives[who][number];
    let mut row = Vec::new();
    if rules.self_mask && !opened[who][number].1 {
        row.push((Symbol::SelfMask { who, number }, 1));
    }
    for peer in life.dealers.members().filter(|peer| *peer != who && *peer != COLLUDER) {
        let other = (peer, usize::from(life.dealers.of(peer) != 1));
        if opened[who][number].0 || opened[peer][other.1].0 {
            continue;
        }
        let bound = if rules.masks_bind {
            (life.dead_model, life.adverts, life.dealers)
        } else {
            (false, Shown::NOTHING, Shown::NOTHING)
        };
        let (low, high) = (of.min(other), of.max(other));
        row.push((Symbol::PairMask { low, high, bound }, if who < peer { 1 } else { -1 }));
    }
    row
}

/// Computes modulo a prime far above any coefficient that three members' signs can give.
const PRIME: i64 = (1 << 31) - 1;

/// A basis of the combinations of rows in which only vectors are left, as coefficients of the symbols returned.
fn span(rows: Vec<Row>) -> (Vec<Symbol>, Vec<Vec<i64>>) {
    let mut symbols: Vec<Symbol> = rows.iter().flatten().map(|(symbol, _)| *symbol).collect();
    symbols.sort();
    symbols.dedup();
    let mut matrix: Vec<Vec<i64>> = rows
        .iter()
        .map(|row| {
            let mut dense = vec![0; symbols.len()];
            for (symbol, coefficient) in row {
                let at = symbols.binary_search(symbol).expect("listed above");
                dense[at] = (dense[at] + coefficient).rem_euclid(PRIME);
            }
            dense
        })
        .collect();
    let mut done = 0;
    for column in 0..symbols.len() {
        let Some(pivot) = (done..matrix.len()).find(|row| matrix[*row][column] != 0) else { continue };
        matrix.swap(done, pivot);
        let inverse = inverse(matrix[done][column]);
        matrix[done].iter_mut().for_each(|value| *value = *value * inverse % PRIME);
        let base = matrix[done].clone();
        for row in (0..matrix.len()).filter(|row| *row != done) {
            let factor = matrix[row][column];
            for (value, base) in matrix[row].iter_mut().zip(&base) {
                *value = (*value - factor * base % PRIME).rem_euclid(PRIME);
            }
        }
        done += 1;
    }
    let first =
        symbols.iter().position(|symbol| matches!(symbol, Symbol::Vector { .. })).unwrap_or(symbols.len());
    let basis = matrix
        .into_iter()
        .filter(|row| row[..first].iter().all(|value| *value == 0) && row.iter().any(|value| *value != 0))
        .map(|row| row[first..].to_vec())
        .collect();
    (symbols.split_off(first), basis)
}

/// By Fermat.
fn inverse(value: i64) -> i64 {
    let (mut result, mut base, mut exponent) = (1, value, PRIME - 2);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = result * base % PRIME;
        }
        base = base * base % PRIME;
        exponent >>= 1;
    }
    result
}

fn classify((symbols, basis): (Vec<Symbol>, Vec<Vec<i64>>)) -> Known {
    let [row] = basis.as_slice() else {
        // Reduced rows: a vector that can be had alone is a row of its own.
        let lone = |row: &Vec<i64>| row.iter().filter(|value| **value != 0).count() == 1;
        return if basis.is_empty() { Known::Nothing } else { Known::More { alone: basis.iter().any(lone) } };
    };
    let mut of = 0;
    for (symbol, coefficient) in symbols.iter().zip(row) {
        match (symbol, coefficient) {
            (_, 0) => {}
            // The first coefficient of a basis row is one.
            (Symbol::Vector { who, again: false }, 1) => of |= 1 << who,
            _ => return Known::More { alone: false },
        }
    }
    Known::Sum(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(who: usize) -> Symbol {
        Symbol::Vector { who, again: false }
    }

    fn mask(who: usize) -> Symbol {
        Symbol::SelfMask { who, number: 0 }
    }

    #[test]
    fn masks_that_cancel_leave_the_sum_and_masks_that_do_not_leave_nothing() {
        let cancels = vec![vec![(vector(0), 1), (mask(0), 1)], vec![(vector(1), 1), (mask(0), -1)]];
        assert_eq!(classify(span(cancels)), Known::Sum(0b011));
        let stays = vec![vec![(vector(0), 1), (mask(0), 1)], vec![(vector(1), 1), (mask(1), -1)]];
        assert_eq!(classify(span(stays)), Known::Nothing);
        let same = vec![vec![(vector(0), 1), (mask(0), 1)], vec![(vector(1), 1), (mask(0), 1)]];
        assert_eq!(classify(span(same)), Known::More { alone: false }, "a difference");
    }

    #[test]
    fn two_sums_are_more_than_one() {
        let sum = |of: &[usize]| -> Row { of.iter().map(|who| (vector(*who), 1)).collect() };
        assert_eq!(classify(span(vec![sum(&[0, 1, 2]), sum(&[0, 1, 2])])), Known::Sum(0b111));
        assert_eq!(classify(span(vec![sum(&[0, 1]), sum(&[0, 2])])), Known::More { alone: false });
        assert_eq!(classify(span(vec![sum(&[0, 1, 2]), sum(&[0, 2])])), Known::More { alone: true });
        assert_eq!(classify(span(vec![sum(&[1])])), Known::Sum(0b010));
    }
}
