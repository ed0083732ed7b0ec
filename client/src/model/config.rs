//! `config.json`: which model this is and how large. Sources: the configuration classes of Hugging Face `transformers`
//! for BERT, RoBERTa and Llama. Fields that change the arithmetic are checked; all others (dropout, training history) are ignored,
//! because the base model runs in evaluation mode only.

use serde::Deserialize;

use super::{error::ModelError, llama};

/// Values of `model_type` that are understood.
pub const KNOWN_ARCHITECTURES: [&str; 5] = ["bert", "roberta", "xlm-roberta", "camembert", "llama"];

/// Which family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// An encoder whose positions count from 0.
    Bert,
    /// The same, but positions count from the padding token's id plus one.
    Roberta,
    /// A causal decoder (Touvron et al., 2023): RMSNorm before each part, rotary positions, grouped-query attention, SwiGLU, no biases.
    Llama,
}

impl Architecture {
    /// Whether a token sees only itself and the tokens before it, so that the next one can be learned.
    pub fn is_causal(self) -> bool {
        self == Self::Llama
    }
}

/// The feed-forward part's non-linearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x·Φ(x)` with the exact error function.
    Gelu,
    /// The hyperbolic-tangent approximation of the same.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
    /// `x·σ(x)`, also called swish.
    Silu,
}

/// A checked `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The family.
    pub architecture: Architecture,
    /// Width `d` of the hidden states.
    pub hidden_size: usize,
    /// How many layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Heads of keys and values; divides `heads`. Fewer than `heads` is grouped-query attention (Ainslie et al., 2023).
    pub key_heads: usize,
    /// Width of one head.
    pub head_width: usize,
    /// Width of the feed-forward part.
    pub intermediate_size: usize,
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// Rows of the position embedding; a decoder has none, and this is the longest text it was made for.
    pub position_rows: usize,
    /// Rows of the token-type embedding; 0 in a decoder.
    pub type_rows: usize,
    /// The padding token's id.
    pub pad_token_id: u32,
    /// Whether the file, or its family, says which token that is. A decoder's often does not: 0 stands in, for rows that nobody looks at.
    pub padding_is_said: bool,
    /// The feed-forward part's non-linearity.
    pub activation: Activation,
    /// Added to the variance (in a decoder, to the mean square) in every norm.
    pub norm_eps: f64,
    /// Base of the rotary embedding's wavelengths (Su et al., 2021); 0 in an encoder.
    pub rope_theta: f64,
    /// Whether the output's rows are the token embedding's; true in an encoder, which has no output of its own here.
    pub tied: bool,
}

#[derive(Deserialize)]
pub(super) struct Raw {
    model_type: Option<String>,
    pub(super) hidden_size: Option<u64>,
    pub(super) num_hidden_layers: Option<u64>,
    pub(super) num_attention_heads: Option<u64>,
    pub(super) num_key_value_heads: Option<u64>,
    pub(super) head_dim: Option<u64>,
    pub(super) intermediate_size: Option<u64>,
    pub(super) vocab_size: Option<u64>,
    pub(super) max_position_embeddings: Option<u64>,
    type_vocab_size: Option<u64>,
    pub(super) pad_token_id: Option<u64>,
    pub(super) hidden_act: Option<String>,
    layer_norm_eps: Option<f64>,
    pub(super) rms_norm_eps: Option<f64>,
    pub(super) rope_theta: Option<f64>,
    pub(super) rope_scaling: Option<serde_json::Value>,
    pub(super) rope_parameters: Option<serde_json::Value>,
    pub(super) attention_bias: Option<bool>,
    pub(super) mlp_bias: Option<bool>,
    pub(super) tie_word_embeddings: Option<bool>,
    position_embedding_type: Option<String>,
    is_decoder: Option<bool>,
    add_cross_attention: Option<bool>,
}

impl ModelConfig {
    /// Parses and checks the bytes of a `config.json`.
    ///
    /// # Errors
    /// Not JSON, an unknown `model_type`, a missing size, or one out of range.
    pub fn parse(bytes: &[u8]) -> Result<Self, ModelError> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(|error| ModelError::Config {
            field: "(whole file)",
            problem: format!("does not parse: {error}"),
        })?;
        let model_type = raw.model_type.clone().unwrap_or_else(|| "(absent)".to_owned());
        let architecture = match model_type.as_str() {
            "bert" => Architecture::Bert,
            "roberta" | "xlm-roberta" | "camembert" => Architecture::Roberta,
            "llama" => return llama::parse(&raw),
            _ => return Err(ModelError::UnknownArchitecture { found: model_type }),
        };
        refuse_unsupported(&raw)?;

