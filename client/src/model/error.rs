//! What can be wrong with a model folder or with an adapter for it; each message names the file, the value and the cure.

use std::path::PathBuf;

use super::config::KNOWN_ARCHITECTURES;

/// Why a model folder or an adapter was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The folder is not there.
    #[error(
        "model folder {}: not a folder; give the folder that holds config.json, tokenizer.json and model.safetensors",
        folder.display()
    )]
    NoFolder {
        /// The path that was given.
        folder: PathBuf,
    },
    /// One of the three files is not there.
    #[error(
        "model folder {}: `{file}` is missing; a Hugging Face folder holds config.json, tokenizer.json and model.safetensors \
         (a model saved as pytorch_model.bin or in shards must be saved again as one safetensors file)",
        folder.display()
    )]
    MissingFile {
        /// The folder that was given.
        folder: PathBuf,
        /// The missing file's name.
        file: &'static str,
    },
    /// Reading failed.
    #[error("{}: cannot be read: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is larger than any honest one.
    #[error("{}: larger than {cap_bytes} bytes; this is not the file it claims to be", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The cap.
        cap_bytes: u64,
    },
    /// `config.json` describes a model this build does not know.
    #[error(
        "config.json: model_type `{found}` is not known here; known are {}",
        KNOWN_ARCHITECTURES.join(", ")
    )]
    UnknownArchitecture {
        /// What the file says.
        found: String,
    },
    /// A field of `config.json` is missing or out of range.
    #[error("config.json: {field}: {problem}")]
    Config {
        /// The field.
        field: &'static str,
        /// What is wrong, with the value and what would do.
        problem: String,
    },
    /// `tokenizer.json` does not parse.
    #[error("tokenizer.json: cannot be parsed: {problem}")]
    Tokenizer {
        /// What the parser said.
        problem: String,
    },
    /// The tokenizer and the model were not made for each other.
    #[error(
        "tokenizer.json does not belong to this model: it knows {tokenizer_tokens} tokens with ids up to {largest_id}, \
         config.json says vocab_size = {vocab_size}; copy both files from the same model"
    )]
    TokenizerMismatch {
        /// How many tokens the tokenizer knows.
        tokenizer_tokens: usize,
        /// Its largest token id.
        largest_id: u32,
        /// Rows of the model's embedding.
        vocab_size: usize,
    },
    /// The tokenizer and the model mean different tokens.
    #[error(
        "tokenizer.json does not belong to this model: it has `{token}` as token {id}, config.json says pad_token_id = {pad_token_id}; \
         copy both files from the same model"
    )]
    TokenizerPadding {
        /// The tokenizer's padding token.
        token: &'static str,
        /// Its id.
        id: u32,
        /// What the model says.
        pad_token_id: u32,
    },
    /// The wanted text length does not fit.
    #[error("max_tokens = {wanted}: must be 3 to {most} for this model (its positions end there)")]
    TooManyTokens {
        /// What the plan wants.
        wanted: usize,
        /// What the model has.
        most: usize,
    },
    /// A safetensors file contradicts itself.
    #[error("{}: not a sound safetensors file: {problem}", file.display())]
    Header {
        /// The file.
        file: PathBuf,
        /// The lie, with the numbers.
        problem: String,
    },
    /// A tensor is absent.
    #[error("{}: tensor `{tensor}` is missing; {cure}", file.display())]
    MissingTensor {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What to do.
        cure: &'static str,
    },
    /// A tensor is there that should not be.
    #[error("{}: tensor `{tensor}` is not expected here; {cure}", file.display())]
    UnexpectedTensor {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What to do.
        cure: &'static str,
    },
    /// A tensor has another shape than the configuration says.
    #[error("{}: tensor `{tensor}` has shape {found:?}, expected {expected:?}; {cure}", file.display())]
    Shape {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What the file has.
        found: Vec<usize>,
        /// What was expected.
        expected: Vec<usize>,
        /// What to do.
        cure: &'static str,
    },
    /// A tensor's elements are not floating-point numbers this build reads.
    #[error("{}: tensor `{tensor}` has element type {found}; F32, F16 and BF16 are read", file.display())]
    ElementType {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What the file has.
        found: String,
    },
    /// A NaN or an infinity.
    #[error("{}: tensor `{tensor}`, element {index}: {value} is not a finite number; the file is damaged", file.display())]
    NotFinite {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// Which element, counted in memory order.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// The file is not the one that was checked.
    #[error("{}: changed between two readings; leave model files alone while the client runs", file.display())]
    Changed {
        /// The file.
        file: PathBuf,
    },
    /// A number of the adapter's description is out of range.
    #[error("adapter: {field} = {value}: {problem}")]
    Adapter {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would do.
        problem: String,
    },
    /// A target module matches nothing.
    #[error(
        "adapter: target module `{target}` matches no linear layer of this model; it has {}",
        known.join(", ")
    )]
    NoSuchModule {
        /// What the plan names.
        target: String,
        /// The modules of one layer.
        known: Vec<&'static str>,
    },
    /// Adapter values do not fit the adapter's description.
    #[error("adapter tensor `{tensor}`: {problem}")]
    Tensor {
        /// The tensor.
        tensor: String,
        /// What is wrong.
        problem: String,
    },
}
