//! `config.json` of a Llama-family decoder. Everything that this build does not compute (scaled rotary positions, biases) is refused
//! by name; a field that is absent has the value that `transformers` gives it.

use serde_json::Value;

use super::config::{Activation, Architecture, ModelConfig, Raw, norm_eps, size};
use super::error::ModelError;

/// `transformers`' base of the rotary wavelengths where the file names none.
const DEFAULT_THETA: f64 = 10_000.0;

pub(super) fn parse(raw: &Raw) -> Result<ModelConfig, ModelError> {
    let hidden_size = size("hidden_size", raw.hidden_size, 1, 1 << 14)?;
    let heads = size("num_attention_heads", raw.num_attention_heads, 1, 1 << 10)?;
    let key_heads = size("num_key_value_heads", raw.num_key_value_heads.or(Some(heads as u64)), 1, 1 << 10)?;
    if heads % key_heads != 0 {
        return refuse(
            "num_key_value_heads",
            format!("{key_heads} does not divide num_attention_heads = {heads}"),
        );
    }
    let head_width = match raw.head_dim {
        Some(_) => size("head_dim", raw.head_dim, 2, 1 << 10)?,
        None if hidden_size % heads == 0 => hidden_size / heads,
        None => {
            let problem =
                format!("{heads} does not divide hidden_size = {hidden_size}, and head_dim is missing");
            return refuse("num_attention_heads", problem);
        }
    };
    if head_width % 2 != 0 {
        return refuse("head_dim", format!("{head_width} is odd; rotary positions turn pairs"));
    }
    match raw.hidden_act.as_deref().unwrap_or("silu") {
        "silu" | "swish" => {}
        other => return refuse("hidden_act", format!("`{other}` is not supported in a decoder; silu is")),
    }
    for (field, bias) in [("attention_bias", raw.attention_bias), ("mlp_bias", raw.mlp_bias)] {
        if bias == Some(true) {
            return refuse(field, "true is not supported; only decoders without biases are".to_owned());
        }
    }
    let vocab_size = size("vocab_size", raw.vocab_size, 4, 1 << 22)?;
    // Rows of filler are embedded as this token and never looked at.
    let pad_token_id = size("pad_token_id", raw.pad_token_id.or(Some(0)), 0, vocab_size as u64 - 1)?;
    Ok(ModelConfig {
        architecture: Architecture::Llama,
        hidden_size,
        layers: size("num_hidden_layers", raw.num_hidden_layers, 1, 1 << 10)?,
        heads,
        key_heads,
        head_width,
        intermediate_size: size("intermediate_size", raw.intermediate_size, 1, 1 << 17)?,
        vocab_size,
        position_rows: size(
            "max_position_embeddings",
            raw.max_position_embeddings.or(Some(2048)),
            4,
            1 << 24,
        )?,
        type_rows: 0,
        pad_token_id: pad_token_id as u32,
        padding_is_said: raw.pad_token_id.is_some(),
        activation: Activation::Silu,
        norm_eps: norm_eps("rms_norm_eps", raw.rms_norm_eps.unwrap_or(1e-6))?,
        rope_theta: rope_theta(raw)?,
        tied: raw.tie_word_embeddings.unwrap_or(false),
    })
}

/// Older files have `rope_theta` and `rope_scaling`, newer ones `rope_parameters` with both.
fn rope_theta(raw: &Raw) -> Result<f64, ModelError> {
    let described = [("rope_scaling", &raw.rope_scaling), ("rope_parameters", &raw.rope_parameters)];
    for (field, value) in described {
        let kind = value.as_ref().and_then(|value| value.get("rope_type").or(value.get("type")));
        match kind.map(|kind| kind.as_str().unwrap_or("?")) {
            None | Some("default") => {}
            Some(kind) => {
                return refuse(
                    field,
                    format!("`{kind}` is not supported; only unscaled rotary positions are"),
                );
            }
        }
    }
    let newer =
        raw.rope_parameters.as_ref().and_then(|value| value.get("rope_theta")).and_then(Value::as_f64);
    let theta = newer.or(raw.rope_theta).unwrap_or(DEFAULT_THETA);
    if (1.0..=1e12).contains(&theta) {
        return Ok(theta);
    }
    refuse("rope_theta", format!("{theta} is out of range, 1 to 1e12"))
}

fn refuse<T>(field: &'static str, problem: String) -> Result<T, ModelError> {
    Err(ModelError::Config { field, problem })
}
