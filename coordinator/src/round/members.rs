//! What the coordinator knows of each member: whether it is there, and nothing about its data.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use consilium_proto::ids::Id;

/// One member's presence.
#[derive(Clone, Debug, Default)]
pub(crate) struct Member {
    pub(crate) online: bool,
    /// Since when it is away, Unix milliseconds.
    pub(crate) away_since_ms: u64,
    /// The code with which it declined the current attempt.
    pub(crate) refusal: Option<String>,
    /// The check that its last refused message of the current attempt failed: for the operator's eyes, and no proof.
    pub(crate) fault: Option<&'static str>,
    /// Evidence convicts it.
    convicted: bool,
    /// Why it is left out of the current attempt, or of the next: it counts as absent then.
    pub(crate) left_out: Option<&'static str>,
    /// An operator suspended it.
    pub(crate) suspended: bool,
    /// Attempts that it let down, less those forgiven.
    pub(crate) absences: u32,
    /// Attempts since then in which it was there.
    there: u32,
    /// Last round that it sits out.
    out_until: u32,
    /// Last round whose attempts it is invited to all the same.
    pardoned: u32,
    pub(crate) software: String,
    /// Version of the wire contract that it speaks; 0: it never came.
    pub(crate) protocol: u32,
    /// When it last said anything, Unix milliseconds; 0: never.
    pub(crate) last_seen_ms: u64,
    /// How far its clock was ahead when it greeted.
    pub(crate) skew_ms: Option<i64>,
    /// Sessions that ended, and when the last ones did.
    pub(crate) disconnects: u32,
    ended_ms: VecDeque<u64>,
}

impl Member {
    /// Sessions that ended in the last hour, as far as they are kept.
    pub(crate) fn disconnects_hour(&self, now_ms: u64) -> u32 {
        let recent = self.ended_ms.iter().filter(|at| **at + HOUR_MS > now_ms).count();
        u32::try_from(recent).unwrap_or(u32::MAX)
    }

    /// Rounds from `round` on that it still sits out.
    pub(crate) fn sits_out(&self, round: u32) -> u32 {
        (self.out_until + 1).saturating_sub(round)
    }

    fn sits_out_now(&self, round: u32) -> bool {
        self.sits_out(round) > 0 && self.pardoned < round
    }
}

/// Why a member is left out.
const SUSPENDED: &str = "suspended";
const EXCLUDED: &str = "excluded";
const SITS_OUT: &str = "sits-out";
const HOUR_MS: u64 = 3_600_000;
/// Ends of sessions that are kept for each member.
const ENDS_KEPT: usize = 64;
/// Absences that cost nothing yet; at the next a member sits one round out, then two, four, …
const FREE_ABSENCES: u32 = 1;
/// Most rounds that a member sits out for one absence.
const LONGEST_OUT: u32 = 32;
/// Attempts in a row after which one absence is forgiven.
const FORGIVEN_AFTER: u32 = 10;

/// All members, by id.
#[derive(Debug)]
pub(crate) struct Members {
    all: BTreeMap<Id, Member>,
    /// Who is not online. With thousands of members, whoever is not waited for must not be looked for at every message.
    away: BTreeSet<Id>,
    /// Who declined the current attempt, or is left out of it.
    unwilling: BTreeSet<Id>,
    /// How long a closed connection is waited for, and how long in the middle of an upload.
    grace_ms: (u64, u64),
}

impl Members {
    pub(crate) fn new(cohort: &[Id], grace_ms: (u64, u64), now_ms: u64) -> Self {
        let away = Member { away_since_ms: now_ms, ..Member::default() };
        Self {
            all: cohort.iter().map(|id| (id.clone(), away.clone())).collect(),
            away: cohort.iter().cloned().collect(),
            unwilling: BTreeSet::new(),
            grace_ms,
        }
    }

