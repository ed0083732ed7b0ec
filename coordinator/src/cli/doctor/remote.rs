//! What the coordinator says of itself and its members.

use consilium_proto::wire::{Health, JobStatus, StatusRequest};

use super::Checks;
use crate::{
    cli::{
        members::skew,
        table::{bytes, clean, epsilon, span},
        target::{TargetArgs, block_on},
        words,
    },
    service::now_ms,
};

/// Clocks further apart than this are worth a look: hours of training and ends of keys follow from them.
const SKEW_MS: i64 = 30_000;
/// A backup older than this is.
const BACKUP_S: f64 = 2.0 * 86_400.0;
/// Sessions of one member that end in an hour without being worth a look.
const ENDS: u32 = 6;

pub(super) fn look(target: TargetArgs, checks: &mut Checks) {
    let Some(target) = checks.keep("files", target.resolve()) else { return };
    let asked = block_on(async {
        let (mut client, link) = target.client().await?;
        link.answer(client.status(StatusRequest {})).await
    });
    let Some(status) = checks.keep("connection", asked) else { return };
    checks.ok("connection", format!("{} answers and is the roster's coordinator", target.address));
    version(&status, checks);
    clocks(&status, checks);
    job(&status, checks);
    survivors(&status, checks);
    members(&status, checks);
    let none = Health::default();
    machine(status.health.as_ref().unwrap_or(&none), checks);
}

fn version(status: &JobStatus, checks: &mut Checks) {
    let (own, other) = (env!("CARGO_PKG_VERSION"), clean(&status.software));
    if other == own {
        checks.ok("version", format!("{own} here and there"));
    } else {
        checks.warn("version", format!("{own} here, {other} there"), "use the same version on both sides");
    }
}

fn clocks(status: &JobStatus, checks: &mut Checks) {
    let own = i64::try_from(now_ms()).unwrap_or(i64::MAX);
    let ahead = i64::try_from(status.now_ms).unwrap_or(i64::MAX).saturating_sub(own);
    let mend = "set the clock of whichever is wrong: `timedatectl set-ntp true`";
    if ahead.abs() > SKEW_MS {
        checks.warn("clock", format!("the coordinator's is {} from this machine's", skew(ahead)), mend);
    } else {
        checks.ok("clock", format!("the coordinator's is {} from this machine's", skew(ahead)));
    }
    for member in &status.members {
        if let Some(ms) = member.clock_skew_ms.filter(|ms| ms.abs() > SKEW_MS) {
            checks.warn(
                "clock",
                format!("{}'s is {} from the coordinator's", clean(&member.id), skew(ms)),
                mend,
            );
        }
    }
}

fn job(status: &JobStatus, checks: &mut Checks) {
    let hold = words::hold(&status.hold);
    if hold.is_empty() {
        let state = clean(&status.state);
        checks.ok("job", format!("{state}, round {} of {}", status.round, status.rounds));
    } else {
        checks.warn("job", hold, "nothing, if that is meant");
    }
    let failed = status.recent.iter().rev().take_while(|round| round.outcome != "released").count();
    if failed > 1 {
        let code = status.recent.last().map(|round| clean(&round.outcome)).unwrap_or_default();
        checks.warn(
            "job",
            format!(
                "the last {failed} attempts ended without a sum, the last with {code}: {}",
                words::outcome(&code)
            ),
            "`consilium why` names whom it waits for",
        );
    }
    if let Some(spent) = status.spent.as_ref().filter(|spent| {
        status.epsilon_budget > 0.0
            && spent.epsilon > 0.9 * status.epsilon_budget
            && status.state != "finished"
    }) {
        checks.warn(
            "budget",
            format!("ε = {} of {} is spent", epsilon(spent.epsilon), status.epsilon_budget),
            "clients refuse the attempt that would pass it: stop the job there, or have a new plan signed",
        );
    }
    if let Some(wasted) = status.wasted.as_ref().filter(|wasted| wasted.epsilon > 0.0) {
        checks.warn(
            "wasted",
            format!("ε = {} was spent on attempts without a sum", epsilon(wasted.epsilon)),
            "`consilium rounds` shows which; `consilium round N` shows who was absent",
        );
    }
}

