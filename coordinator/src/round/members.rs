//! What the coordinator knows of each member: whether it is there, and nothing about its data.

use std::collections::BTreeMap;

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
    /// Convicted, and not needed: it counts as absent.
    pub(crate) excluded: bool,
    pub(crate) software: String,
    /// Version of the wire contract that it speaks; 0: it never came.
    pub(crate) protocol: u32,
}

/// All members, by id.
#[derive(Debug)]
pub(crate) struct Members {
    all: BTreeMap<Id, Member>,
    /// How long a closed connection is waited for, and how long in the middle of an upload.
    grace_ms: (u64, u64),
}

impl Members {
    pub(crate) fn new(cohort: &[Id], grace_ms: (u64, u64), now_ms: u64) -> Self {
        let away = Member { away_since_ms: now_ms, ..Member::default() };
        Self { all: cohort.iter().map(|id| (id.clone(), away.clone())).collect(), grace_ms }
    }

    pub(crate) fn came(&mut self, id: &Id, software: String, protocol: u32) {
        if let Some(member) = self.all.get_mut(id) {
            member.online = true;
            member.software = software;
            member.protocol = protocol;
        }
    }

    pub(crate) fn left(&mut self, id: &Id, now_ms: u64) {
        if let Some(member) = self.all.get_mut(id) {
            member.online = false;
            member.away_since_ms = now_ms;
        }
    }

    pub(crate) fn refused(&mut self, id: &Id, code: String) {
        if let Some(member) = self.all.get_mut(id) {
            member.refusal = Some(code);
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

    /// Before an attempt: whoever is convicted counts as absent, if those who are left can be enough. `n` is the plan's and
    /// stays; so does everybody's place in the cohort.
    pub(crate) fn exclude_convicted(&mut self, minimum: usize) {
        let left = self.all.values().filter(|member| !member.convicted).count();
        for member in self.all.values_mut() {
            member.excluded = member.convicted && left >= minimum;
        }
    }

    pub(crate) fn is_excluded(&self, id: &Id) -> bool {
        self.all.get(id).is_some_and(|member| member.excluded)
    }

    pub(crate) fn forget_refusals(&mut self) {
        self.all.values_mut().for_each(|member| (member.refusal, member.fault) = (None, None));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Id, &Member)> {
        self.all.iter()
    }

    pub(crate) fn online(&self) -> usize {
        self.all.values().filter(|member| member.online && !member.excluded).count()
    }

    pub(crate) fn is_online(&self, id: &Id) -> bool {
        self.all.get(id).is_some_and(|member| member.online && !member.excluded)
    }

    pub(crate) fn has_refused(&self, id: &Id) -> bool {
        self.all.get(id).is_some_and(|member| member.refusal.is_some() || member.excluded)
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
                || member.excluded
                || (!member.online && now_ms >= member.away_since_ms + grace_ms)
        })
    }

    /// When the next member that is away, but not for long enough, will count as gone.
    pub(crate) fn next_grace_ms(&self, now_ms: u64) -> Option<u64> {
        let awaited = |m: &&Member| !m.online && m.refusal.is_none() && !m.excluded;
        let ends = |m: &Member| [m.away_since_ms + self.grace_ms.0, m.away_since_ms + self.grace_ms.1];
        self.all.values().filter(awaited).flat_map(ends).filter(|end| *end > now_ms).min()
    }
}
