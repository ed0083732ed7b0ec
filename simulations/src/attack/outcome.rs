//! What an attack came to, held against what only the simulation knows.

use std::collections::BTreeMap;

use consilium_client::{config::adapter_tensors_of, trainer::Trainer};
use consilium_crypto::{
    release::AdapterState,
    ring,
    secagg::{CHUNK_ELEMENTS, chunk_digest},
};
use serde::Serialize;

use super::{Attacking, Seen, VICTIM, inference, knowledge::Kind, lock};
use crate::{
    scenario::{Attack, Expect, Scenario, TaskKind, Verdict},
    task::{On, TaskError, convex},
    world::World,
};

/// An attack's end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Which attack.
    pub kind: &'static str,
    /// Whether it got what it was after.
    pub verdict: Verdict,
    /// What happened, in words.
    pub words: String,
    /// What was measured.
    pub figures: BTreeMap<&'static str, f64>,
}

/// From this cosine on, a patient's features count as recovered.
const RECOVERED: f64 = 0.9;
/// From this area under the curve on, members count as told from others.
const TOLD_APART: f64 = 0.75;
/// A loss of so much accuracy counts as damage.
const DAMAGE: f64 = 0.1;

struct Finding {
    succeeds: bool,
    words: String,
    figures: BTreeMap<&'static str, f64>,
}

impl Attacking {
    /// What came of it.
    ///
    /// # Errors
    ///
    /// [`TaskError`], when the task cannot be asked again.
    pub(crate) fn outcome(&self, world: &World) -> Result<Outcome, TaskError> {
        let finding = match &self.what {
            Attack::Lie { .. } | Attack::Equivocate { .. } | Attack::Isolate { .. } => self.unmasking(world),
            Attack::Replay { .. } => self.replaying(world),
            Attack::Garbage { .. } | Attack::BadShares { .. } => self.disturbing(world),
            Attack::Scaled { .. } | Attack::Flipped { .. } => poisoning(world)?,
            Attack::Inversion {} => inverting(world)?,
            Attack::Membership {} => telling(world)?,
        };
        // What was never done has neither come to something nor to nothing.
        let tried = ["attempts", "replayed"].iter().all(|what| finding.figures.get(what) != Some(&0.0));
        let verdict = match (finding.succeeds, tried) {
            (true, _) => Verdict::Succeeds,
            (false, true) => Verdict::Fails,
            (false, false) => Verdict::NeverTried,
        };
        let Finding { words, figures, .. } = finding;
        Ok(Outcome { kind: self.what.name(), verdict, words, figures })
    }

    /// Whether the coordinator has the victim's vector without its masks, in any attempt.
    fn unmasking(&self, world: &World) -> Finding {
        let (mut recovered, mut tried, mut most) = (0u32, 0u32, [0usize; 2]);
        let params = world.consortium().plan.derived();
        if let Some(seen) = world.watch().seen() {
            for known in &lock(&self.mind).attempts {
                let Some(held) = known.held else { continue };
                let sent = seen
                    .sent
                    .iter()
                    .find(|(_, chunks)| chunks.get(&0).is_some_and(|it| chunk_digest(it) == held));
                let Some((at, _)) = sent else { continue };
                let Some(mut vector) = seen.vector(*at, params.ring, params.vector_len) else { continue };
                let position = u16::try_from(VICTIM).unwrap_or(0);
                known.knowledge.unmask(position, &mut vector);
                vector.iter_mut().for_each(|value| *value &= params.ring.mask());
                tried += 1;
                recovered += u32::from(seen.trained.get(at).is_some_and(|(_, truth)| *truth == vector));
                for (most, kind) in most.iter_mut().zip([Kind::Mask, Kind::Seed]) {
                    *most = (*most).max(known.knowledge.known(position, kind));
                }
            }
        }
        let needed = crate::scenario::quorum(world.scenario().organizations, world.scenario().colluders());
        let words = format!(
            "with {} colluders it held {} shares of the victim's masking key and {} of its self-mask, of {needed} that each \
             takes, and read the victim's vector in {recovered} of {tried} attempts",
            self.members.len(),
            most[0],
            most[1]
        );
        let figures = [
            ("attempts", f64::from(tried)),
            ("recovered", f64::from(recovered)),
            ("masking_key_shares", most[0] as f64),
            ("self_mask_shares", most[1] as f64),
            ("shares_needed", f64::from(needed)),
        ];
        Finding { succeeds: recovered > 0, words, figures: figures.into() }
    }