        let hidden_size = size("hidden_size", raw.hidden_size, 1, 1 << 14)?;
        let heads = size("num_attention_heads", raw.num_attention_heads, 1, 1 << 10)?;
        if hidden_size % heads != 0 {
            return Err(ModelError::Config {
                field: "num_attention_heads",
                problem: format!("{heads} does not divide hidden_size = {hidden_size}"),
            });
        }
        let vocab_size = size("vocab_size", raw.vocab_size, 4, 1 << 22)?;
        let default_pad = match architecture {
            Architecture::Bert | Architecture::Llama => 0,
            Architecture::Roberta => 1,
        };
        let pad_token_id =
            size("pad_token_id", raw.pad_token_id.or(Some(default_pad)), 0, vocab_size as u64 - 1)?;
        let config = Self {
            architecture,
            hidden_size,
            layers: size("num_hidden_layers", raw.num_hidden_layers, 1, 1 << 10)?,
            heads,
            key_heads: heads,
            head_width: hidden_size / heads,
            intermediate_size: size("intermediate_size", raw.intermediate_size, 1, 1 << 17)?,
            vocab_size,
            position_rows: size("max_position_embeddings", raw.max_position_embeddings, 4, 1 << 17)?,
            type_rows: size("type_vocab_size", raw.type_vocab_size.or(Some(2)), 1, 1 << 10)?,
            pad_token_id: pad_token_id as u32,
            padding_is_said: true,
            activation: activation(raw.hidden_act.as_deref().unwrap_or("gelu"))?,
            norm_eps: norm_eps("layer_norm_eps", raw.layer_norm_eps.unwrap_or(1e-12))?,
            rope_theta: 0.0,
            tied: true,
        };
        if config.max_tokens() < 3 {
            return Err(ModelError::Config {
                field: "max_position_embeddings",
                problem: format!("{} leaves no room for text", config.position_rows),
            });
        }
        Ok(config)
    }

    /// The position embedding's row for a text's first token.
    pub fn first_position(&self) -> usize {
        match self.architecture {
            Architecture::Bert | Architecture::Llama => 0,
            Architecture::Roberta => self.pad_token_id as usize + 1,
        }
    }

    /// Width of queries, keys and values side by side.
    pub fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.key_heads) * self.head_width
    }

    /// The longest text the positions allow, in tokens.
    pub fn max_tokens(&self) -> usize {
        self.position_rows.saturating_sub(self.first_position())
    }
}

fn refuse_unsupported(raw: &Raw) -> Result<(), ModelError> {
    if let Some(kind) = raw.position_embedding_type.as_deref()
        && kind != "absolute"
    {
        return Err(ModelError::Config {
            field: "position_embedding_type",
            problem: format!("`{kind}` is not supported; only `absolute` is"),
        });
    }
    if raw.is_decoder == Some(true) || raw.add_cross_attention == Some(true) {
        return Err(ModelError::Config {
            field: "is_decoder",
            problem: "a decoder is not supported; give an encoder".to_owned(),
        });
    }
    Ok(())
}

pub(super) fn size(
    field: &'static str,
    value: Option<u64>,
    low: u64,
    high: u64,
) -> Result<usize, ModelError> {
    match value {
        Some(value) if (low..=high).contains(&value) => Ok(value as usize),
        Some(value) => {
            Err(ModelError::Config { field, problem: format!("{value} is out of range, {low} to {high}") })
        }
        None => Err(ModelError::Config { field, problem: "is missing".to_owned() }),
    }
}

fn activation(name: &str) -> Result<Activation, ModelError> {
    match name {
        "gelu" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        other => Err(ModelError::Config {
            field: "hidden_act",
            problem: format!("`{other}` is not known; known are gelu, gelu_new, gelu_pytorch_tanh, relu"),
        }),
    }
}

pub(super) fn norm_eps(field: &'static str, value: f64) -> Result<f64, ModelError> {
    if value > 0.0 && value < 1.0 {
        return Ok(value);
    }
    Err(ModelError::Config { field, problem: format!("{value} is out of range, above 0 and below 1") })
}