/// Who was missing from the last sum, and how many more may be.
fn survivors(status: &JobStatus, checks: &mut Checks) {
    let Some(last) = status.recent.iter().rfind(|round| round.outcome == "released") else { return };
    let (survivors, minimum) = (last.survivors.len(), status.min_survivors as usize);
    let found = format!("{survivors} in the sum of round {}, {minimum} needed", last.round);
    if survivors > minimum || last.absent.is_empty() {
        return checks.ok("survivors", found);
    }
    let absent: Vec<_> = last
        .absent
        .iter()
        .map(|it| match clean(&it.code) {
            code if code.is_empty() => format!("{} from step {} on", clean(&it.id), clean(&it.step)),
            code => format!("{} ({code})", clean(&it.id)),
        })
        .collect();
    checks.warn(
        "survivors",
        format!("{found}; one less and it would have failed; absent: {}", absent.join(", ")),
        "`consilium members` says since when each is away; ask there",
    );
}

fn members(status: &JobStatus, checks: &mut Checks) {
    let away: Vec<_> = status.members.iter().filter(|it| !it.online).map(|it| clean(&it.id)).collect();
    let online = status.members.len() - away.len();
    let enough = online >= status.min_survivors as usize;
    if away.is_empty() || status.state == "finished" {
        checks.ok("members", format!("{online} of {} online", status.members.len()));
    } else {
        let found = format!(
            "{online} of {} online, {} needed; away: {}",
            status.members.len(),
            status.min_survivors,
            away.join(", ")
        );
        let mend = "ask there: is the client running, and does `consilium-client check` pass?";
        if enough { checks.warn("members", found, mend) } else { checks.wrong("members", found, mend) }
    }
    for member in &status.members {
        let id = clean(&member.id);
        if member.disconnects_hour > ENDS {
            checks.warn(
                "members",
                format!("{id}'s session ended {} times in the last hour", member.disconnects_hour),
                "look at the line and the firewalls between; those that forget idle connections do this",
            );
        }
        if !member.refusal.is_empty() {
            let code = clean(&member.refusal);
            checks.warn("members", format!("{id} takes no part: {code}"), words::absence(&code));
        }
    }
}

fn machine(health: &Health, checks: &mut Checks) {
    match (health.disk_free_bytes, health.disk_full_seconds) {
        (Some(free), Some(seconds)) if seconds < 86_400.0 => checks.wrong(
            "disk",
            format!("{} free at the coordinator, full in {} at this pace", bytes(free), span(seconds)),
            "free space on the state's disk, or `consilium job pause` before it is full",
        ),
        (Some(free), _) => checks.ok("disk", format!("{} free at the coordinator", bytes(free))),
        (None, _) => {
            checks.warn("disk", "the coordinator does not know how much is free", "look at its log");
        }
    }
    match (health.chain_holds, health.chain_checked_seconds) {
        (Some(true), Some(ago)) => checks.ok("record", format!("its chain held {} ago", span(ago))),
        (Some(true), None) => checks.ok("record", "its chain held"),
        (Some(false), _) => checks.wrong(
            "record",
            "the chain of the coordinator's record does not hold: its store was altered or damaged",
            "stop the coordinator, keep its folder, and restore the newest backup",
        ),
        (None, _) => checks.warn("record", "its chain was not walked yet", "wait a minute"),
    }
    match health.backup_seconds {
        Some(ago) if ago <= BACKUP_S => checks.ok("backup", format!("the newest is {} old", span(ago))),
        Some(ago) => checks.warn(
            "backup",
            format!("the newest is {} old", span(ago)),
            "`consilium-coordinator backup create` each night, to another disk",
        ),
        None => checks.warn(
            "backup",
            "none was ever made",
            "`consilium-coordinator backup create` each night, to another disk",
        ),
    }
}
