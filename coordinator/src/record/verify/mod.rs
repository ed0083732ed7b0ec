//! Checks a record without asking anybody: from the roster's pinned fingerprint to the final adapter.
//!
//! In this order, and the first thing that does not hold is named: every byte against the signed contents; roster and plan; the
//! log's chain; each release, its head, what its members signed, its masked inputs where they are kept, its sum, and the
//! adapter that follows; the manifest and the bill of materials, computed again; an adapter that was handed on, tensor by
//! tensor.
//!
//! What members signed in a round is signed in a context that holds the digests of roster, plan, adapter and optimizer: so a
//! round's evidence also vouches for every sum before it. For the last sum there are only the coordinator's word and, where
//! they are kept, the masked inputs; the report says which.

mod masked;
mod walk;

use std::{fmt, io::Read as _, path::Path};

use consilium_crypto::{digest::Digest, release::AdapterState};
use consilium_proto::{
    log::LogHead,
    plan::{Guarantees, MAX_START_BYTES, Plan, VerifiedPlan},
    provenance::{BILL, Facts, MANIFEST},
    roster::VerifiedRoster,
    signed::{MAX_DOCUMENT_BYTES, Signatures},
};

use super::{
    PLAN, ROSTER, START, adapter,
    contents::{self, CONTENTS, Contents, SIGNATURE, measure},
};
use crate::chain;
pub(super) use walk::Walked;

/// The first thing that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// A file, or a place in one.
    pub what: String,
    /// Why it does not.
    pub why: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

impl std::error::Error for Broken {}

pub(super) fn broken(what: impl fmt::Display, why: impl fmt::Display) -> Broken {
    Broken { what: what.to_string(), why: why.to_string() }
}

