//! The rules that honest clients keep, each of which can be switched off, and how much the adversary may choose
//! from.

/// Fewest adverts, dealers, survivors.
pub(crate) const M_MIN: u32 = 3;

/// What stands between the adversary and a member's vector.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Votes that settle a survivor set, and shares that give a secret.
    pub(crate) quorum: u32,
    /// A client answers only for a set with a quorum of votes (V5). Off: for any set of dealers it is shown.
    pub(crate) votes: bool,
    /// Who voted answers only for the set it voted for (V7).
    pub(crate) own_vote: bool,
    /// The attempt's number is recorded before the first key leaves. Off: a restarted client knows nothing of the
    /// attempt and begins it again, with fresh keys.
    pub(crate) joined_ahead: bool,
    /// The vote is recorded before it is said, and whoever finds one casts no other.
    pub(crate) vote_ahead: bool,
    /// The answer is recorded before it is said, and whoever finds one gives no other and joins no later attempt
    /// of the round.
    pub(crate) answer_ahead: bool,
    /// A restarted client sits the attempt out: its secrets died with the process. Off: they were on its disk, and
    /// it goes on from them, with an update drawn anew.
    pub(crate) sit_out: bool,
    /// Signatures cover the context, and headers and votes are held against one's own step 1 and step 2 hash (A2,
    /// D4, D5, H5, H6, V6). Off: any member's word from whatever context and transcript will do.
    pub(crate) same_transcript: bool,
    /// Sealing keys and masks are derived from the context and the transcript.
    pub(crate) masks_bind: bool,
    /// A vector has a self-mask.
    pub(crate) self_mask: bool,
    /// An answer has one kind of share for each dealer.
    pub(crate) one_kind: bool,
}

impl Rules {
    /// The product's.
    pub(crate) const STANDING: Self = Self {
        quorum: 3,
        votes: true,
        own_vote: true,
        joined_ahead: true,
        vote_ahead: true,
        answer_ahead: true,
        sit_out: true,
        same_transcript: true,
        masks_bind: true,
        self_mask: true,
        one_kind: true,
    };
}

/// How much the adversary may choose from. Less makes a search for an attack shorter and takes no attack's
/// meaning away; a proof that there is none wants all of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    /// Attempts of the round, 1 or 2.
    pub(crate) attempts: u8,
    /// Whether one honest client may crash, once.
    pub(crate) crash: bool,
    /// Whether members may be shown different adapters.
    pub(crate) models: bool,
    /// How many different adverts, deals and vectors the colluder signs in a context. Three honest members are
    /// shown one each, so more than three would change nothing.
    pub(crate) variants: u8,
}

impl Scope {
    /// All of it.
    pub(crate) const WHOLE: Self = Self { attempts: 2, crash: true, models: true, variants: 3 };
}
