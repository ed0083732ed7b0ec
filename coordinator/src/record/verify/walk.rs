//! The log from its first entry to its last, and with it every release.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use consilium_crypto::{digest::Digest, release::AdapterState, secagg::Revealed};
use consilium_proto::{
    action::Action,
    announcement::Announcement,
    ids::Id,
    log::{Entry, LogHead, Released, What},
    plan::VerifiedPlan,
    release::{VerifiedHead, initial_state},
    roster::VerifiedRoster,
    wire::{AuditedAct, SignedAction, SignedAnnouncement, SignedReleaseHead},
};
use prost::Message as _;

use super::{
    super::{LOG, frames, head_path, rounds, sum_path},
    Broken, ReleaseLine, broken, masked, read, spent,
};
use crate::{record::Contents, round::code::RESTORED};

/// Longest log and head that are read, bytes.
const MAX_LOG_BYTES: u64 = 4 << 30;
const MAX_HEAD_BYTES: u64 = 64 << 20;

/// What the log and the releases come to.
pub(in crate::record) struct Walked {
    pub(in crate::record) state: AdapterState,
    pub(in crate::record) log: LogHead,
    pub(in crate::record) releases: Vec<ReleaseLine>,
    pub(in crate::record) failures: u32,
    pub(in crate::record) acts: u32,
    last_act: u64,
    pub(in crate::record) debited: u64,
    pub(in crate::record) in_sums: BTreeMap<Id, u32>,
    pub(in crate::record) software: BTreeSet<(String, String)>,
    /// Adapters after earlier rounds, if they are wanted.
    states: BTreeMap<u32, AdapterState>,
    /// Releases from before the log began.
    unlogged: Vec<u32>,
    /// What entries said about ε, by attempts.
    epsilons: BTreeMap<u64, (f64, f64)>,
    resumed: bool,
    last: (u32, u32),
    /// The last attempt failed because its coordinator was restored.
    given_up: bool,
}

struct Walk<'a> {
    folder: &'a Path,
    contents: &'a Contents,
    roster: &'a VerifiedRoster,
    plan: &'a VerifiedPlan,
    keep: bool,
    walked: Walked,
}

/// Walks through a record. `keep`: remember every adapter, not only the last.
pub(in crate::record) fn walk(
    folder: &Path,
    contents: &Contents,
    roster: &VerifiedRoster,
    plan: &VerifiedPlan,
    keep: bool,
) -> Result<Walked, Broken> {
    let state = initial_state(plan).map_err(|e| broken("the plan", e))?;
    let mut states = BTreeMap::new();
    if keep {
        states.insert(0, state.clone());
    }
    let walked = Walked {
        state,
        log: LogHead::empty(roster, plan),
        releases: Vec::new(),
        failures: 0,
        acts: 0,
        last_act: 0,
        debited: 0,
        in_sums: BTreeMap::new(),
        software: BTreeSet::new(),
        states,
        unlogged: Vec::new(),
        epsilons: BTreeMap::new(),
        resumed: false,
        last: (0, 0),
        given_up: false,
    };
    let mut walk = Walk { folder, contents, roster, plan, keep, walked };
    let entries = frames::read(&read(folder, LOG, MAX_LOG_BYTES)?).map_err(|why| broken(LOG, why))?;
    let mut heads = rounds(contents).into_iter().peekable();
    let mut logged = 0;
    for signed in &entries {
        let entry = walk.walked.log.follow(signed, roster, plan).map_err(|e| broken(LOG, e))?;
        if let What::Released(released) = &entry.what {
            while let Some(round) = heads.next_if(|round| *round < entry.round) {
                if logged > 0 {
                    return Err(broken(head_path(round), "the log has no entry of this release"));
                }
                walk.release(round, None)?;
                walk.walked.unlogged.push(round);
            }
            if heads.next_if_eq(&entry.round).is_none() {
                let why =
                    format!("entry {} of the log is of this release, and it is missing", entry.sequence);
                return Err(broken(head_path(entry.round), why));
            }
            logged += 1;
            walk.entry(&entry)?;
            walk.release(entry.round, Some((&entry, released)))?;
        } else {
            walk.entry(&entry)?;
        }
    }
    for round in heads {
        if logged > 0 {
            return Err(broken(head_path(round), "the log has no entry of this release"));
        }
        walk.release(round, None)?;
        walk.walked.unlogged.push(round);
    }
    Ok(walk.walked)
}

