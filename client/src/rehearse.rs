//! A rehearsal: one lot is trained, and one attempt walked through among stand-ins in this process, so that every message that this
//! organization would send can be looked at before any is sent.
//!
//! The stand-ins have the peers' names and keys drawn here and now, and contribute zeros; so has this organization: nothing that a
//! rehearsal makes is signed by its real key, and nothing of it counts anywhere. The steps, the sizes, the noise, the masks and the
//! encodings are those of an attempt in which everybody takes part. The keys are gone when it ends, so nobody can take the masks off what
//! it leaves on the disk.
//!
//! Nothing is debited, because nothing is released.

use std::sync::Arc;

use consilium_crypto::{
    digest::{Digest, Transcript},
    protocol::{Declined, Participating, Protocol},
    ring::RingVector,
    secagg::{
        Attempt, FiveSteps, LedgerHead, Member, MemberId, Position, Step as Phase,
        client::{MaskedInput, Reply},
    },
    sign::SigningKey,
};
use consilium_proto::{
    ids::Id,
    plan::VerifiedPlan,
    roster::VerifiedRoster,
    wire::{self, client_message::Kind as Say},
};
use prost::Message as _;
use rand::CryptoRng;
use thiserror::Error;

use crate::{egress::Step, link::greeting, session::hello, threads::Threads};

/// A message that would be sent, as it would leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// What it is.
    pub step: Step,
    /// The message as protobuf, before gRPC and TLS.
    pub bytes: Vec<u8>,
}

/// Why a rehearsal ended early; a local fault.
#[derive(Debug, Error)]
#[error("the rehearsal ended in step {step}: {why}; this is a defect of this software, please report it")]
pub struct Stuck {
    step: Phase,
    why: String,
}

fn stuck(step: Phase) -> impl Fn(String) -> Stuck {
    move |why| Stuck { step, why }
}

/// A stand-in, or this organization under a key of the moment.
struct Actor {
    position: Position,
    key: SigningKey,
    participant: Box<dyn Participating>,
}

/// Every message that `me` would send in `attempt` 1 of `round`, from the greeting on, with `update` as its vector.
///
/// # Errors
///
/// [`Stuck`]; never with an honest plan and a vector of its shape.
pub fn rehearse(
    (roster, plan): (&VerifiedRoster, &VerifiedPlan),
    me: &Id,
    ledger: LedgerHead,
    round: u32,
    update: RingVector,
    rng: &mut impl CryptoRng,
) -> Result<Vec<Sent>, Stuck> {
    let at_start = stuck(Phase::Advertise);
    let cohort = plan.cohort();
    let index =
        cohort.binary_search(me).map_err(|_| at_start(format!("{me} is not in the plan's cohort")))?;
    let keys: Vec<_> = cohort.iter().map(|_| SigningKey::generate(rng)).collect();
    let member = |(id, key): (&Id, &SigningKey)| {
        Ok(Member { id: MemberId::new(id.as_str())?, key: key.verifying_key() })
    };
    let members: Result<Vec<_>, consilium_crypto::secagg::BadMemberId> =
        cohort.iter().zip(&keys).map(member).collect();
    let members = members.map_err(|error| at_start(error.to_string()))?;
    let mut salt = [0; 32];
    rng.fill_bytes(&mut salt);
    // A context that no attempt ever has.
    let context =
        Transcript::new("consilium/1/rehearsal").digest(&plan.digest()).digest(&Digest(salt)).finish();
    let attempt = Attempt::new(context, plan.derived().parameters, members)
        .map_err(|error| at_start(error.to_string()))?;
    let attempt = Arc::new(attempt);

    let mut said = vec![(Phase::Advertise, greeting(hello(roster, plan, round - 1)))];
    let protocol_word = |step: Phase, body: Vec<u8>| {
        Say::Protocol(wire::ProtocolMessage { round, attempt: 1, step: step as u32, body })
    };
    let mut collector = FiveSteps.collect(attempt.clone());
    let (mut actors, mut chunks) = (Vec::new(), Vec::new());
    for (position, key) in (0..).map(Position).zip(keys) {
        let mine = usize::from(position.0) == index;
        let joined = FiveSteps
            .join(attempt.clone(), position, &key, ledger, rng)
            .map_err(|error| at_start(error.to_string()))?;
        if let Some((step, body)) = joined.word {
            collector.accept(position, step, &body).map_err(|error| stuck(step)(format!("{error:?}")))?;
            if mine {
                said.push((step, protocol_word(step, body)));
            }
        }
        actors.push(Actor { position, key, participant: joined.participant });
    }
    let derived = plan.derived();
    let zeros = || RingVector::new(derived.ring, vec![0; derived.vector_len]);
    let mut update = Some(update);
    for step in [Phase::Share, Phase::Input, Phase::Vote, Phase::Unmask] {
        let stuck = stuck(step);
        collector.close().map_err(|error| stuck(format!("{error:?}")))?;
        for Actor { position, key, participant } in &mut actors {
            let mine = usize::from(position.0) == index;
            let delivery =
                collector.delivery(*position).ok_or_else(|| stuck("nothing is delivered".into()))?;
            let reply =
                participant.deliver(step, &delivery, key, rng).map_err(|error| stuck(words(error)))?;
            let body = match reply {
                Reply::Send(body) => body,
                Reply::UpdateWanted => {
                    let vector = match update.take_if(|_| mine) {
                        Some(update) => update,
                        None => zeros().map_err(|error| stuck(error.to_string()))?,
                    };
                    let masked = participant.mask(vector, key, &Threads::of_this_machine());
                    let MaskedInput { header, chunks: packed } =
                        masked.map_err(|error| stuck(words(error)))?;
                    if mine {
                        chunks = packed;
                    }
                    header
                }
            };
            collector.accept(*position, step, &body).map_err(|error| stuck(format!("{error:?}")))?;
            if step == Phase::Input {
                collector.input_complete(*position);
            }
            if mine {
                said.push((step, protocol_word(step, body)));
            }
        }
    }
    let mut sent = Vec::new();
    for (step, say) in said {
        let step_of = match &say {
            Say::Hello(_) => Step::Hello,
            _ => Step::of(step),
        };
        sent.push(Sent { step: step_of, bytes: wire::ClientMessage { kind: Some(say) }.encode_to_vec() });
        if step_of == Step::Input {
            for (index, chunk) in (0..).zip(std::mem::take(&mut chunks)) {
                let part = wire::UploadPart { round, attempt: 1, index, chunk };
                sent.push(Sent { step: Step::Chunk, bytes: part.encode_to_vec() });
            }
        }
    }
    Ok(sent)
}

fn words(declined: Declined) -> String {
    match declined {
        Declined::OutOfTurn => "out of turn".into(),
        Declined::Refused { check, why, .. } => format!("check {check}: {why}"),
    }
}
