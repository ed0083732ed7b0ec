//! A PEFT adapter folder in memory: `adapter_config.json` and `adapter_model.safetensors`, bounded and checked.
//!
//! The coordinator's programs link no libtorch; an adapter is small, and all that is computed of one is sums of products. Values are
//! single precision in memory whatever the file has.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use half::{bf16, f16};
use safetensors::{SafeTensors, tensor::Dtype};
use serde_json::{Map, Value};

use crate::cli::Failure;

/// Name of the folder's description.
pub(super) const CONFIG: &str = "adapter_config.json";
/// Name of the folder's tensors.
pub(super) const MODEL: &str = "adapter_model.safetensors";
/// Key in the tensors' metadata: SHA-256 of the base model's `model.safetensors`. `peft` leaves unknown keys alone.
pub(super) const BASE: &str = "consilium.base_weights";

const MAX_CONFIG_BYTES: u64 = 1 << 20;
const MAX_MODEL_BYTES: u64 = 1 << 30;
const CURE: &str = "a PEFT folder holds adapter_config.json and adapter_model.safetensors";

/// One tensor.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Tensor {
    pub(in crate::cli) dtype: Dtype,
    pub(in crate::cli) shape: Vec<usize>,
    pub(in crate::cli) values: Vec<f32>,
}

/// An adapter.
#[derive(Debug)]
pub(in crate::cli) struct Folder {
    pub(in crate::cli) path: PathBuf,
    /// The description, every field of it.
    pub(in crate::cli) config: Map<String, Value>,
    pub(in crate::cli) rank: usize,
    pub(in crate::cli) alpha: f64,
    pub(in crate::cli) rslora: bool,
    /// Every tensor by name.
    pub(in crate::cli) tensors: BTreeMap<String, Tensor>,
    /// The base model's weights, where the folder names them.
    pub(in crate::cli) base: Option<String>,
}

/// An adapted module's two factors: `B·A` of shape `[out, in]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    /// `[r, in]`
    pub(super) a: &'a Tensor,
    /// `[out, r]`
    pub(super) b: &'a Tensor,
}

impl Folder {
    /// Reads a folder.
    pub(in crate::cli) fn read(path: &Path) -> Result<Self, Failure> {
        let file = path.join(CONFIG);
        let wrong = |why: String| Failure::in_file(&file, why);
        let config: Map<String, Value> = serde_json::from_slice(&bytes(path, CONFIG, MAX_CONFIG_BYTES)?)
            .map_err(|e| wrong(format!("does not parse: {e}")))?;
        match config.get("peft_type").and_then(Value::as_str) {
            Some("LORA") => {}
            other => return Err(wrong(format!("peft_type is {}; LORA is read", other.unwrap_or("missing")))),
        }
        for field in ["use_dora", "fan_in_fan_out", "lora_bias"] {
            if config.get(field).and_then(Value::as_bool) == Some(true) {
                return Err(wrong(format!(
                    "{field} is true, which means another product than B·A; it is not read"
                )));
            }
        }
        for field in ["rank_pattern", "alpha_pattern"] {
            if config.get(field).and_then(Value::as_object).is_some_and(|pattern| !pattern.is_empty()) {
                return Err(wrong(format!(
                    "{field} is not empty; one rank and one alpha for all modules are read"
                )));
            }
        }
        let rank = config.get("r").and_then(Value::as_u64).and_then(|rank| usize::try_from(rank).ok());
        let rank = rank.filter(|rank| (1..=4096).contains(rank));
        let rank = rank.ok_or_else(|| wrong("r is missing, or not 1 to 4096".into()))?;
        let alpha = config
            .get("lora_alpha")
            .and_then(Value::as_f64)
            .filter(|alpha| alpha.is_finite() && *alpha > 0.0);
        let alpha = alpha.ok_or_else(|| wrong("lora_alpha is missing, or not above 0".into()))?;
        let rslora = config.get("use_rslora").and_then(Value::as_bool).unwrap_or(false);

        let file = path.join(MODEL);
        let (tensors, base) = tensors(&file, &bytes(path, MODEL, MAX_MODEL_BYTES)?)?;
        let folder = Self { path: path.to_path_buf(), config, rank, alpha, rslora, tensors, base };
        folder.check().map_err(|why| Failure::in_file(&file, why))?;
        Ok(folder)
    }

    /// Every `A` has its `B`, and both have the description's rank.
    fn check(&self) -> Result<(), String> {
        for (name, tensor) in &self.tensors {
            let other = match split(name) {
                None => continue,
                Some((module, "A")) => factor(module, "B"),
                Some((module, _)) => factor(module, "A"),
            };
            let Some(other) = self.tensors.get(&other) else {
                return Err(format!("tensor `{name}` is there, `{other}` is not"));
            };
            let (rank, axes) = (self.rank, (tensor.shape.as_slice(), other.shape.as_slice()));
            let fits = match (axes, name.ends_with("lora_A.weight")) {
                (([r, _], [_, s]), true) => *r == rank && *s == rank,
                (([_, s], [r, _]), false) => *r == rank && *s == rank,
                _ => false,
            };
            if !fits {
                return Err(format!(
                    "tensor `{name}` has shape {:?}, and adapter_config.json says r = {rank}",
                    tensor.shape
                ));
            }
        }
        if self.pairs().is_empty() {
            return Err("holds no lora_A.weight and lora_B.weight".into());
        }
        Ok(())
    }