    /// Whether anybody did anything a second time.
    fn replaying(&self, world: &World) -> Finding {
        let twice = world.watch().violations();
        let words = match twice.first() {
            Some(violation) => format!("after {} messages were said again: {violation}", self.replayed),
            None => format!("{} messages were said again, and nobody answered a second time", self.replayed),
        };
        let figures = [("replayed", self.replayed as f64), ("second_words", twice.len() as f64)];
        Finding { succeeds: !twice.is_empty(), words, figures: figures.into() }
    }

    /// Whether rounds failed, or a sum has what does not belong there.
    fn disturbing(&self, world: &World) -> Finding {
        let attempts = world.coordinator().job().map(|job| job.rounds().rounds).unwrap_or_default();
        let released = attempts.iter().filter(|attempt| attempt.outcome == "released").count();
        let theirs: Vec<String> = self.members.values().map(|member| member.id.to_string()).collect();
        let named = attempts.iter().filter(|it| theirs.iter().any(|name| it.culprits.contains(name))).count();
        let honest =
            attempts.iter().flat_map(|it| &it.culprits).filter(|name| !theirs.contains(name)).count();
        let rounds = world.scenario().rounds as usize;
        let wrong = world.watch().violations().len();
        let words = format!(
            "{released} of {rounds} rounds were released, {wrong} sums were wrong, an attacker was convicted in {named} attempts \
             and an honest member in {honest}"
        );
        let figures = [
            ("released", released as f64),
            ("rounds", rounds as f64),
            ("wrong_sums", wrong as f64),
            ("convicted", named as f64),
            ("honest_convicted", honest as f64),
        ];
        Finding { succeeds: released < rounds || wrong > 0 || honest > 0, words, figures: figures.into() }
    }
}

impl Seen {
    /// The victim's vector as it left in an attempt, if all of it did.
    fn vector(&self, at: (u32, u32), width: ring::RingWidth, length: usize) -> Option<Vec<u32>> {
        let chunks = self.sent.get(&at)?;
        let mut vector = Vec::new();
        for (index, chunk) in chunks {
            let before = *index as usize * CHUNK_ELEMENTS;
            let count = length.checked_sub(before)?.min(CHUNK_ELEMENTS);
            let mut some = Vec::new();
            ring::unpack(width, chunk, count, &mut some).ok()?;
            vector.append(&mut some);
        }
        (vector.len() == length).then_some(vector)
    }
}

/// The same job without the attack, and how much better it ends.
fn poisoning(world: &World) -> Result<Finding, TaskError> {
    let scenario = Scenario { attack: None, expect: Expect::default(), ..world.scenario().clone() };
    let other = World::new(scenario, crate::log::Log::default());
    let mut honest = other.map_err(|refused| TaskError(refused.to_string()))?;
    honest.run(&mut |_| {}).map_err(|error| TaskError(error.to_string()))?;
    let (with, without) = (accuracy(world)?, accuracy(&honest)?);
    let lost = without - with;
    let words = format!(
        "accuracy {with:.3} with the attackers' updates, {without:.3} with honest ones: {lost:.3} lost"
    );
    let figures = [("accuracy", with), ("accuracy_without", without), ("lost", lost)];
    Ok(Finding { succeeds: lost >= DAMAGE, words, figures: figures.into() })
}

fn accuracy(world: &World) -> Result<f64, TaskError> {
    let Some(adapter) = world.adapter_of(0) else { return Ok(0.0) };
    let score = world.study().task.score(&adapter, On::Public)?;
    Ok(score.map_or(0.0, |score| score.accuracy))
}