/// A file of at most so many bytes.
pub(super) fn read(folder: &Path, path: &str, most: u64) -> Result<Vec<u8>, Broken> {
    let file = std::fs::File::open(folder.join(path)).map_err(|e| broken(path, e))?;
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| broken(path, e))?;
    if bytes.len() as u64 > most {
        return Err(broken(path, format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

pub(super) fn text(folder: &Path, path: &str) -> Result<String, Broken> {
    let bytes = read(folder, path, MAX_DOCUMENT_BYTES as u64)?;
    String::from_utf8(bytes).map_err(|_| broken(path, "it is not UTF-8 text"))
}

/// One release, as the record shows it.
#[derive(Clone, Debug)]
pub struct ReleaseLine {
    /// Round.
    pub round: u32,
    /// Attempt.
    pub attempt: u32,
    /// Organizations in the sum.
    pub survivors: Vec<String>,
    /// Digest of the adapter after it, recomputed.
    pub adapter: Digest,
    /// Whether its sum was recomputed from the masked inputs.
    pub from_inputs: bool,
}

/// What a record shows, all of it recomputed.
#[derive(Debug)]
pub struct Report {
    /// The job's name.
    pub job: String,
    /// Version of the roster, and its fingerprint.
    pub roster: (u32, Digest),
    /// The plan's.
    pub plan: Digest,
    /// Files whose digests hold.
    pub files: usize,
    /// The log's length and head.
    pub log: LogHead,
    /// Releases, in order.
    pub releases: Vec<ReleaseLine>,
    /// Attempts that ended without a sum.
    pub failures: u32,
    /// Acts of operators.
    pub acts: u32,
    /// Attempts debited.
    pub debited: u64,
    /// What they cost, recomputed.
    pub spent: Guarantees,
    /// The adapter after the last release, and the optimizer's state.
    pub adapter: (Digest, Digest),
    /// Whose handed-on adapter was checked, and after which round it stands.
    pub result: Option<(String, u32)>,
    /// What could not be recomputed, and why.
    pub not_recomputed: Vec<String>,
}

/// Checks a record, and an adapter that was handed on, if one is given.
///
/// # Errors
///
/// [`Broken`]: the first thing that does not hold.
pub fn verify(folder: &Path, pin: &Digest, result: Option<&Path>) -> Result<Report, Broken> {
    let (contents, signature) = listed(folder)?;
    let (roster, plan) = documents(folder, pin)?;
    contents.verify(&signature, &roster, &plan).map_err(|why| broken(SIGNATURE, why))?;
    let walked = walk::walk(folder, &contents, &roster, &plan, result.is_some())?;
    let spent = spent(&plan, walked.debited)?;
    walked.check_epsilon(&plan)?;
    let facts = walked.facts(&roster, &plan, spent);
    for (path, expected) in [(MANIFEST, facts.manifest()), (BILL, facts.bill())] {
        let found: serde_json::Value = serde_json::from_str(&text(folder, path)?)
            .map_err(|e| broken(path, format!("it does not parse: {e}")))?;
        if found != expected {
            return Err(broken(path, "it does not say what the log and the sums show"));
        }
    }
    let result = result
        .map(|result| adapter::check(result, &roster, &plan, |round| walked.state_after(round)))
        .transpose()?;
    let not_recomputed = walked.not_recomputed(&plan);
    let last: &AdapterState = &walked.state;
    Ok(Report {
        job: plan.document().job.to_string(),
        roster: (roster.version(), roster.digest()),
        plan: plan.digest(),
        files: contents.len(),
        log: walked.log,
        failures: walked.failures,
        acts: walked.acts,
        debited: walked.debited,
        spent,
        adapter: (last.adapter_digest(), last.optimizer_digest()),
        result: result.map(|handed| (handed.organization.to_string(), handed.round)),
        not_recomputed,
        releases: walked.releases,
    })
}

/// What so many attempts cost.
pub(super) fn spent(plan: &VerifiedPlan, debited: u64) -> Result<Guarantees, Broken> {
    let delta = plan.document().privacy.delta;
    plan.derived()
        .guarantees(debited, delta)
        .map_err(|e| broken("the log", format!("ε of {debited} attempts: {e}")))
}

/// The contents and their signature; every listed file is there, byte for byte, and no other.
fn listed(folder: &Path) -> Result<(Contents, String), Broken> {
    let bytes = read(folder, CONTENTS, contents::MAX_BYTES)?;
    let list = String::from_utf8(bytes).map_err(|_| broken(CONTENTS, "it is not UTF-8 text"))?;
    let contents = Contents::parse(&list).map_err(|why| broken(CONTENTS, why))?;
    for path in contents::walk(folder).map_err(|e| broken("the folder", e))? {
        if contents.get(&path).is_none() && ![CONTENTS, SIGNATURE].contains(&path.as_str()) {
            return Err(broken(path, "the contents do not list it"));
        }
    }
    for path in contents.paths() {
        let found = measure(&folder.join(path)).map_err(|e| broken(path, e))?;
        if Some(&found) != contents.get(path) {
            return Err(broken(path, "its bytes are not the ones that the contents list"));
        }
    }
    Ok((contents, text(folder, SIGNATURE)?))
}

/// Roster and plan, verified from the pin on.
pub(super) fn documents(folder: &Path, pin: &Digest) -> Result<(VerifiedRoster, VerifiedPlan), Broken> {
    let roster = chain::open(&folder.join(ROSTER), pin).map_err(|e| broken(ROSTER, e))?;
    let beside = format!("{PLAN}.sig");
    let signatures = Signatures::parse(&text(folder, &beside)?).map_err(|e| broken(&beside, e))?;
    let plan = Plan::verify(&text(folder, PLAN)?, &signatures, &roster).map_err(|e| broken(PLAN, e))?;
    let start = match plan.document().adapter.start {
        Some(_) => Some(read(folder, START, MAX_START_BYTES)?),
        None => None,
    };
    let plan = plan.begin_from(start.as_deref()).map_err(|e| broken(START, e))?;
    Ok((roster, plan))
}

impl Walked {
    /// What a manifest says.
    pub(super) fn facts<'a>(
        &self,
        roster: &'a VerifiedRoster,
        plan: &'a VerifiedPlan,
        spent: Guarantees,
    ) -> Facts<'a> {
        let releases = u32::try_from(self.releases.len()).unwrap_or(u32::MAX);
        let sums = |id: &consilium_proto::ids::Id| self.in_sums.get(id).copied().unwrap_or(0);
        Facts {
            roster,
            plan,
            round: self.releases.last().map_or(0, |release| release.round),
            releases,
            attempts: self.debited,
            spent,
            view: "the coordinator's log".into(),
            adapter: self.state.adapter_digest(),
            optimizer: self.state.optimizer_digest(),
            organizations: plan.cohort().iter().map(|id| (id.clone(), Some(sums(id)))).collect(),
            software: self.software.iter().cloned().collect(),
            log: Some((self.log.sequence, self.log.digest)),
        }
    }
}

/// The walk alone, for whoever writes a record.
pub(super) fn walk_through(
    folder: &Path,
    contents: &Contents,
    roster: &VerifiedRoster,
    plan: &VerifiedPlan,
) -> Result<Walked, Broken> {
    walk::walk(folder, contents, roster, plan, false)
}