    pub(crate) fn came(&mut self, id: &Id, software: String, protocol: u32, skew_ms: Option<i64>) {
        if let Some(member) = self.all.get_mut(id) {
            member.online = true;
            self.away.remove(id);
            member.software = software;
            member.protocol = protocol;
            member.skew_ms = skew_ms;
        }
    }

    pub(crate) fn left(&mut self, id: &Id, now_ms: u64) {
        if let Some(member) = self.all.get_mut(id) {
            if member.online {
                member.disconnects += 1;
                member.ended_ms.push_back(now_ms);
                if member.ended_ms.len() > ENDS_KEPT {
                    member.ended_ms.pop_front();
                }
            }
            member.online = false;
            member.away_since_ms = now_ms;
            self.away.insert(id.clone());
        }
    }

    pub(crate) fn seen(&mut self, id: &Id, now_ms: u64) {
        if let Some(member) = self.all.get_mut(id) {
            member.last_seen_ms = now_ms;
        }
    }

    /// Notes a refusal; whether it is the first in this attempt.
    pub(crate) fn refused(&mut self, id: &Id, code: String) -> bool {
        let Some(member) = self.all.get_mut(id).filter(|member| member.refusal.is_none()) else {
            return false;
        };
        member.refusal = Some(code);
        self.unwilling.insert(id.clone());
        true
    }

    pub(crate) fn suspend(&mut self, id: &Id, suspended: bool) {
        if let Some(member) = self.all.get_mut(id) {
            member.suspended = suspended;
        }
    }

    /// Whether a member is suspended; none if there is no such member.
    pub(crate) fn is_suspended(&self, id: &Id) -> Option<bool> {
        self.all.get(id).map(|member| member.suspended)
    }

    /// Members that may be invited: neither suspended nor convicted.
    pub(crate) fn eligible(&self) -> impl Iterator<Item = &Id> {
        self.all.iter().filter(|(_, member)| !member.suspended && !member.convicted).map(|(id, _)| id)
    }

    /// A member was absent from an attempt of `round` after it had dealt its shares.
    pub(crate) fn let_down(&mut self, id: &Id, round: u32) {
        let Some(member) = self.all.get_mut(id).filter(|member| member.left_out.is_none()) else { return };
        member.absences += 1;
        member.there = 0;
        if let Some(doubled) = member.absences.checked_sub(FREE_ABSENCES + 1) {
            let rounds = 1u32.checked_shl(doubled).map_or(LONGEST_OUT, |rounds| rounds.min(LONGEST_OUT));
            member.out_until = round.saturating_add(rounds);
        }
    }

    /// A member was there to the end of an attempt.
    pub(crate) fn was_there(&mut self, id: &Id) {
        let Some(member) = self.all.get_mut(id) else { return };
        member.there += 1;
        if member.there.is_multiple_of(FORGIVEN_AFTER) {
            member.absences = member.absences.saturating_sub(1);
        }
    }

    /// Nobody sits this round out.
    pub(crate) fn pardon(&mut self, round: u32) {
        self.all.values_mut().for_each(|member| member.pardoned = round);
    }

    /// Why a member was not in an attempt, as far as anybody said.
    pub(crate) fn why_absent(&self, id: &Id) -> String {
        let Some(member) = self.all.get(id) else { return String::new() };
        match member.left_out {
            Some(why) => why.into(),
            None => member.refusal.clone().unwrap_or_default(),
        }
    }

    pub(crate) fn misbehaved(&mut self, id: &Id, check: &'static str) {
        if let Some(member) = self.all.get_mut(id) {
            member.fault = Some(check);
        }
    }

    pub(crate) fn convicted(&mut self, id: &Id) {
        if let Some(member) = self.all.get_mut(id) {
            member.convicted = true;
        }
    }

