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
        "seconds": status.seconds, "hold": status.hold, "answers": status.answers, "needed": status.needed,
        "at_deadline": status.at_deadline, "debited": status.debited, "wasted": privacy(status.wasted.as_ref()),
        "retries_left": status.reserve_left, "actions": status.actions, "now_ms": status.now_ms,
        "coordinator_software": status.software, "health": status.health.as_ref().map(health),
        "problems": status.problems.iter().map(problem).collect::<Vec<_>>(), "view": "the coordinator",
    })
}

fn health(health: &wire::Health) -> Value {
    let keys: Vec<_> =
        health.keys.iter().map(|key| json!({"id": key.id, "role": key.role, "days": key.days})).collect();
    json!({
        "disk_free_bytes": health.disk_free_bytes, "disk_full_seconds": health.disk_full_seconds,
        "chain_holds": health.chain_holds, "chain_checked_seconds": health.chain_checked_seconds,
        "backup_seconds": health.backup_seconds, "keys_ending": keys,
    })
}

fn problem(problem: &wire::Problem) -> Value {
    let who = Some(&problem.who).filter(|who| !who.is_empty());
    json!({"code": problem.code, "who": who, "total": problem.total, "last_hour": problem.last_hour})
}

pub(super) fn member(member: &wire::MemberStatus) -> Value {
    let refusal = Some(&member.refusal).filter(|code| !code.is_empty());
    json!({
        "id": member.id, "online": member.online, "done": member.done, "awaited": member.awaited,
        "refusal": refusal, "software": member.software,
        "protocol_version": member.protocol_version, "last_seen_ms": member.last_seen_ms, "step": member.step,
        "clock_skew_ms": member.clock_skew_ms, "bytes_in": member.bytes_in, "bytes_out": member.bytes_out,
        "disconnects": member.disconnects, "disconnects_hour": member.disconnects_hour,
        "suspended": member.suspended, "sits_out": member.sits_out, "absences": member.absences,
        "view": "the coordinator",
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
    let absent: Vec<_> =
        round.absent.iter().map(|it| json!({"id": it.id, "step": it.step, "code": it.code})).collect();
    let adapter = Some(hex::encode(&round.adapter_digest)).filter(|digits| !digits.is_empty());
    json!({
        "round": round.round, "attempt": round.attempt, "outcome": round.outcome,
        "survivors": round.survivors, "culprits": round.culprits, "train": train, "test": test,
        "spent": privacy(round.spent.as_ref()), "upload_bytes": round.upload_bytes,
        "seconds": round.seconds, "step_seconds": steps, "started_ms": round.started_ms, "adapter": adapter,
        "absent": absent, "debited": round.debited, "epsilon_wasted": round.epsilon_wasted,
    })
}

/// A number that nothing bounds is `null`.
pub(super) fn privacy(spent: Option<&wire::Privacy>) -> Option<Value> {
    spent.map(|p| json!({"epsilon": p.epsilon, "epsilon_local": p.epsilon_local, "delta": p.delta}))
}
