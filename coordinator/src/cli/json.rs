//! The coordinator's answers as JSON, with whose view each number is.

use consilium_proto::{plan::VerifiedPlan, wire};
use serde_json::{Value, json};

/// Steps in the order of [`wire::RoundSummary::step_seconds`].
const STEPS: [&str; 6] = ["advertise", "share", "input", "vote", "unmask", "release"];

/// Whose view training metrics are.
pub(super) const TRAINING_VIEW: &str = "all organizations, from the noisy sum";

pub(super) fn status(status: &wire::JobStatus, plan: Option<&VerifiedPlan>) -> Value {
    let members: Vec<_> = status.members.iter().map(member).collect();
    let recent: Vec<_> = status.recent.iter().map(round).collect();
    let document = plan.map(VerifiedPlan::document);
    json!({
        "job": status.job, "state": status.state,
        "round": status.round, "rounds": status.rounds, "attempt": status.attempt,
        "step": status.step, "step_seconds": status.step_seconds, "deadline_seconds": status.deadline_seconds,
        "members": members, "recent": recent,
        "spent": privacy(status.spent.as_ref()), "privacy_unit": status.privacy_unit,
        "privacy_note": document.map(|plan| &plan.privacy.note),
        "epsilon_budget": document.map(|plan| plan.privacy.epsilon).filter(|epsilon| *epsilon > 0.0),
        "upload_bytes": status.upload_bytes, "bytes_in": status.bytes_in, "bytes_out": status.bytes_out,
        "seconds": status.seconds,
    })
}

fn member(member: &wire::MemberStatus) -> Value {
    let refusal = Some(&member.refusal).filter(|code| !code.is_empty());
    json!({
        "id": member.id, "online": member.online, "done": member.done, "awaited": member.awaited,
        "refusal": refusal, "software": member.software,
    })
}

pub(super) fn round(round: &wire::RoundSummary) -> Value {
    let train = round
        .train_loss
        .zip(round.train_accuracy)
        .map(|(loss, accuracy)| json!({"view": TRAINING_VIEW, "loss": loss, "accuracy": accuracy}));
    let test = round.test_accuracy.map(|accuracy| {
        json!({
            "view": round.evaluator, "loss": round.test_loss, "accuracy": accuracy,
            "macro_accuracy": round.test_macro_accuracy,
        })
    });
    let steps: serde_json::Map<_, _> = STEPS
        .iter()
        .zip(&round.step_seconds)
        .map(|(&step, &seconds)| (step.to_owned(), json!(seconds)))
        .collect();
    let adapter = Some(hex::encode(&round.adapter_digest)).filter(|digits| !digits.is_empty());
    json!({
        "round": round.round, "attempt": round.attempt, "outcome": round.outcome,
        "survivors": round.survivors, "culprits": round.culprits, "train": train, "test": test,
        "spent": privacy(round.spent.as_ref()), "upload_bytes": round.upload_bytes,
        "seconds": round.seconds, "step_seconds": steps, "started_ms": round.started_ms, "adapter": adapter,
    })
}

/// A number that nothing bounds is `null`.
fn privacy(spent: Option<&wire::Privacy>) -> Option<Value> {
    spent.map(|p| json!({"epsilon": p.epsilon, "epsilon_local": p.epsilon_local, "delta": p.delta}))
}
