//! What a plan needs to know of a model folder: three digests, and the linear layers that LoRA can adapt.
//!
//! Of `model.safetensors` only the header is read, its tensors' shapes; the whole file is hashed. Values are the client's
//! business, which checks them before it trains. Names are those of the bare encoder, as `peft` sees it: a leading `bert.`
//! or `roberta.` is left out; a decoder's are those of the model with its output (`model.layers.0.self_attn.q_proj`).

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use consilium_crypto::digest::{Digest, Hasher};
use consilium_proto::plan::{AdapterMode, TargetModules, Tensor};
use serde::Deserialize;

use crate::cli::Failure;

/// Largest header that is read; a tensor takes about 120 bytes of it.
const MAX_HEADER_BYTES: u64 = 16 << 20;
/// Largest `config.json` and `tokenizer.json`.
const MAX_TEXT_BYTES: u64 = 64 << 20;
const PREFIXES: [&str; 3] = ["", "bert.", "roberta."];
const CURE: &str = "a Hugging Face folder holds config.json, tokenizer.json and model.safetensors";

/// A model folder, as far as a plan needs it.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) config: Digest,
    pub(super) tokenizer: Digest,
    pub(super) weights: Digest,
    /// Width of the encoder's output, and so of the head's input.
    pub(super) hidden: u32,
    /// Linear modules by name.
    modules: BTreeMap<String, Linear>,
}

#[derive(Clone, Copy, Debug)]
struct Linear {
    outputs: u32,
    inputs: u32,
}

#[derive(Deserialize)]
struct Config {
    hidden_size: u32,
}

#[derive(Deserialize)]
struct Entry {
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// Reads a model folder.
pub(super) fn read(folder: &Path) -> Result<Model, Failure> {
    let config_path = folder.join("config.json");
    let config = small(folder, "config.json")?;
    let Config { hidden_size: hidden } = serde_json::from_slice(&config)
        .map_err(|e| Failure::in_file(&config_path, format!("{e}; {CURE}")))?;
    if hidden == 0 {
        return Err(Failure::in_file(&config_path, "hidden_size is 0"));
    }
    let tokenizer = small(folder, "tokenizer.json")?;
    let path = folder.join("model.safetensors");
    let (header, weights) = weights(folder, &path)?;
    let modules = linear_modules(header).map_err(|why| Failure::in_file(&path, why))?;
    Ok(Model { config: Digest::of(&config), tokenizer: Digest::of(&tokenizer), weights, hidden, modules })
}

/// Digests alone, for a plan that lists its tensors itself: whatever the model is, its trainers know it. A file that is not there
/// (or all three, without a folder) counts as an empty one.
pub(super) fn read_digests(folder: Option<&Path>) -> Result<Model, Failure> {
    let digest = |name: &str| -> Result<Digest, Failure> {
        let Some(path) = folder.map(|folder| folder.join(name)).filter(|path| path.exists()) else {
            return Ok(Digest::of(&[]));
        };
        let mut file = File::open(&path).map_err(|e| Failure::in_file(&path, e))?;
        let (mut hasher, mut piece) = (Hasher::new(), vec![0; 1 << 20]);
        loop {
            let count = file.read(&mut piece).map_err(|e| Failure::in_file(&path, e))?;
            match piece.get(..count) {
                Some([]) | None => return Ok(hasher.finish()),
                Some(read) => hasher.update(read),
            }
        }
    };
    Ok(Model {
        config: digest("config.json")?,
        tokenizer: digest("tokenizer.json")?,
        weights: digest("model.safetensors")?,
        hidden: 0,
        modules: BTreeMap::new(),
    })
}

fn open(folder: &Path, name: &str) -> Result<(File, u64, PathBuf), Failure> {
    let path = folder.join(name);
    let file = File::open(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::Refused(format!("model folder {}: `{name}` is missing; {CURE}", folder.display()))
        }
        _ => Failure::in_file(&path, e),
    })?;
    let bytes = file.metadata().map_err(|e| Failure::in_file(&path, e))?.len();
    Ok((file, bytes, path))
}

