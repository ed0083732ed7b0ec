//! A state of the world: what each honest member did in the attempt under way, and what is known from the attempt
//! before.
//!
//! There is no network in it and no coordinator. Whatever was said stays said and can be shown to anybody, at any
//! time, any number of times, or never: so the messages said are all that counts, and they follow from what the
//! honest members did. What the colluder may say is always there.

/// Honest members: 0, 1 and 2.
pub(crate) const HONEST: usize = 3;
/// The one member that the coordinator has.
pub(crate) const COLLUDER: usize = 3;
/// All of them.
pub(crate) const MEMBERS: usize = 4;

/// What one client is shown in one step: for each member nothing (0) or one of the messages that this member
/// signed (1 to 3). A client hashes all of it, so this *is* the hash.
///
/// An honest member's adverts and deals are numbered by [`Life`]; its vectors 1 and 2 are those of its first life
/// before and after a resumption, 3 that of its second. The colluder signs as many as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Shown(u8);

impl Shown {
    pub(crate) const NOTHING: Self = Self(0);

    /// Everything that could be shown: for each member, `allowed` has a bit for each number it may stand with,
    /// bit 0 if it may be missing.
    pub(crate) fn choices(allowed: [u8; MEMBERS], at_least: u32) -> impl Iterator<Item = Self> {
        let fits =
            move |shown: &Self| (0..MEMBERS).all(|member| allowed[member] >> shown.of(member) & 1 == 1);
        (0..=u8::MAX).map(Self).filter(move |shown| shown.count() >= at_least && fits(shown))
    }

    pub(crate) fn of(self, member: usize) -> u8 {
        self.0 >> (2 * member) & 3
    }

    pub(crate) fn has(self, member: usize) -> bool {
        self.of(member) != 0
    }

    pub(crate) fn with(self, member: usize, number: u8) -> Self {
        Self(self.0 & !(3 << (2 * member)) | number << (2 * member))
    }

    pub(crate) fn is_nothing(self) -> bool {
        self == Self::NOTHING
    }

    pub(crate) fn count(self) -> u32 {
        ((self.0 | self.0 >> 1) & 0b0101_0101).count_ones()
    }

    pub(crate) fn members(self) -> impl Iterator<Item = usize> {
        (0..MEMBERS).filter(move |member| self.has(*member))
    }

    fn renamed(self, names: &Names) -> Self {
        let keep = Self::NOTHING.with(COLLUDER, self.of(COLLUDER));
        (0..HONEST).fold(keep, |shown, member| shown.with(names[member], self.of(member)))
    }
}

/// Whether a process holds an attempt's secrets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Process {
    /// Never began: was not asked, may not, or (a second life) had no cause to.
    #[default]
    Absent,
    /// Has advertised, and goes on.
    Running,
    /// Died; its secrets are gone, what it said is not.
    Lost,
}

/// One set of keys of an honest member in an attempt, and everything said under it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Life {
    pub(crate) process: Process,
    /// The adapter it was shown is one that yields no gradient: its update is known in advance.
    pub(crate) dead_model: bool,
    /// The process died and went on from secrets on its disk (no product does).
    pub(crate) resumed: bool,
    /// What it dealt on; nothing if it has not dealt.
    pub(crate) adverts: Shown,
    /// The dealers whose shares it holds; nothing if it holds none.
    pub(crate) dealers: Shown,
    /// A vector went out: before, and after a resumption.
    pub(crate) vectors: [bool; 2],
    /// Survivors voted for, likewise.
    pub(crate) votes: [Shown; 2],
    /// Survivors answered for, likewise.
    pub(crate) answers: [Shown; 2],
}

impl Life {
    pub(crate) fn has_begun(&self) -> bool {
        self.process != Process::Absent
    }

    pub(crate) fn runs(&self) -> bool {
        self.process == Process::Running
    }

    /// Same context, same adverts: the same step 1 hash.
    pub(crate) fn same_step1(&self, other: &Self) -> bool {
        (self.dead_model, self.adverts) == (other.dead_model, other.adverts)
    }

    /// The same step 2 hash.
    pub(crate) fn same_step2(&self, other: &Self) -> bool {
        self.same_step1(other) && self.dealers == other.dealers
    }

    fn renamed(mut self, names: &Names) -> Self {
        self.adverts = self.adverts.renamed(names);
        self.dealers = self.dealers.renamed(names);
        self.votes = self.votes.map(|shown| shown.renamed(names));
        self.answers = self.answers.map(|shown| shown.renamed(names));
        self
    }
}

/// A state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct State {
    /// 0 or 1.
    pub(crate) attempt: u8,
    /// The one crash has happened.
    pub(crate) crashed: bool,
    /// What the attempt before gave away.
    pub(crate) known: Known,
    /// Honest members. A second life is a client that began the same attempt again with fresh keys.
    pub(crate) lives: [[Life; 2]; HONEST],
}

/// What an attempt gave away of honest members' vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Known {
    /// Nothing.
    #[default]
    Nothing,
    /// The sum over some, a bit each, and no other combination.
    Sum(u8),
    /// Anything else; `alone` if one member's vector by itself is among it.
    More { alone: bool },
}

type Names = [usize; HONEST];

const ALL_NAMES: [Names; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

impl State {
    /// Every life, with its owner and its number (0 or 1).
    pub(crate) fn all(&self) -> impl Iterator<Item = (usize, usize, &Life)> {
        let numbered = |who| [(who, 0), (who, 1)];
        (0..HONEST)
            .flat_map(numbered)
            .map(|(who, number)| (who, number, &self.lives[who][number]))
            .filter(|(_, _, life)| life.has_begun())
    }

    /// The least of the six states that differ from this one in the honest members' names.
    pub(crate) fn canonical(&self) -> Self {
        ALL_NAMES.iter().map(|names| self.renamed(names)).min().unwrap_or(*self)
    }

    fn renamed(&self, names: &Names) -> Self {
        let mut renamed = *self;
        for (who, lives) in self.lives.iter().enumerate() {
            renamed.lives[names[who]] =
                lives.map(|life| if life.has_begun() { life.renamed(names) } else { life });
        }
        if let Known::Sum(of) = self.known {
            let bits = (0..HONEST).map(|who| (of >> who & 1) << names[who]);
            renamed.known = Known::Sum(bits.sum());
        }
        renamed
    }
}
