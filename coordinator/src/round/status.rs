//! What an operator may see: the same numbers for everybody, and none about one organization's data.

use consilium_crypto::secagg::Step;
use consilium_proto::wire;

use super::{Job, Phase, control::Next, history::privacy, members::Member};

/// Rounds that a status carries; the whole list is asked for separately.
const RECENT: usize = 512;

impl Job {
    /// The job as the coordinator sees it now. Traffic counters are the driver's.
    pub fn status(&self, now_ms: u64) -> wire::JobStatus {
        let document = self.plan.document();
        let seconds = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e3;
        let (state, round, attempt, step, since, deadline) = match &self.phase {
            Phase::Waiting { round, attempt, since_ms } if self.is_held() => {
                ("held", *round, *attempt, "wait", *since_ms, 0)
            }
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
        let (answers, needed) = self.answers();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        wire::JobStatus {
            job: document.job.to_string(),
            state: state.into(),
            round,
            rounds: document.rounds,
            attempt,
            step: step.into(),
            step_seconds: seconds(since, now_ms),
            deadline_seconds: seconds(now_ms, deadline),
            members: self.member_status(round, now_ms),
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
            hold: self.control.hold.word().into(),
            now_ms,
            software: env!("CARGO_PKG_VERSION").into(),
            answers: count(answers),
            needed: count(needed),
            at_deadline: self.at_deadline().into(),
            debited: matches!(&self.phase, Phase::Running(running) if running.is_debited()),
            wasted: self.wasted().map(privacy),
            min_survivors: document.cohort.min_survivors,
            max_attempts: document.retries.max_attempts,
            reserve_left: self.retries_left(round),
            actions: self.control.actions,
            epsilon_budget: document.privacy.epsilon,
            // What the driver knows.
            bytes_in: 0,
            bytes_out: 0,
            health: None,
            problems: Vec::new(),
        }
    }

    /// Attempts that may be repeated after they cost privacy: what the reserve pays for, less what the attempt at hand is
    /// about to cost.
    fn retries_left(&self, round: u32) -> u32 {
        let ahead = match &self.phase {
            Phase::Waiting { .. } => 1,
            Phase::Running(running) => u64::from(!running.is_debited()),
            Phase::Finished => 0,
        };
        u32::try_from(self.reserve_left(round).saturating_sub(ahead)).unwrap_or(u32::MAX)
    }

    /// Members whose answer of this step is held, and how many it needs.
    fn answers(&self) -> (usize, usize) {
        match &self.phase {
            Phase::Waiting { .. } => {
                (self.members.online(), self.plan.document().cohort.min_survivors as usize)
            }
            Phase::Running(running) => running.answers(),
            Phase::Finished => (0, 0),
        }
    }

    /// What happens at the deadline if nobody else answers.
    fn at_deadline(&self) -> &'static str {
        let word = |next| match next {
            Next::Retry => "retry",
            Next::Round => "next-round",
            Next::End => "job-ends",
        };
        match &self.phase {
            Phase::Waiting { .. } if self.is_held() => "",
            // Nobody came: another attempt of the same round would wait for the same members.
            Phase::Waiting { round, .. } if *round < self.plan.document().rounds => "next-round",
            Phase::Waiting { .. } => "job-ends",
            Phase::Running(running) if running.is_releasing() => "",
            Phase::Running(running) => {
                let (answers, needed) = running.answers();
                if answers >= needed { "goes-on" } else { word(self.after(running.round, running.attempt)) }
            }
            Phase::Finished => "",
        }
    }

    /// Every attempt so far, oldest first.
    pub fn rounds(&self) -> wire::RoundsReply {
        wire::RoundsReply { rounds: self.history.iter().map(|summary| self.summary(summary)).collect() }
    }

    fn member_status(&self, round: u32, now_ms: u64) -> Vec<wire::MemberStatus> {
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
                awaited: awaited && member.refusal.is_none() && member.left_out.is_none(),
                refusal: trouble(member, self.members.why_absent(id)),
                software: member.software.clone(),
                protocol_version: member.protocol,
                last_seen_ms: member.last_seen_ms,
                step: match &self.phase {
                    Phase::Running(running) => running.reached(id).map(step_name).unwrap_or_default().into(),
                    _ => String::new(),
                },
                clock_skew_ms: member.skew_ms,
                // The driver's.
                bytes_in: 0,
                bytes_out: 0,
                disconnects: member.disconnects,
                disconnects_hour: member.disconnects_hour(now_ms),
                suspended: member.suspended,
                sits_out: member.sits_out(round),
                absences: member.absences,
            }
        });
        status.collect()
    }
}

/// Why a member does not take part, or what is wrong with what it sends.
fn trouble(member: &Member, why_absent: String) -> String {
    match (&member.refusal, member.fault) {
        _ if member.left_out.is_some() => why_absent,
        (Some(code), _) => code.clone(),
        (None, Some(check)) => format!("fault-{}", check.to_lowercase()),
        (None, None) => String::new(),
    }
}

fn unit(plan: &consilium_proto::plan::Plan) -> String {
    let (unit, note) = (plan.privacy.unit, &plan.privacy.note);
    if note.is_empty() { unit.name().into() } else { format!("{unit} ({note})") }
}

pub(super) fn step_name(step: Step) -> &'static str {
    match step {
        Step::Advertise => "advertise",
        Step::Share => "share",
        Step::Input => "input",
        Step::Vote => "vote",
        Step::Unmask => "unmask",
    }
}
