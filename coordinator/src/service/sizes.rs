//! How long a message of each kind can be, from the plan.

use consilium_crypto::secagg::{Params, Step};
use consilium_proto::{MAX_MESSAGE_BYTES, wire::client_message::Kind};
use prost::Message as _;

/// Most bytes that fields around a body or chunk take.
const AROUND: usize = 64;
/// Most bytes of a greeting, a refusal or a result.
const SMALL: usize = 512;
/// Most bytes of a protocol body whatever the cohort: signatures, digests, points, ids.
const BODY: usize = 4 << 10;
/// Most bytes that each member of the cohort adds to a deal (a sealed share and its path) or an answer.
const SHARE: usize = 1 << 10;
/// Most bytes that each member adds to a vote (its place and the digest of its header).
const NAMED: usize = 64;
/// Most bytes that each invited member adds to an announcement, which a greeting may carry: its id.
const INVITED: usize = 68;
/// Most bytes that a member says about what it holds of one other.
const STATEMENT: usize = 64 << 10;
/// Most bytes that each chunk adds to the header of a masked input: its digest.
const CHUNK: usize = 32;

/// The plan's numbers that sizes follow from.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    params: Params,
}

impl Sizes {
    pub(super) fn new(params: Params) -> Self {
        Self { params }
    }

    /// Chunks in an upload.
    pub(super) fn chunks(&self) -> u32 {
        self.params.chunk_count()
    }

    /// Bytes of a packed vector: a masked input's, and a sum's.
    pub(super) fn input_bytes(&self) -> usize {
        usize::try_from(self.params.total_len()).unwrap_or(usize::MAX)
    }

    /// Most bytes of any message: what is longer is refused before it is read.
    pub(super) fn most(&self) -> usize {
        let body = Step::ALL.into_iter().map(|step| self.body(step)).max().unwrap_or(0);
        let statements = usize::from(self.params.n()).saturating_mul(STATEMENT);
        (body.max(self.params.chunk_len(0)).max(statements) + AROUND).min(MAX_MESSAGE_BYTES)
    }

    fn body(&self, step: Step) -> usize {
        let members = usize::from(self.params.n());
        BODY + match step {
            Step::Advertise => 0,
            Step::Share | Step::Unmask => members * SHARE,
            Step::Input => self.params.chunk_count() as usize * CHUNK,
            Step::Vote => members * NAMED,
        }
    }

    /// Refuses a session message that is longer than its kind can be.
    pub(super) fn check(&self, kind: &Kind) -> Result<(), String> {
        let (what, bytes, most) = match kind {
            Kind::Hello(hello) => {
                ("a greeting", hello.encoded_len(), SMALL + usize::from(self.params.n()) * INVITED)
            }
            Kind::Refusal(refusal) => ("a refusal", refusal.encoded_len(), SMALL),
            Kind::StateQuery(query) => ("a question", query.encoded_len(), SMALL),
            Kind::StateStatements(statements) => {
                let members = usize::from(self.params.n());
                let most = members.saturating_mul(STATEMENT).min(MAX_MESSAGE_BYTES);
                ("an answer to questions", statements.encoded_len(), most)
            }
            Kind::Evaluation(evaluation) => ("a result", evaluation.encoded_len(), SMALL),
            Kind::Protocol(message) => {
                let step = u8::try_from(message.step).ok().and_then(Step::from_number);
                let most = step.map_or(0, |step| self.body(step));
                ("a body of this step", message.body.len(), most)
            }
        };
        if bytes <= most { Ok(()) } else { Err(format!("{what} has {bytes} bytes, and can have {most}")) }
    }
}
