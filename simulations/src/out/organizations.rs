//! One line for each organization: what it has, and what it gets out of the federation.

use consilium_crypto::release::AdapterState;
use consilium_proto::{ids::Id, release::initial_state};
use serde::Serialize;

use crate::{
    at_home::at_first,
    scores::Score,
    task::{On, TaskError},
    world::World,
};

/// What an organization has and gets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its id.
    pub name: Id,
    /// Its profile, if it has one.
    pub profile: Option<String>,
    /// Records that it trains on.
    pub examples: usize,
    /// Records that it kept for its own test.
    pub test_examples: usize,
    /// Training records by label, in the order of the task's labels.
    pub label_counts: Vec<usize>,
    /// Attempts that its ledger was debited for: those that it took part in as far as its masked update.
    pub debits: usize,
    /// The three adapters on its own test; null unless `evaluation.organizations` is true.
    #[serde(flatten)]
    pub scores: Scores,
}

/// On an organization's own test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Scores {
    /// Trained on its own records alone, without noise.
    pub alone: Option<Score>,
    /// The federation's adapter, completed by this organization's own head where heads stay at home.
    pub federated: Option<Score>,
    /// The federation's adapter, trained on with its own records, without noise. Stays at home.
    pub federated_then_fine_tuned: Option<Score>,
}

/// An organization's line.
///
/// # Errors
///
/// [`TaskError`], when training or scoring fails.
pub fn row(world: &World, federated: &AdapterState, index: usize) -> Result<Row, TaskError> {
    let (study, scenario) = (world.study(), world.scenario());
    let own = study.dealt.own.get(index);
    let profile = world.behaviour(index).and_then(|behaviour| behaviour.profile);
    let profile = profile.and_then(|number| scenario.profiles.get(number)).map(|it| it.name.clone());
    let client = world.clients().get(index).ok_or_else(|| TaskError("no such organization".into()))?;
    Ok(Row {
        name: client.id().clone(),
        debits: client.debits().map_err(TaskError)?.len(),
        profile,
        examples: own.map_or(0, |own| own.train.len()),
        test_examples: own.map_or(0, |own| own.test.len()),
        label_counts: study.dealt.label_counts(index),
        scores: if scenario.evaluation.organizations {
            scores(world, federated, index)?
        } else {
            Scores::default()
        },
    })
}

fn scores(world: &World, federated: &AdapterState, index: usize) -> Result<Scores, TaskError> {
    let (task, recipe) = (&world.study().task, &world.scenario().evaluation.alone);
    let plan = &world.consortium().plan;
    let start = initial_state(plan).map_err(|error| TaskError(error.to_string()))?;
    let start = at_first(plan, &start)?;
    let client = world.clients().get(index).ok_or_else(|| TaskError("no such organization".into()))?;
    let federated = client.complete(federated);
    let alone = task.alone(&start, index, recipe, recipe.epochs)?;
    let tuned = task.alone(&federated, index, recipe, recipe.fine_tune_epochs)?;
    let score = |adapter| task.score(adapter, On::OwnTest(index));
    Ok(Scores {
        alone: score(&alone)?,
        federated: score(&federated)?,
        federated_then_fine_tuned: score(&tuned)?,
    })
}
