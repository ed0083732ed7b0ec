//! The linear layers inside one transformer layer, by what they do; each family has names of its own for them.

use super::config::{Architecture, ModelConfig};

/// A linear layer of a transformer layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Module {
    /// `attention.self.query`, `self_attn.q_proj`
    Query,
    /// `attention.self.key`, `self_attn.k_proj`
    Key,
    /// `attention.self.value`, `self_attn.v_proj`
    Value,
    /// `attention.output.dense`, `self_attn.o_proj`
    AttentionOutput,
    /// `mlp.gate_proj`, of a decoder only
    Gate,
    /// `intermediate.dense`, `mlp.up_proj`
    Intermediate,
    /// `output.dense`, `mlp.down_proj`
    Output,
}

impl Module {
    /// A family's, in the order in which they are applied.
    pub fn of(architecture: Architecture) -> &'static [Self] {
        use Module::{AttentionOutput, Gate, Intermediate, Key, Output, Query, Value};
        match architecture {
            Architecture::Bert | Architecture::Roberta => {
                &[Query, Key, Value, AttentionOutput, Intermediate, Output]
            }
            Architecture::Llama => &[Query, Key, Value, AttentionOutput, Gate, Intermediate, Output],
        }
    }

    /// Its path inside a layer.
    pub fn path(self, architecture: Architecture) -> &'static str {
        let decoder = architecture == Architecture::Llama;
        let pick = |encoders: &'static str, decoders: &'static str| if decoder { decoders } else { encoders };
        match self {
            Self::Query => pick("attention.self.query", "self_attn.q_proj"),
            Self::Key => pick("attention.self.key", "self_attn.k_proj"),
            Self::Value => pick("attention.self.value", "self_attn.v_proj"),
            Self::AttentionOutput => pick("attention.output.dense", "self_attn.o_proj"),
            Self::Gate => "mlp.gate_proj",
            Self::Intermediate => pick("intermediate.dense", "mlp.up_proj"),
            Self::Output => pick("output.dense", "mlp.down_proj"),
        }
    }

    /// Its full name in a layer, as `transformers` has it: of the bare encoder, of the decoder with its output.
    pub fn name(self, architecture: Architecture, layer: usize) -> String {
        format!("{}.{}", layer_name(architecture, layer), self.path(architecture))
    }

    /// `(outputs, inputs)` of its weight.
    pub fn shape(self, config: &ModelConfig) -> (usize, usize) {
        let (d, wide) = (config.hidden_size, config.intermediate_size);
        let (queries, keys) = (config.heads * config.head_width, config.key_heads * config.head_width);
        match self {
            Self::Query => (queries, d),
            Self::Key | Self::Value => (keys, d),
            Self::AttentionOutput => (d, queries),
            Self::Gate | Self::Intermediate => (wide, d),
            Self::Output => (d, wide),
        }
    }
}

/// A layer's own name.
pub(super) fn layer_name(architecture: Architecture, layer: usize) -> String {
    match architecture {
        Architecture::Bert | Architecture::Roberta => format!("encoder.layer.{layer}"),
        Architecture::Llama => format!("model.layers.{layer}"),
    }
}