    /// The factor `s` before `B·A`.
    pub(super) fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        if self.rslora { self.alpha / rank.sqrt() } else { self.alpha / rank }
    }

    /// The factors by module, without `base_model.model.`.
    pub(super) fn pairs(&self) -> BTreeMap<&str, Pair<'_>> {
        let mut pairs = BTreeMap::new();
        for (name, a) in &self.tensors {
            let Some((module, "A")) = split(name) else { continue };
            if let Some(b) = self.tensors.get(&factor(module, "B")) {
                pairs.insert(module, Pair { a, b });
            }
        }
        pairs
    }

    /// Tensors that are no factors: whole modules, a head.
    pub(super) fn others(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors
            .iter()
            .filter(|(name, _)| split(name).is_none())
            .map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// A field of the description as text; `-` where it has none.
    pub(super) fn said(&self, field: &str) -> String {
        match self.config.get(field) {
            None | Some(Value::Null) => "-".into(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }
}

/// Reads a head that stands beside an adapter's folder; nothing if there is none.
pub(in crate::cli) fn read_head(path: &Path) -> Result<BTreeMap<String, Tensor>, Failure> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(BTreeMap::new());
    };
    if !path.is_file() {
        return Ok(BTreeMap::new());
    }
    Ok(tensors(path, &bytes(folder, name, MAX_MODEL_BYTES)?)?.0)
}

/// A safetensors file's tensors, and the base weights that its metadata names.
fn tensors(file: &Path, all: &[u8]) -> Result<(BTreeMap<String, Tensor>, Option<String>), Failure> {
    let unsound = |e| Failure::in_file(file, format!("not a sound safetensors file: {e}"));
    let (_, header) = SafeTensors::read_metadata(all).map_err(unsound)?;
    let base = header.metadata().as_ref().and_then(|metadata| metadata.get(BASE)).cloned();
    let parsed = SafeTensors::deserialize(all).map_err(unsound)?;
    let mut tensors = BTreeMap::new();
    for (name, view) in parsed.iter() {
        let values = decode(view.dtype(), view.data()).ok_or_else(|| {
            Failure::in_file(
                file,
                format!("tensor `{name}` is {:?}; F32, F16 and BF16 are read", view.dtype()),
            )
        })?;
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            let value = values.get(index).copied().unwrap_or_default();
            return Err(Failure::in_file(file, format!("tensor `{name}`, element {index} is {value}")));
        }
        let (dtype, shape) = (view.dtype(), view.shape().to_vec());
        tensors.insert(name.to_owned(), Tensor { dtype, shape, values });
    }
    Ok((tensors, base))
}

/// `base_model.model.{module}.lora_{A or B}.weight` → module and letter.
fn split(name: &str) -> Option<(&str, &str)> {
    let name = name.strip_prefix("base_model.model.")?.strip_suffix(".weight")?;
    let (module, letter) = name.rsplit_once(".lora_")?;
    matches!(letter, "A" | "B").then_some((module, letter))
}

pub(super) fn factor(module: &str, letter: &str) -> String {
    format!("base_model.model.{module}.lora_{letter}.weight")
}

fn bytes(folder: &Path, name: &str, most: u64) -> Result<Vec<u8>, Failure> {
    let path = folder.join(name);
    let file = File::open(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::Refused(format!("{}: `{name}` is missing; {CURE}", folder.display()))
        }
        _ => Failure::in_file(&path, e),
    })?;
    let mut all = Vec::new();
    // One byte more than allowed, so that a file that grows meanwhile is caught too.
    file.take(most + 1).read_to_end(&mut all).map_err(|e| Failure::in_file(&path, e))?;
    if all.len() as u64 > most {
        return Err(Failure::in_file(&path, format!("has more than {most} bytes; this is not an adapter")));
    }
    Ok(all)
}

fn decode(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let pairs = || bytes.as_chunks::<2>().0.iter();
    Some(match dtype {
        Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F16 => pairs().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::BF16 => pairs().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        _ => return None,
    })
}

/// Values as a file of this element type has them.
pub(in crate::cli) fn encode(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    match dtype {
        Dtype::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
        Dtype::BF16 => values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

impl Pair<'_> {
    /// `⟨B·A, B'·A'⟩`, the sum of the products of all elements, without ever making the products: `tr((B'ᵀB)(A·A'ᵀ))`.
    /// Absent if the two are of different modules.
    pub(super) fn inner(self, other: Pair<'_>) -> Option<f64> {
        let (r, inputs) = (*self.a.shape.first()?, *self.a.shape.get(1)?);
        let (s, outputs) = (*other.a.shape.first()?, *self.b.shape.first()?);
        if other.a.shape.get(1) != Some(&inputs) || other.b.shape.first() != Some(&outputs) {
            return None;
        }
        let mut sum = 0.0;
        for (i, row) in self.a.values.chunks_exact(inputs.max(1)).enumerate() {
            for (j, theirs) in other.a.values.chunks_exact(inputs.max(1)).enumerate() {
                let a: f64 = row.iter().zip(theirs).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
                let column = |pair: &Tensor, at: usize, rank: usize| {
                    pair.values
                        .iter()
                        .skip(at)
                        .step_by(rank.max(1))
                        .map(|&v| f64::from(v))
                        .collect::<Vec<_>>()
                };
                let (mine, theirs) = (column(self.b, i, r), column(other.b, j, s));
                sum += a * mine.iter().zip(&theirs).map(|(x, y)| x * y).sum::<f64>();
            }
        }
        Some(sum)
    }
}

/// Root of the sum of the squares.
pub(super) fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
}
