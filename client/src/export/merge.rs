//! A model with an adapter inside: `W + s·B·A` in place of `W`, everything else as it was.
//!
//! The sum is computed in single precision and rounded to the file's own element type. A base in half precision so keeps three digits
//! of `W + s·B·A`: an adapter that moves the weights by less than that is partly lost, as in `peft`'s own `merge_and_unload`.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;

use super::{ExportError, described, read_peft_folder};
use crate::files::{FileError, write_atomic};
use crate::model::{AdapterTensor, ModelFolder, TensorKind, adapter_tensors};

/// Files of a Hugging Face folder that are copied where they are there.
const BESIDE: [&str; 4] =
    ["tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "vocab.txt"];
/// Largest of them that is copied, bytes.
const MAX_BESIDE_BYTES: u64 = 16 << 20;
const WEIGHTS: &str = "model.safetensors";

/// Writes `model` with the PEFT folder `adapter` inside it into `out`, a folder that does not exist yet. Returns how many weights changed.
///
/// # Errors
/// An adapter that is not for this model, or was trained on other base weights; an `out` that exists; files that cannot be written.
pub fn merge(model: &ModelFolder, adapter: &Path, out: &Path) -> Result<usize, ExportError> {
    if out.exists() {
        return Err(FileError::Exists { path: out.to_path_buf() }.into());
    }
    let config = model.config();
    let spec = described(adapter, config)?;
    let values = read_peft_folder(adapter, config, &spec, Some(model.digests().weights))?;
    let tensors = adapter_tensors(config, &spec)?;
    let module = |tensor: &AdapterTensor| match tensor.kind {
        TensorKind::B { layer, module } => {
            Some(format!("{}.weight", module.name(config.architecture, layer)))
        }
        _ => None,
    };
    let factor = |name: &str| {
        let b = tensors.iter().find(|tensor| module(tensor).as_deref() == Some(name))?;
        let a = b.name.replace(".lora_B.", ".lora_A.");
        Some((values.values(&a)?, values.values(&b.name)?))
    };
    let failed = |doing, path: &Path, source| FileError::io(doing, path, source);
    fs::create_dir_all(out).map_err(|error| failed("create", out, error))?;
    let path = out.join(WEIGHTS);
    let mut file = BufWriter::new(File::create(&path).map_err(|error| failed("create", &path, error))?);
    let mut changed = 0;
    model.weights().rewrite(&mut file, &|name| factor(name).is_some(), &mut |name, shape, weights| {
        if let (Some((a, b)), [_, inputs]) = (factor(name), shape) {
            add_product(weights, a, b, *inputs, spec.rank, spec.scaling());
            changed += 1;
        }
    })?;
    let written = file.flush().and_then(|()| file.get_ref().sync_all());
    written.map_err(|error| failed("write", &path, error))?;
    for name in ["config.json", "tokenizer.json"].into_iter().chain(BESIDE) {
        let from = model.path().join(name);
        if from.is_file() {
            let most =
                if BESIDE.contains(&name) { MAX_BESIDE_BYTES } else { crate::model::MAX_TOKENIZER_BYTES };
            write_atomic(&out.join(name), &crate::files::read_bytes(&from, most)?)?;
        }
    }
    Ok(changed)
}

/// `W += s·B·A`, row-major, `W` of shape `[out, inputs]`.
fn add_product(weights: &mut [f32], a: &[f32], b: &[f32], inputs: usize, rank: usize, scale: f64) {
    for (row, factors) in weights.chunks_exact_mut(inputs.max(1)).zip(b.chunks_exact(rank.max(1))) {
        for (&factor, of_rank) in factors.iter().zip(a.chunks_exact(inputs.max(1))) {
            let factor = (scale * f64::from(factor)) as f32;
            row.iter_mut().zip(of_rank).for_each(|(weight, &a)| *weight += factor * a);
        }
    }
}