fn small(folder: &Path, name: &str) -> Result<Vec<u8>, Failure> {
    let (mut file, bytes, path) = open(folder, name)?;
    if bytes > MAX_TEXT_BYTES {
        return Err(Failure::in_file(&path, format!("has {bytes} bytes; at most {MAX_TEXT_BYTES} are read")));
    }
    let mut all = Vec::new();
    file.read_to_end(&mut all).map_err(|e| Failure::in_file(&path, e))?;
    Ok(all)
}

/// The header's entries and the file's digest, in one pass.
fn weights(folder: &Path, path: &Path) -> Result<(BTreeMap<String, Entry>, Digest), Failure> {
    let (file, bytes, _) = open(folder, "model.safetensors")?;
    let wrong = |why: String| Failure::in_file(path, format!("not a sound safetensors file: {why}"));
    let io = |e| Failure::in_file(path, e);
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut hasher = Hasher::new();
    let mut length = [0; 8];
    if bytes < 8 {
        return Err(wrong(format!("{bytes} bytes are too few for a header")));
    }
    reader.read_exact(&mut length).map_err(io)?;
    hasher.update(&length);
    let header_bytes = u64::from_le_bytes(length);
    if header_bytes > MAX_HEADER_BYTES || header_bytes > bytes - 8 {
        return Err(wrong(format!("its header claims {header_bytes} bytes, and {} follow", bytes - 8)));
    }
    let mut header = vec![0; header_bytes as usize];
    reader.read_exact(&mut header).map_err(io)?;
    hasher.update(&header);
    let mut entries: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&header).map_err(|e| wrong(e.to_string()))?;
    entries.remove("__metadata__");
    let entries = entries
        .into_iter()
        .map(|(name, value)| {
            let entry =
                serde_json::from_value::<Entry>(value).map_err(|e| wrong(format!("tensor `{name}`: {e}")))?;
            let (begin, end) = entry.data_offsets;
            if begin > end || end > bytes - 8 - header_bytes {
                return Err(wrong(format!(
                    "tensor `{name}` claims bytes {begin} to {end}, past the file's end"
                )));
            }
            Ok((name, entry))
        })
        .collect::<Result<_, _>>()?;
    let mut piece = vec![0; 1 << 20];
    loop {
        let count = reader.read(&mut piece).map_err(io)?;
        match piece.get(..count) {
            Some([]) | None => break,
            Some(read) => hasher.update(read),
        }
    }
    Ok((entries, hasher.finish()))
}

/// Modules with a matrix for a weight, embeddings left out.
fn linear_modules(entries: BTreeMap<String, Entry>) -> Result<BTreeMap<String, Linear>, String> {
    let has_prefix =
        |prefix: &&str| entries.contains_key(&format!("{prefix}embeddings.word_embeddings.weight"));
    let prefix = PREFIXES.into_iter().find(has_prefix).unwrap_or_default();
    let mut modules = BTreeMap::new();
    for (name, entry) in &entries {
        let bare = name.strip_prefix(prefix).unwrap_or(name);
        let Some(module) = bare.strip_suffix(".weight") else { continue };
        let [outputs, inputs] = entry.shape.as_slice() else { continue };
        // A decoder's output is tied to its embedding, or stays as it is (`peft` leaves it out of all-linear too).
        let embeds = |part: &str| part.contains("embedding") || part == "embed_tokens";
        if module.split('.').any(embeds) || module == "lm_head" {
            continue;
        }
        let size = |axis: u64| {
            u32::try_from(axis)
                .ok()
                .filter(|axis| *axis > 0)
                .ok_or_else(|| format!("tensor `{name}` has an axis of {axis}"))
        };
        modules.insert(module.to_owned(), Linear { outputs: size(*outputs)?, inputs: size(*inputs)? });
    }
    Ok(modules)
}

/// Which modules get an adapter.
pub(super) struct Targets<'a> {
    pub(super) rank: u32,
    pub(super) modules: &'a TargetModules,
    pub(super) layers: Option<&'a [u32]>,
    /// 0 without a head.
    pub(super) labels: u32,
    pub(super) mode: AdapterMode,
}

