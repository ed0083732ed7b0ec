//! A small deterministic mutator: the same seed gives the same inputs for ever, so a failure's number reproduces it.

/// Values that lengths, counts and numbers are set to.
const INTERESTING: [u64; 14] =
    [0, 1, 2, 7, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0xffff, 0x10000, 0x7fff_ffff, 0xffff_ffff, u64::MAX];

/// Words that text formats know.
const WORDS: [&str; 16] = [
    "0",
    "-1",
    "1e308",
    "-0.0",
    "nan",
    "inf",
    "18446744073709551616",
    "\"",
    "[",
    "]",
    "{",
    "}",
    "= ",
    "\n",
    "\u{0}",
    "null",
];

/// Longest input made, bytes.
const LONGEST: usize = 1 << 18;

/// Makes mutations of seeds.
pub struct Mutator {
    seeds: Vec<Vec<u8>>,
    state: u64,
}

impl Mutator {
    /// Mutates `seeds`; without any, starts from nothing.
    pub fn new(mut seeds: Vec<Vec<u8>>, seed: u64) -> Self {
        if seeds.is_empty() {
            seeds.push(Vec::new());
        }
        Self { seeds, state: seed }
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014).
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.random() % bound.max(1) as u64) as usize
    }

    /// The next input: a seed with one to four changes.
    pub fn next_input(&mut self) -> Vec<u8> {
        let index = self.below(self.seeds.len());
        let mut bytes = self.seeds[index].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes);
        }
        bytes.truncate(LONGEST);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let (kind, at) = (self.below(11), self.below(bytes.len()));
        let end = at + self.below(bytes.len() - at.min(bytes.len())).min(64);
        match kind {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            1 if !bytes.is_empty() => bytes[at] = self.random() as u8,
            2 => bytes.insert(at, self.random() as u8),
            3 => drop(bytes.drain(at..end)),
            4 => bytes.truncate(at),
            // A part twice.
            5 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            // A part moved over another.
            6 if !bytes.is_empty() => {
                let to = self.below(bytes.len() - (end - at));
                bytes.copy_within(at..end, to);
            }
            // A length, count or number that lies, in either order of bytes.
            7 | 8 => {
                let value = INTERESTING[self.below(INTERESTING.len())];
                let width = 1 << self.below(4);
                let mut field = value.to_le_bytes()[..width].to_vec();
                if kind == 8 {
                    field.reverse();
                }
                let end = (at + width).min(bytes.len());
                bytes.splice(at..end, field);
            }
            // The front of this and the end of another.
            9 => {
                let other = self.below(self.seeds.len());
                let from = self.below(self.seeds[other].len());
                bytes.truncate(at);
                bytes.extend_from_slice(&self.seeds[other][from..]);
            }
            _ => {
                let word = WORDS[self.below(WORDS.len())];
                bytes.splice(at..end, word.bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs_and_all_kinds_of_change() {
        let seeds = || vec![vec![7; 40], b"other".to_vec(), Vec::new()];
        let (mut a, mut b) = (Mutator::new(seeds(), 3), Mutator::new(seeds(), 3));
        let mut lengths = std::collections::BTreeSet::new();
        for _ in 0..10_000 {
            let input = a.next_input();
            assert_eq!(input, b.next_input());
            lengths.insert(input.len());
        }
        assert!(lengths.len() > 30 && lengths.contains(&0), "{lengths:?}");
        assert_ne!(Mutator::new(seeds(), 4).next_input(), Mutator::new(seeds(), 5).next_input());
        Mutator::new(Vec::new(), 1).next_input();
    }
}
