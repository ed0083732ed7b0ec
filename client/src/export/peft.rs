//! A PEFT folder: `adapter_config.json` and `adapter_model.safetensors`, as `peft` 0.21.2 writes them for
//! `LoraConfig(task_type="FEATURE_EXTRACTION")` on a bare encoder, or `"CAUSAL_LM"` on a decoder: the same keys in the same order, the
//! same tensor names and layout; and, in the tensors' metadata, the digest of the base model's weights, which `peft` leaves alone. Fields that this software does not set have `peft`'s defaults. `layers_pattern` stays null, as there: `peft` then
//! takes the first number in a module's path for its layer, which is right for every model known here.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{ExportError, TORCH, read_tensors, write_tensors};
use crate::files::write_atomic;
use crate::model::adapter::meant;
use crate::model::{
    AdapterSpec, AdapterTensor, AdapterTensors, ModelConfig, Pooling, TargetModules, TaskKind, TensorKind,
    adapter_tensors,
};

/// Name of the folder's description.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// Name of the folder's tensors.
pub const ADAPTER_MODEL: &str = "adapter_model.safetensors";

/// Key in the tensors' metadata: SHA-256 of the base model's `model.safetensors`.
pub const BASE_WEIGHTS: &str = "consilium.base_weights";

/// The `peft` release whose layout this is.
const PEFT_VERSION: &str = "0.21.2";
/// Largest `adapter_config.json` that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Writes the LoRA factors among `values`, which may hold the head too, into `folder`, which is made if need be. `base_model` is the name or path by which a
/// reader finds the base model; it is written down and not looked at. `base` is the digest of its weights.
///
/// # Errors
/// [`ExportError::NoAdapter`] for a head-only plan, values that do not fit the plan, or files that cannot be written.
pub fn write_peft_folder(
    folder: &Path,
    base_model: &str,
    config: &ModelConfig,
    spec: &AdapterSpec,
    values: &AdapterTensors,
    base: Option<[u8; 32]>,
) -> Result<(), ExportError> {
    if spec.target_modules.is_empty() {
        return Err(ExportError::NoAdapter);
    }
    let all = adapter_tensors(config, spec)?;
    // A head that stays at home is not among them.
    let given = |tensor: &&AdapterTensor| is_factor(tensor) || values.values(&tensor.name).is_some();
    values.check(&all.iter().filter(given).cloned().collect::<Vec<_>>())?;
    fs::create_dir_all(folder).map_err(|error| ExportError::Malformed {
        file: folder.to_path_buf(),
        problem: format!("cannot be made: {error}"),
    })?;
    write_tensors(&folder.join(ADAPTER_MODEL), &factors(&all), values, Some(TORCH), base)?;
    let path = folder.join(ADAPTER_CONFIG);
    let text = serde_json::to_string_pretty(&describe(base_model, config, spec))
        .map_err(|error| ExportError::Malformed { file: path.clone(), problem: error.to_string() })?;
    Ok(write_atomic(&path, text.as_bytes())?)
}

/// Reads the LoRA factors of a PEFT folder, to resume from them. The description must say what the plan says. `base` is the digest of the
/// base model's weights; a folder that names another is refused, one that names none (`peft`'s own) is not.
///
/// # Errors
/// [`ExportError::Config`] naming the first field that differs; [`ExportError::OtherBase`]; a tensor file that contradicts itself or
/// the plan.
pub fn read_peft_folder(
    folder: &Path,
    config: &ModelConfig,
    spec: &AdapterSpec,
    base: Option<[u8; 32]>,
) -> Result<AdapterTensors, ExportError> {
    if spec.target_modules.is_empty() {
        return Err(ExportError::NoAdapter);
    }
    let all = adapter_tensors(config, spec)?;
    compare(&folder.join(ADAPTER_CONFIG), config, spec)?;
    read_tensors(&folder.join(ADAPTER_MODEL), &factors(&all), base)
}

/// The description of a PEFT folder's factors as a plan would give it, for whoever has no plan. Its task is a stand-in.
///
/// # Errors
/// A description that does not parse, or means another product than `s·B·A`.
pub fn described(folder: &Path, config: &ModelConfig) -> Result<AdapterSpec, ExportError> {
    let path = folder.join(ADAPTER_CONFIG);
    let found = Described::read(&path)?;
    let causal = config.architecture.is_causal();
    let spec = AdapterSpec {
        rank: usize::try_from(found.r).unwrap_or(usize::MAX),
        alpha: found.lora_alpha,
        use_rslora: found.use_rslora,
        target_modules: found.target_modules,
        layers: found.layers_to_transform.map(|layers| layers.into_iter().collect()),
        dropout: 0.0,
        pooling: if causal { Pooling::None } else { Pooling::Mean },
        max_tokens: config.max_tokens(),
        task: if causal { TaskKind::NextToken } else { TaskKind::SingleLabel },
        labels: if causal { 0 } else { 2 },
        class_weights: Vec::new(),
    };
    // What a plan cannot say is refused by name.
    compare(&path, config, &spec)?;
    Ok(spec)
}

fn factors(all: &[AdapterTensor]) -> Vec<&AdapterTensor> {
    all.iter().filter(is_factor).collect()
}

fn is_factor(tensor: &&AdapterTensor) -> bool {
    matches!(tensor.kind, TensorKind::A { .. } | TensorKind::B { .. })
}