    /// Before an attempt of `round`: whoever is suspended, convicted or sits out counts as absent. Those who are left are
    /// always enough, or the convicted and those who sit out are invited after all; suspending too many is refused where it
    /// is asked for. While attempts are `failing`, nobody sits out: who is left then may not be enough. `n` is the plan's and stays; so does everybody's place in the cohort.
    pub(crate) fn leave_out(&mut self, minimum: usize, round: u32, failing: bool) {
        for member in self.all.values_mut() {
            member.left_out = member.suspended.then_some(SUSPENDED);
        }
        let mut left = self.eligible().count();
        if left >= minimum {
            for member in self.all.values_mut().filter(|member| member.convicted) {
                member.left_out = member.left_out.or(Some(EXCLUDED));
            }
        } else {
            left = self.all.values().filter(|member| member.left_out.is_none()).count();
        }
        let sitting =
            |member: &&mut Member| !failing && member.left_out.is_none() && member.sits_out_now(round);
        let mut out: Vec<_> = self.all.values_mut().filter(sitting).collect();
        out.sort_by_key(|member| std::cmp::Reverse(member.absences));
        for member in out {
            if left > minimum {
                member.left_out = Some(SITS_OUT);
                left -= 1;
            }
        }
        self.count_unwilling();
    }

    fn count_unwilling(&mut self) {
        let unwilling = |(_, member): &(&Id, &Member)| member.refusal.is_some() || member.left_out.is_some();
        self.unwilling = self.all.iter().filter(unwilling).map(|(id, _)| id.clone()).collect();
    }

    /// Members that would be online if nobody sat out.
    pub(crate) fn online_if_pardoned(&self) -> usize {
        let there = |member: &&Member| member.online && member.left_out.is_none_or(|why| why == SITS_OUT);
        self.all.values().filter(there).count()
    }

    pub(crate) fn is_excluded(&self, id: &Id) -> bool {
        self.all.get(id).is_some_and(|member| member.left_out.is_some())
    }

    pub(crate) fn forget_refusals(&mut self) {
        self.all.values_mut().for_each(|member| (member.refusal, member.fault) = (None, None));
        self.count_unwilling();
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Id, &Member)> {
        self.all.iter()
    }

    pub(crate) fn online(&self) -> usize {
        self.all.values().filter(|member| member.online && member.left_out.is_none()).count()
    }

    pub(crate) fn is_online(&self, id: &Id) -> bool {
        self.all.get(id).is_some_and(|member| member.online && member.left_out.is_none())
    }

    /// Who will not speak in the current attempt: declined, or left out.
    pub(crate) fn unwilling(&self) -> impl Iterator<Item = &Id> {
        self.unwilling.iter()
    }

    /// How many members there are at most from whom nothing may come: everybody else is there.
    pub(crate) fn perhaps_gone(&self) -> usize {
        self.away.len() + self.unwilling.len()
    }

    /// Nothing will come from it soon: it declined, it is excluded, or its connection has been closed for longer than the grace.
    pub(crate) fn is_gone(&self, id: &Id, now_ms: u64) -> bool {
        self.is_gone_after(id, self.grace_ms.0, now_ms)
    }

    /// The same of a member whose masked input has begun to arrive, which is waited for longer.
    pub(crate) fn is_gone_uploading(&self, id: &Id, now_ms: u64) -> bool {
        self.is_gone_after(id, self.grace_ms.1, now_ms)
    }

    fn is_gone_after(&self, id: &Id, grace_ms: u64, now_ms: u64) -> bool {
        self.all.get(id).is_none_or(|member| {
            member.refusal.is_some()
                || member.left_out.is_some()
                || (!member.online && now_ms >= member.away_since_ms + grace_ms)
        })
    }

    /// When the next member that is away, but not for long enough, will count as gone.
    pub(crate) fn next_grace_ms(&self, now_ms: u64) -> Option<u64> {
        if self.away.is_empty() {
            return None;
        }
        let awaited = |m: &&Member| !m.online && m.refusal.is_none() && m.left_out.is_none();
        let ends = |m: &Member| [m.away_since_ms + self.grace_ms.0, m.away_since_ms + self.grace_ms.1];
        self.all.values().filter(awaited).flat_map(ends).filter(|end| *end > now_ms).min()
    }
}