impl Walk<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<(), Broken> {
        let what = format!("entry {} of the log", entry.sequence);
        let bad = |why: String| Err(broken(&what, why));
        let before = self.walked.debited;
        let outcome = matches!(entry.what, What::Released(_) | What::Failed { .. });
        // A release that came back from a client, of the very attempt that its coordinator had given up when it was restored.
        let returned = matches!(&entry.what, What::Released(released) if released.announcement.is_none());
        let given_up = returned && self.walked.given_up && (entry.round, entry.attempt) == self.walked.last;
        if outcome && (entry.round, entry.attempt) <= self.walked.last && !given_up {
            let (round, attempt) = self.walked.last;
            return bad(format!(
                "it is about round {} attempt {}, after one about round {round} attempt {attempt}",
                entry.round, entry.attempt
            ));
        }
        let first = before == 0 && !self.walked.unlogged.is_empty();
        let steps = entry.debited.checked_sub(before);
        let fits = match (&entry.what, steps) {
            // What was lost is counted in full; what came before the log, too.
            (What::Resumed(_), Some(_)) => true,
            (What::Released(_), Some(_)) if returned => true,
            (What::Released(_), Some(steps)) => steps == 1 || first,
            (What::Failed { .. }, Some(steps)) => steps <= 1 || first,
            (What::Act(_), Some(steps)) => steps <= 1 || first,
            (_, None) => false,
        };
        // An act while an attempt is running sees its debit before its end is logged.
        let early = matches!(entry.what, What::Released(_)) && steps == Some(0) && self.walked.acts > 0;
        if !fits && !early {
            return bad(format!("it counts {} debited attempts, after {before}", entry.debited));
        }
        self.walked.debited = entry.debited;
        if outcome {
            self.walked.last = (entry.round, entry.attempt);
            self.walked.given_up = matches!(&entry.what, What::Failed { code, .. } if code == RESTORED);
        }
        self.walked.epsilons.extend(entry.epsilon.map(|epsilon| (entry.debited, epsilon)));
        self.walked.software.extend(named(&entry.software));
        match &entry.what {
            What::Released(released) => {
                self.walked.resumed |= returned;
                self.announced(&what, entry, released.announcement.as_ref())
            }
            What::Failed { announcement, .. } => {
                self.walked.failures += 1;
                self.announced(&what, entry, announcement.as_ref())
            }
            What::Act(act) => self.acted(&what, act),
            What::Resumed(_) => {
                self.walked.resumed = true;
                Ok(())
            }
        }
    }

    /// An act is one of the roster's operators' own, by their signature, and none is told twice.
    fn acted(&mut self, what: &str, act: &AuditedAct) -> Result<(), Broken> {
        let signed = SignedAction { action: act.act.clone(), signature: act.signature.clone() };
        let action =
            Action::verify(&signed, self.roster, &self.plan.digest()).map_err(|e| broken(what, e))?;
        if action.operator.as_str() != act.by {
            return Err(broken(what, format!("it names {}, and {} signed it", act.by, action.operator)));
        }
        // What a restored coordinator had forgotten is asked for once more, under the same number.
        if action.number <= self.walked.last_act && !self.walked.resumed {
            return Err(broken(
                what,
                format!("it is act number {}, after number {}", action.number, self.walked.last_act),
            ));
        }
        self.walked.last_act = action.number;
        self.walked.acts += 1;
        Ok(())
    }

    /// An attempt's invitation is the coordinator's, of this attempt, and from the adapter that the sums give.
    fn announced(
        &self,
        what: &str,
        entry: &Entry,
        signed: Option<&SignedAnnouncement>,
    ) -> Result<(), Broken> {
        let Some(signed) = signed else { return Ok(()) };
        let told = Announcement::verify(signed, self.roster, self.plan).map_err(|e| broken(what, e))?;
        if (told.round, told.attempt) != (entry.round, entry.attempt) {
            return Err(broken(what, "its announcement is of another attempt"));
        }
        let state = &self.walked.state;
        if told.adapter != state.adapter_digest() || told.optimizer != state.optimizer_digest() {
            return Err(broken(
                what,
                "its attempt was announced from an adapter that the sums before do not give",
            ));
        }
        Ok(())
    }

    fn release(&mut self, round: u32, logged: Option<(&Entry, &Released)>) -> Result<(), Broken> {
        let (path, (roster, plan)) = (head_path(round), (self.roster, self.plan));
        let bytes = read(self.folder, &path, MAX_HEAD_BYTES)?;
        let signed = SignedReleaseHead::decode(bytes.as_slice()).map_err(|e| broken(&path, e))?;
        let head = VerifiedHead::verify(&signed, roster, plan).map_err(|e| broken(&path, e))?;
        if head.round != round {
            return Err(broken(&path, format!("it is the head of round {}", head.round)));
        }
        if let Some((entry, released)) = logged {
            let same = released.head == Digest::of(&signed.head)
                && released.evidence == Digest::of(&head.evidence)
                && (released.sum, released.before) == (head.sum, head.before)
                && (released.after, released.optimizer_after) == (head.after, head.optimizer_after)
                && entry.attempt == head.attempt;
            if !same {
                return Err(broken(&path, format!("entry {} of the log is of another head", entry.sequence)));
            }
            self.walked.software.extend(released.versions.iter().filter_map(|line| {
                let (_, version) = line.split_once(' ')?;
                Some(("consilium-client".to_owned(), version.to_owned()))
            }));
        }
        // The context of what members signed follows from what was recomputed so far, not from what anybody says.
        let facts = Announcement {
            round,
            attempt: head.attempt,
            cohort: plan.whole_cohort(),
            adapter: self.walked.state.adapter_digest(),
            optimizer: self.walked.state.optimizer_digest(),
        };
        let facts = facts.facts_as_announced(roster, plan).map_err(|e| broken(&path, e))?;
        let revealed = Revealed::from_record(Arc::new(facts), &head.evidence)
            .map_err(|e| broken(format!("{path}, what its members signed"), e))?;
        let survivors: Vec<Id> = revealed
            .survivors()
            .iter()
            .filter_map(|position| plan.cohort().get(usize::from(position.0)).cloned())
            .collect();
        if *survivors != *head.survivors {
            return Err(broken(&path, "it names other survivors than its members voted for"));
        }
        let path = sum_path(round);
        let sum = read(self.folder, &path, head.sum_bytes as u64)?;
        if Digest::of(&sum) != head.sum {
            return Err(broken(&path, "its digest is not the one that the head names"));
        }
        let from_inputs = masked::missing(self.contents, round, head.attempt, &survivors) == 0;
        if from_inputs {
            masked::check(self.folder, plan, &revealed, (round, head.attempt), &survivors, &sum)?;
        }
        head.replay(plan, &mut self.walked.state, &sum).map_err(|e| broken(&path, e))?;
        survivors.iter().for_each(|id| *self.walked.in_sums.entry(id.clone()).or_default() += 1);
        let adapter = self.walked.state.adapter_digest();
        let survivors = survivors.iter().map(Id::to_string).collect();
        let attempt = head.attempt;
        self.walked.releases.push(ReleaseLine { round, attempt, survivors, adapter, from_inputs });
        if self.keep {
            self.walked.states.insert(round, self.walked.state.clone());
        }
        Ok(())
    }
}

