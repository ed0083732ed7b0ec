//! Labelled files, for evaluation and baselines.

use std::path::Path;

use crate::{
    config::Loaded,
    data::{DataConfig, Dataset, OptOut},
};

use super::Failure;

/// Reads a labelled file whole, by the columns of `[data]`.
pub(crate) fn whole(loaded: &Loaded, path: &Path) -> Result<Dataset, Failure> {
    by(loaded, loaded.config.data.source(), path, usize::MAX)
}

/// Reads a public test set whole, by the columns of `[evaluation]` if there are any.
pub(crate) fn test_set(loaded: &Loaded, path: &Path) -> Result<Dataset, Failure> {
    let columns = loaded.config.evaluation.clone().unwrap_or_else(|| loaded.config.data.source());
    by(loaded, columns, path, usize::MAX)
}

/// Reads records for training: as many of each patient as the plan allows, and none of who has opted out.
pub(crate) fn training_set(loaded: &Loaded, path: &Path) -> Result<Dataset, Failure> {
    let most = loaded.plan.document().task.max_records_per_patient;
    let data = by(loaded, loaded.config.data.source(), path, most as usize)?;
    let Some(opt_out) = &loaded.config.data.opt_out else { return Ok(data) };
    let mut opt_out = OptOut::new(opt_out.clone(), &data);
    let out = opt_out.read().map_err(Failure::refused)?;
    Ok(data.without(out))
}

fn by(loaded: &Loaded, columns: DataConfig, path: &Path, most: usize) -> Result<Dataset, Failure> {
    let source = DataConfig { path: path.to_path_buf(), ..columns };
    let task = &loaded.plan.document().task;
    Ok(Dataset::load_for(&source, task.kind, &task.labels, most)?)
}
