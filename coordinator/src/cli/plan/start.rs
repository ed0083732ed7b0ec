//! An adapter that a job goes on from: a PEFT folder, and the head beside it, as one safetensors file of the plan's own tensors.

use std::path::{Path, PathBuf};

use consilium_crypto::digest::Digest;
use consilium_proto::plan::Adapter;
use safetensors::tensor::{Dtype, TensorView};

use crate::cli::{
    Failure,
    adapter::{Folder, encode, read_head},
};

/// The file that belongs to a plan: its own name with `.start` added.
pub(super) fn path(plan: &Path) -> PathBuf {
    let mut name = plan.as_os_str().to_owned();
    name.push(".start");
    name.into()
}

/// The file's bytes. The folder must be of the plan's rank and scale, of its base weights if it names any, and hold the plan's tensors only.
pub(super) fn file(folder: &Path, plan: &Adapter, weights: &Digest) -> Result<Vec<u8>, Failure> {
    let from = Folder::read(folder)?;
    let wrong = |why: String| Failure::Refused(format!("adapter.start: {}: {why}", folder.display()));
    let same = (from.rank == plan.rank as usize, from.alpha == plan.alpha, from.rslora == plan.rslora);
    if same != (true, true, true) {
        return Err(wrong(format!(
            "has r = {}, lora_alpha = {}, use_rslora = {}; write rank, alpha and rslora so in the template (consilium adapter convert \
             changes the last two together)",
            from.rank, from.alpha, from.rslora
        )));
    }
    if let Some(base) = from.base.as_ref().filter(|base| **base != weights.to_string()) {
        return Err(wrong(format!("was trained on base weights {base}, and this model's are {weights}")));
    }
    let mut tensors = from.tensors;
    tensors.extend(read_head(&folder.with_file_name("head.safetensors"))?);
    let mut views = Vec::new();
    for (name, tensor) in &tensors {
        let listed = plan.tensors.iter().find(|listed| listed.name == *name).ok_or_else(|| {
            wrong(format!("tensor `{name}` is not one of the plan's; adapter.target_modules must name what the folder adapts"))
        })?;
        if !listed.shape.iter().map(|&axis| axis as usize).eq(tensor.shape.iter().copied()) {
            return Err(wrong(format!(
                "tensor `{name}` has shape {:?}, the plan's has {:?}",
                tensor.shape, listed.shape
            )));
        }
        views.push((name.as_str(), tensor.shape.clone(), encode(Dtype::F32, &tensor.values)));
    }
    let views: Result<Vec<_>, _> = views
        .iter()
        .map(|(name, shape, bytes)| {
            TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (*name, view))
        })
        .collect();
    safetensors::serialize(views.map_err(Failure::refused)?, None).map_err(Failure::refused)
}
