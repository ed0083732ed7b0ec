//! The pretrained model: a Hugging Face folder (`config.json`, `tokenizer.json`, `model.safetensors`) of a BERT-family encoder or a
//! Llama-family decoder.
//!
//! Every file is parsed like a packet from a stranger: size cap first, checked arithmetic, exact coverage of the bytes,
//! names, shapes and element types against the configuration, finite values. [`ModelFolder`] therefore holds a *checked*
//! folder; nothing here needs libtorch, so the session can compare digests and shapes on a machine that has none.
//!
//! Known architectures: BERT (Devlin et al., 2018) and RoBERTa (Liu et al., 2019) with their descendants of equal shape and
//! absolute positions; Llama (Touvron et al., 2023) with unscaled rotary positions. What it does not do: download anything, run the model, or guess at an unknown architecture.

pub mod adapter;
mod config;
mod error;
mod llama;
mod module;
mod safetensors;
mod tokenizer;
mod weights;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use adapter::{
    AdapterSpec, AdapterTensor, AdapterTensors, Pooling, TargetModules, TaskKind, TensorKind, adapter_tensors,
};
pub use config::{Activation, Architecture, KNOWN_ARCHITECTURES, ModelConfig};
pub use error::ModelError;
pub use module::Module;
pub use safetensors::{ChangeTensor, CheckedTensors, EachTensor, Element, TensorEntry};
pub use tokenizer::TextTokenizer;
pub use weights::ModelWeights;

/// Largest `config.json` that is read, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// Largest `tokenizer.json` that is read, in bytes (XLM-RoBERTa's has 17 MB).
pub const MAX_TOKENIZER_BYTES: u64 = 64 << 20;
/// Largest `model.safetensors` that is read, in bytes.
pub const MAX_WEIGHTS_BYTES: u64 = 16 << 30;

/// SHA-256 of each file of a model folder, as the plan pins them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelDigests {
    /// Of `config.json`.
    pub config: [u8; 32],
    /// Of `tokenizer.json`.
    pub tokenizer: [u8; 32],
    /// Of `model.safetensors`.
    pub weights: [u8; 32],
}

/// A checked model folder. The digests are of the very bytes that were checked.
#[derive(Debug)]
pub struct ModelFolder {
    path: PathBuf,
    config: ModelConfig,
    tokenizer: Vec<u8>,
    weights: ModelWeights,
    digests: ModelDigests,
}

impl ModelFolder {
    /// Reads and checks all three files. Takes one pass over the weights (about 0.1 s for 90 MB) and keeps none of them.
    ///
    /// # Errors
    /// A missing or oversized file, a configuration that names an unknown architecture or does not fit itself, a tokenizer
    /// that does not parse or knows tokens the model has no row for, a weights file whose header lies, or whose tensors
    /// differ from what the configuration asks for, or hold a NaN or an infinity. Each error names the file and the cure.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        if !path.is_dir() {
            return Err(ModelError::NoFolder { folder: path.to_path_buf() });
        }
        let (config_bytes, config_digest) = read_capped(path, "config.json", MAX_CONFIG_BYTES)?;
        let config = ModelConfig::parse(&config_bytes)?;
        let (tokenizer, tokenizer_digest) = read_capped(path, "tokenizer.json", MAX_TOKENIZER_BYTES)?;
        // Built once here for its checks; the caller builds it again with the plan's length.
        TextTokenizer::parse(&tokenizer, &config, config.max_tokens())?;
        let weights = ModelWeights::open(path, &config)?;
        let digests =
            ModelDigests { config: config_digest, tokenizer: tokenizer_digest, weights: weights.digest() };
        Ok(Self { path: path.to_path_buf(), config, tokenizer, weights, digests })
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The checked configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// SHA-256 of each file, for comparison with the plan.
    pub fn digests(&self) -> ModelDigests {
        self.digests
    }

    /// The checked weights file; values are read from disk when asked for.
    pub fn weights(&self) -> &ModelWeights {
        &self.weights
    }

    /// The tokenizer, cutting every text to `max_tokens` tokens, its two special tokens among them.
    ///
    /// # Errors
    /// [`ModelError::TooManyTokens`] if the model has fewer positions than that, or `max_tokens` is below 3.
    pub fn tokenizer(&self, max_tokens: usize) -> Result<TextTokenizer, ModelError> {
        TextTokenizer::parse(&self.tokenizer, &self.config, max_tokens)
    }
}

fn read_capped(folder: &Path, file: &'static str, cap: u64) -> Result<(Vec<u8>, [u8; 32]), ModelError> {
    let io = |source| ModelError::Io { file: folder.join(file), source };
    let opened = open_file(folder, file)?;
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a file that grows between the look and the read is caught too.
    opened.take(cap + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > cap {
        return Err(ModelError::TooLarge { file: folder.join(file), cap_bytes: cap });
    }
    let digest = Sha256::digest(&bytes).into();
    Ok((bytes, digest))
}

fn open_file(folder: &Path, file: &'static str) -> Result<File, ModelError> {
    let path = folder.join(file);
    File::open(&path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => ModelError::MissingFile { folder: folder.to_path_buf(), file },
        _ => ModelError::Io { file: path, source },
    })
}

#[cfg(test)]
mod tests;