impl Model {
    /// Every tensor of the adapter, sorted by name: `B` and the head (if there are labels) trained, `A` as the mode says.
    pub(super) fn adapter(&self, targets: &Targets<'_>) -> Result<Vec<Tensor>, String> {
        let bound = |inputs: u32| (1.0 / f64::from(inputs).sqrt()) as f32;
        let head = |name: &str, shape, bound| Tensor { name: name.to_owned(), shape, bound, trained: true };
        let mut tensors = Vec::new();
        if targets.labels > 0 {
            tensors.push(head("head.bias", vec![targets.labels], 0.0));
            tensors.push(head("head.weight", vec![targets.labels, self.hidden], bound(self.hidden)));
        }
        for (module, linear) in self.targeted(targets)? {
            let Linear { outputs, inputs } = linear;
            let tensor = |factor: &str, shape, bound, trained| {
                let name = format!("base_model.model.{module}.lora_{factor}.weight");
                Tensor { name, shape, bound, trained }
            };
            let a = targets.mode != AdapterMode::Ffa;
            tensors.push(tensor("A", vec![targets.rank, inputs], bound(inputs), a));
            tensors.push(tensor("B", vec![outputs, targets.rank], 0.0, true));
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(tensors)
    }

    fn targeted(&self, targets: &Targets<'_>) -> Result<BTreeMap<&str, Linear>, String> {
        let mut chosen = BTreeMap::new();
        if targets.modules.is_empty() {
            return Ok(chosen);
        }
        self.check_layers(targets.layers)?;
        let matcher = targets.modules.matcher().map_err(|why| format!("adapter.target_modules: {why}"))?;
        let layered = self.modules.keys().filter(|module| layer_of(module).is_some());
        if let Some(target) = matcher.unmatched(layered.map(String::as_str)) {
            return Err(format!(
                "adapter.target_modules: `{target}` matches no linear layer of this model; it has {}",
                self.available().join(", ")
            ));
        }
        for (module, linear) in self.modules.iter().filter(|(module, _)| matcher.matches(module)) {
            match layer_of(module) {
                Some(layer) if targets.layers.is_none_or(|layers| layers.contains(&layer)) => {
                    chosen.insert(module.as_str(), *linear);
                }
                Some(_) => {}
                // `peft` would adapt it, and then miss its tensors.
                None if targets.layers.is_none() => {
                    return Err(format!(
                        "adapter.target_modules: {} also means `{module}`, which lies outside the layers and is not \
                         trained; name the module more closely ({}), or set adapter.layers",
                        meaning(targets.modules, module),
                        self.available().join(", ")
                    ));
                }
                None => {}
            }
        }
        Ok(chosen)
    }

    fn check_layers(&self, layers: Option<&[u32]>) -> Result<(), String> {
        let Some(layers) = layers else { return Ok(()) };
        let known = self.modules.keys().filter_map(|module| layer_of(module)).max();
        if layers.is_empty() {
            return Err("adapter.layers is []: leave it out for all layers, or empty target_modules for the head alone".into());
        }
        match layers.iter().find(|layer| known.is_none_or(|known| **layer > known)) {
            None => Ok(()),
            Some(layer) => Err(match known {
                Some(known) => {
                    format!("adapter.layers: {layer} is not a layer of this model; it has 0 to {known}")
                }
                None => {
                    format!("adapter.layers: {layer} is not a layer of this model; it has no numbered layers")
                }
            }),
        }
    }

    /// The modules of the layers, without the layers' numbers.
    fn available(&self) -> Vec<&str> {
        let after_number = |module: &'_ str| -> Option<usize> {
            let mut end = 0;
            for part in module.split('.') {
                end += part.len() + 1;
                if part.parse::<u32>().is_ok() {
                    return Some(end);
                }
            }
            None
        };
        let mut names: Vec<_> =
            self.modules.keys().filter_map(|module| module.get(after_number(module)?..)).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// The target that means a module, quoted.
fn meaning(targets: &TargetModules, module: &str) -> String {
    match targets {
        TargetModules::Pattern(text) => format!("`{text}`"),
        TargetModules::Names(names) => {
            let meant = |name: &&String| {
                let one = TargetModules::Names(vec![(*name).clone()]);
                one.matcher().is_ok_and(|matcher| matcher.matches(module))
            };
            format!("`{}`", names.iter().find(meant).map_or("", String::as_str))
        }
    }
}

/// The first number among a module's parts.
fn layer_of(module: &str) -> Option<u32> {
    module.split('.').find_map(|part| part.parse().ok())
}
