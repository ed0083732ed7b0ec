//! What an operator may see: the same numbers for everybody, and none about one organization's data.

use consilium_crypto::secagg::Step;
use consilium_proto::wire;

use super::{Job, Phase, history::privacy, members::Member};

/// Rounds that a status carries; the whole list is asked for separately.
const RECENT: usize = 512;

impl Job {
    /// The job as the coordinator sees it now. Traffic counters are the driver's.
    pub fn status(&self, now_ms: u64) -> wire::JobStatus {
        let document = self.plan.document();
        let seconds = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e3;
        let (state, round, attempt, step, since, deadline) = match &self.phase {
            Phase::Waiting { round, attempt, since_ms } => {
                ("waiting", *round, *attempt, "wait", *since_ms, since_ms + self.wait_ms())
            }
            Phase::Running(running) => (
                "running",
                running.round,
                running.attempt,
                if running.is_releasing() { "release" } else { step_name(running.step()) },
                running.step_started_ms(),
                running.deadline_ms(document),
            ),
            Phase::Finished => ("finished", document.rounds, 0, "", now_ms, now_ms),
        };
        let ended = match self.phase {
            Phase::Finished => self.history.last().map_or(now_ms, |last| last.ended_ms),
            _ => now_ms,
        };
        wire::JobStatus {
            job: document.job.to_string(),
            state: state.into(),
            round,
            rounds: document.rounds,
            attempt,
            step: step.into(),
            step_seconds: seconds(since, now_ms),
            deadline_seconds: seconds(now_ms, deadline),
            members: self.member_status(),
            recent: self
                .history
                .iter()
                .rev()
                .take(RECENT)
                .rev()
                .map(|summary| self.summary(summary))
                .collect(),
            seconds: self.started_ms.map_or(0.0, |started| seconds(started, ended)),
            privacy_unit: unit(document),
            upload_bytes: self.upload_bytes,
            spent: self.cost(self.debited).map(privacy),
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// Every attempt so far, oldest first.
    pub fn rounds(&self) -> wire::RoundsReply {
        wire::RoundsReply { rounds: self.history.iter().map(|summary| self.summary(summary)).collect() }
    }

    fn member_status(&self) -> Vec<wire::MemberStatus> {
        let status = self.members.iter().map(|(id, member)| {
            let (done, awaited) = match &self.phase {
                Phase::Waiting { .. } => (member.online, !member.online),
                Phase::Running(running) => (running.has_answered(id), running.is_missing(id)),
                Phase::Finished => (true, false),
            };
            wire::MemberStatus {
                id: id.to_string(),
                online: member.online,
                done,
                awaited: awaited && member.refusal.is_none() && !member.excluded,
                refusal: trouble(member),
                software: member.software.clone(),
                protocol_version: member.protocol,
            }
        });
        status.collect()
    }
}

/// Why a member does not take part, or what is wrong with what it sends.
fn trouble(member: &Member) -> String {
    match (&member.refusal, member.fault) {
        _ if member.excluded => "excluded".into(),
        (Some(code), _) => code.clone(),
        (None, Some(check)) => format!("fault-{}", check.to_lowercase()),
        (None, None) => String::new(),
    }
}

fn unit(plan: &consilium_proto::plan::Plan) -> String {
    let (unit, note) = (plan.privacy.unit, &plan.privacy.note);
    if note.is_empty() { unit.name().into() } else { format!("{unit} ({note})") }
}

fn step_name(step: Step) -> &'static str {
    match step {
        Step::Advertise => "advertise",
        Step::Share => "share",
        Step::Input => "input",
        Step::Vote => "vote",
        Step::Unmask => "unmask",
    }
}