/// "name version" as two.
fn named(software: &str) -> Option<(String, String)> {
    software.rsplit_once(' ').map(|(name, version)| (name.to_owned(), version.to_owned()))
}

impl Walked {
    pub(super) fn state_after(&self, round: u32) -> Option<&AdapterState> {
        self.states.get(&round)
    }

    /// The last ε that the log states is what its number of attempts costs.
    pub(super) fn check_epsilon(&self, plan: &VerifiedPlan) -> Result<(), Broken> {
        let Some((attempts, (central, local))) = self.epsilons.last_key_value() else { return Ok(()) };
        let own = spent(plan, *attempts)?;
        if (own.central.to_bits(), own.local.to_bits()) == (central.to_bits(), local.to_bits()) {
            return Ok(());
        }
        let why = format!("{attempts} attempts cost ε = {}, and an entry says {central}", own.central);
        Err(broken("the log", why))
    }

    /// What this record does not let anybody compute again.
    pub(super) fn not_recomputed(&self, plan: &VerifiedPlan) -> Vec<String> {
        let mut all = Vec::new();
        let list = |rounds: &[u32]| ranges(rounds);
        let without: Vec<u32> =
            self.releases.iter().filter(|it| !it.from_inputs).map(|it| it.round).collect();
        if !without.is_empty() {
            all.push(format!("the sums of rounds {} from masked inputs: they are not kept", list(&without)));
        }
        if let Some(last) = self.releases.last().filter(|it| !it.from_inputs) {
            all.push(format!(
                "whether the sum of round {} is its members': no later round vouches for it, only the coordinator's signature does",
                last.round
            ));
        }
        if !self.unlogged.is_empty() {
            all.push(format!(
                "when rounds {} were released: they are from before the log",
                list(&self.unlogged)
            ));
        }
        if self.resumed {
            all.push(
                "entries that a coordinator had written before it lost them: the log says where it went on"
                    .into(),
            );
        }
        let logged = self.epsilons.last_key_value().map(|(attempts, _)| *attempts);
        if logged != Some(self.debited) && plan.derived().mechanisms.is_some() && self.debited > 0 {
            all.push("ε of the last entries against the coordinator's own figure: it had none yet; here it is computed anew".into());
        }
        all.push("what the organizations trained on: nobody but they can".into());
        all
    }
}

/// "1-3, 7" of ascending numbers.
fn ranges(numbers: &[u32]) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &number in numbers {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == number => *end = number,
            _ => runs.push((number, number)),
        }
    }
    let words = runs.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") });
    words.collect::<Vec<_>>().join(", ")
}