/// Keys in alphabetical order, as `peft` sorts them.
fn describe(base_model: &str, config: &ModelConfig, spec: &AdapterSpec) -> Value {
    // `peft` declares an integer; a plan may say 0.5.
    let alpha = if spec.alpha.fract() == 0.0 { json!(spec.alpha as i64) } else { json!(spec.alpha) };
    json!({
        "alora_invocation_tokens": null,
        "alpha_pattern": {},
        "arrow_config": null,
        "auto_mapping": null,
        "base_model_name_or_path": base_model,
        "bias": "none",
        "corda_config": null,
        "ensure_weight_tying": false,
        "eva_config": null,
        "exclude_modules": null,
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "kasa_config": null,
        "layer_replication": null,
        "layers_pattern": null,
        "layers_to_transform": sorted_layers(spec),
        "loftq_config": {},
        "lora_alpha": alpha,
        "lora_bias": false,
        "lora_dropout": spec.dropout,
        "lora_ga_config": null,
        "megatron_config": null,
        "megatron_core": "megatron.core",
        "modules_to_save": null,
        "monteclora_config": null,
        "peft_type": "LORA",
        "peft_version": PEFT_VERSION,
        "qalora_group_size": 16,
        "r": spec.rank,
        "rank_pattern": {},
        "revision": null,
        "target_modules": named(config, spec),
        "target_parameters": null,
        "task_type": if config.architecture.is_causal() { "CAUSAL_LM" } else { "FEATURE_EXTRACTION" },
        "trainable_token_indices": null,
        "use_bdlora": null,
        "use_dora": false,
        "use_qalora": false,
        "use_rslora": spec.use_rslora,
        "velora_config": null,
    })
}

/// As `peft` writes them down: `all-linear` by names, a pattern as it is.
fn named(config: &ModelConfig, spec: &AdapterSpec) -> Value {
    match &spec.target_modules {
        all @ TargetModules::Pattern(text) if text == "all-linear" => {
            json!(meant(config, all, None).unwrap_or_default())
        }
        as_it_is => json!(as_it_is),
    }
}

fn sorted_layers(spec: &AdapterSpec) -> Option<Vec<u32>> {
    let mut layers = spec.layers.clone()?;
    layers.sort_unstable();
    Some(layers)
}

/// The fields that change what the tensors mean. A field that is absent has `peft`'s default.
#[derive(Deserialize)]
struct Described {
    peft_type: String,
    r: u64,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    lora_bias: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
    target_modules: TargetModules,
    layers_to_transform: Option<BTreeSet<u32>>,
    #[serde(default)]
    rank_pattern: serde_json::Map<String, Value>,
    #[serde(default)]
    alpha_pattern: serde_json::Map<String, Value>,
    /// Modules that were trained whole. None is known here: `peft`'s classifier expects another pooling than a plan's, and its
    /// logits would be others.
    modules_to_save: Option<Vec<String>>,
}

impl Described {
    fn read(path: &Path) -> Result<Self, ExportError> {
        let text = crate::files::read_text(path, MAX_CONFIG_BYTES)?;
        serde_json::from_str(&text).map_err(|error| ExportError::Malformed {
            file: path.to_path_buf(),
            problem: format!("does not parse: {error}"),
        })
    }
}

fn compare(path: &Path, config: &ModelConfig, spec: &AdapterSpec) -> Result<(), ExportError> {
    let malformed = |problem| ExportError::Malformed { file: path.to_path_buf(), problem };
    let found = Described::read(path)?;
    // All layers by name are the same as none.
    let all_layers: BTreeSet<u32> = (0..config.layers as u32).collect();
    let layers = |layers: Option<BTreeSet<u32>>| layers.unwrap_or_else(|| all_layers.clone());
    let wanted_layers = layers(spec.layers.clone().map(BTreeSet::from_iter));
    // The same modules may be meant in other words.
    let modules = |targets: &TargetModules, layers: &BTreeSet<u32>| {
        let layers: Vec<u32> = layers.iter().copied().collect();
        meant(config, targets, Some(&layers)).map_err(malformed)
    };
    let found_layers = layers(found.layers_to_transform);
    let same =
        modules(&found.target_modules, &found_layers)? == modules(&spec.target_modules, &wanted_layers)?;
    let pairs = [
        ("peft_type", json!(found.peft_type), json!("LORA")),
        ("r", json!(found.r), json!(spec.rank)),
        ("lora_alpha", json!(found.lora_alpha), json!(spec.alpha)),
        ("use_rslora", json!(found.use_rslora), json!(spec.use_rslora)),
        ("use_dora", json!(found.use_dora), json!(false)),
        ("lora_bias", json!(found.lora_bias), json!(false)),
        ("fan_in_fan_out", json!(found.fan_in_fan_out), json!(false)),
        ("rank_pattern", json!(found.rank_pattern), json!({})),
        ("alpha_pattern", json!(found.alpha_pattern), json!({})),
        // An empty list saves nothing.
        ("modules_to_save", json!(found.modules_to_save.filter(|names| !names.is_empty())), json!(null)),
    ];
    let differing = [
        ("target_modules", json!(found.target_modules), json!(spec.target_modules)),
        ("layers_to_transform", json!(found_layers), json!(wanted_layers)),
    ];
    let differing = differing.into_iter().filter(|_| !same);
    match pairs.into_iter().chain(differing).find(|(_, found, expected)| found != expected) {
        None => Ok(()),
        Some((field, found, expected)) => Err(ExportError::Config {
            file: path.to_path_buf(),
            field,
            found: found.to_string(),
            expected: expected.to_string(),
        }),
    }
}