/// Gradients of all of a trainer's patients at an adapter.
fn gradients(trainer: &mut dyn Trainer, adapter: &AdapterState) -> Result<Vec<Vec<f64>>, TaskError> {
    let all: Vec<usize> = (0..trainer.patients()).collect();
    let mut gradients = Vec::new();
    trainer.lot(&adapter_tensors_of(adapter), &all, &mut |patient| {
        gradients.push(patient.gradient.iter().map(|g| f64::from(*g)).collect());
    })?;
    Ok(gradients)
}

/// What the coordinator sees of one released round: the victim's vector as it came, and the sum.
struct Views<'a> {
    adapter: &'a AdapterState,
    upload: Vec<f64>,
    sum: Vec<f64>,
}

fn views(world: &World) -> Vec<Views<'_>> {
    let derived = world.consortium().plan.derived();
    let (bits, dimension) = (derived.ring.bits(), derived.manifest.dimension());
    let centred = |values: &[u32]| inference::centred(values, bits, dimension);
    let Some(seen) = world.watch().seen() else { return Vec::new() };
    let view = |(round, (attempt, sum)): (&u32, &(u32, Vec<u32>))| {
        let at = (*round, *attempt);
        let (adapter, _) = seen.trained.get(&at)?;
        let upload = seen.vector(at, derived.ring, derived.vector_len)?;
        Some(Views { adapter, upload: centred(&upload), sum: centred(sum) })
    };
    seen.sums.iter().filter_map(view).collect()
}

fn inverting(world: &World) -> Result<Finding, TaskError> {
    let TaskKind::Convex { dimension } = world.scenario().task else {
        return Err(TaskError("this attack is on the convex task".into()));
    };
    let shape = convex::shape(dimension);
    let mut best = [0f64; 2];
    for view in views(world) {
        let patients = gradients(world.study().task.trainer(VICTIM)?.as_mut(), view.adapter)?;
        for (best, view) in best.iter_mut().zip([&view.upload, &view.sum]) {
            *best = best.max(inference::invert(view, &patients, shape));
        }
    }
    let [upload, sum] = best;
    let words = format!(
        "the best guess of a patient's features has a cosine of {upload:.3} with them from what the victim sent, and {sum:.3} from \
         the sum; {RECOVERED} counts as recovered"
    );
    let figures = [("cosine_upload", upload), ("cosine_sum", sum)];
    Ok(Finding { succeeds: upload.max(sum) >= RECOVERED, words, figures: figures.into() })
}

fn telling(world: &World) -> Result<Finding, TaskError> {
    let outsiders = || world.study().task.outsiders().ok_or(TaskError("this task has no outsiders".into()));
    // What organizations send is a step down the gradient, or the gradient.
    let sign = if world.scenario().privacy.unit.sends_deltas() { -1.0 } else { 1.0 };
    let mut scores = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
    let rounds = views(world);
    for view in &rounds {
        let mut inside = world.study().task.trainer(VICTIM)?;
        let members = gradients(inside.as_mut(), view.adapter)?;
        let others = gradients(outsiders()?.as_mut(), view.adapter)?;
        for (scores, view) in scores.iter_mut().zip([&view.upload, &view.sum]) {
            for (total, candidates) in scores.iter_mut().zip([&members, &others]) {
                let of_round = inference::scores(view, candidates, sign);
                total.resize(of_round.len(), 0.0);
                total.iter_mut().zip(of_round).for_each(|(total, score)| *total += score);
            }
        }
    }
    let [upload, sum] = scores.map(|[members, others]| {
        (inference::auc(&members, &others), inference::advantage(&members, &others))
    });
    let words = format!(
        "over {} rounds a patient of the victim scores above a stranger with probability {:.3} by what the victim sent, and {:.3} by \
         the sums; 0.5 is a coin, {TOLD_APART} counts as told apart",
        rounds.len(),
        upload.0,
        sum.0
    );
    let figures = [
        ("auc_upload", upload.0),
        ("auc_sum", sum.0),
        ("advantage_upload", upload.1),
        ("advantage_sum", sum.1),
    ];
    Ok(Finding { succeeds: upload.0.max(sum.0) >= TOLD_APART, words, figures: figures.into() })
}
