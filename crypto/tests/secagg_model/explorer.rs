//! Breadth-first search over every reachable state, with the shortest trace to whatever is looked for.
//!
//! Written here rather than taken from `stateright`: that brings 44 crates, an HTTP server and another generation
//! of `rand` among them, for what is a queue and a hash table. States are compared whole, not by fingerprint, so
//! "complete" means complete.

use std::{
    fmt,
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher},
};

/// Something to explore.
pub(crate) trait Model {
    type State: Copy + Eq + Hash;
    type Move: Copy + fmt::Display;

    /// Where it begins.
    fn initial(&self) -> Vec<Self::State>;

    /// Adds every state one move away, with the move. Unsorted, repetitions allowed.
    fn successors(&self, state: &Self::State, out: &mut Vec<(Self::Move, Self::State)>);

    /// How it began, in words.
    fn beginning(&self, initial: &Self::State) -> String;

    /// The representative of all states that differ from this one only in names.
    fn canonical(&self, state: &Self::State) -> Self::State;
}

/// What came of an exploration.
pub(crate) struct Explored<M: Model> {
    /// States found, each standing for all that differ only in names.
    pub(crate) states: usize,
    /// Moves tried.
    pub(crate) moves: usize,
    /// Whether every reachable state was looked at.
    pub(crate) complete: bool,
    /// The shortest way to a state that was looked for.
    pub(crate) found: Option<Trace<M>>,
}

/// A way from an initial state to another: names are the same from one end to the other.
pub(crate) struct Trace<M: Model> {
    beginning: String,
    from: M::State,
    pub(crate) steps: Vec<(M::Move, M::State)>,
}

impl<M: Model> Trace<M> {
    pub(crate) fn last(&self) -> &M::State {
        self.steps.last().map_or(&self.from, |(_, state)| state)
    }
}

impl<M: Model> fmt::Display for Trace<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "   0. {}", self.beginning)?;
        (1..).zip(&self.steps).try_for_each(|(number, (step, _))| writeln!(f, "  {number:2}. {step}"))
    }
}

/// Explores until `wanted` holds or nothing is left, or `limit` states are known.
pub(crate) fn explore<M: Model>(model: &M, limit: usize, wanted: impl Fn(&M::State) -> bool) -> Explored<M> {
    let mut seen = Seen::new();
    for state in model.initial() {
        seen.insert(model.canonical(&state), u32::MAX);
    }
    let (mut at, mut moves, mut next) = (0, 0, Vec::new());
    while let Some(state) = seen.states.get(at).copied() {
        if wanted(&state) {
            let found = Some(seen.trace(model, at));
            return Explored { states: seen.states.len(), moves, complete: false, found };
        }
        if seen.states.len() > limit {
            return Explored { states: seen.states.len(), moves, complete: false, found: None };
        }
        model.successors(&state, &mut next);
        for (_, successor) in next.drain(..) {
            moves += 1;
            seen.insert(model.canonical(&successor), u32::try_from(at).expect("fewer than 2^32 states"));
        }
        at += 1;
    }
    Explored { states: seen.states.len(), moves, complete: true, found: None }
}

/// The states found, in the order found, and where each came from; the queue is the tail of the same list.
struct Seen<S> {
    states: Vec<S>,
    parents: Vec<u32>,
    /// Open addressing: indices into `states`.
    slots: Vec<u32>,
}

const EMPTY: u32 = u32::MAX;

impl<S: Copy + Eq + Hash> Seen<S> {
    fn new() -> Self {
        Self { states: Vec::new(), parents: Vec::new(), slots: vec![EMPTY; 1 << 12] }
    }

    fn slot(&self, state: &S) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = BuildHasherDefault::<Mixer>::default().hash_one(state) as usize & mask;
        while self.slots[slot] != EMPTY && self.states[self.slots[slot] as usize] != *state {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn insert(&mut self, state: S, parent: u32) {
        let slot = self.slot(&state);
        if self.slots[slot] != EMPTY {
            return;
        }
        self.slots[slot] = u32::try_from(self.states.len()).expect("fewer than 2^32 states");
        self.states.push(state);
        self.parents.push(parent);
        if self.states.len() * 2 > self.slots.len() {
            self.slots = vec![EMPTY; self.slots.len() * 2];
            for index in 0..self.states.len() {
                let slot = self.slot(&self.states[index]);
                self.slots[slot] = index as u32;
            }
        }
    }

    /// The way to a state. Representatives may change names from one step to the next; walking forward again
    /// from the beginning keeps them.
    fn trace<M: Model<State = S>>(&self, model: &M, to: usize) -> Trace<M> {
        let mut path = vec![to];
        while let Some(parent) = path.last().map(|at| self.parents[*at]).filter(|parent| *parent != u32::MAX)
        {
            path.push(parent as usize);
        }
        path.reverse();
        let from = self.states[path[0]];
        let (mut now, mut steps, mut next) = (from, Vec::new(), Vec::new());
        for at in &path[1..] {
            next.clear();
            model.successors(&now, &mut next);
            let step = next.iter().find(|(_, state)| model.canonical(state) == self.states[*at]);
            let step = *step.expect("a path of representatives is a path");
            now = step.1;
            steps.push(step);
        }
        Trace { beginning: model.beginning(&from), from, steps }
    }
}

/// A hasher for short keys that nobody chose to be unkind.
#[derive(Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two counters that look alike, up to a limit.
    struct Counters;

    impl Model for Counters {
        type State = [u8; 2];
        type Move = u8;

        fn initial(&self) -> Vec<[u8; 2]> {
            vec![[0, 0]]
        }

        fn successors(&self, state: &[u8; 2], out: &mut Vec<(u8, [u8; 2])>) {
            for (which, at) in [(0, 0), (1, 1)] {
                let mut next = *state;
                next[at] += 1;
                if next[at] < 100 {
                    out.push((which, next));
                }
            }
        }

        fn beginning(&self, _: &[u8; 2]) -> String {
            "zero".into()
        }

        fn canonical(&self, state: &[u8; 2]) -> [u8; 2] {
            [state[0].min(state[1]), state[0].max(state[1])]
        }
    }

    #[test]
    fn every_state_is_found_once_and_the_trace_is_the_shortest() {
        let all = explore(&Counters, usize::MAX, |_| false);
        assert!(all.complete && all.found.is_none());
        assert_eq!((all.states, all.moves), (100 * 101 / 2, 100 * 101 - 101));

        let some = explore(&Counters, usize::MAX, |state| *state == [2, 40]);
        assert!(!some.complete);
        let trace = some.found.unwrap();
        assert_eq!(trace.steps.len(), 42);
        assert!(matches!(trace.last(), [2, 40] | [40, 2]));
        assert!(!explore(&Counters, 1000, |_| false).complete);
    }
}
