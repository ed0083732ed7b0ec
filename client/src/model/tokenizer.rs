//! `tokenizer.json` → token ids. The file's own truncation and padding are replaced by the plan's length; padding is the
//! trainer's business. Special tokens (`[CLS] … [SEP]`, `<s> … </s>`, or a decoder's first token) come from the file's post-processor;
//! a decoder's file often adds none, and then the first token of a text is not predicted.

use tokenizers::Tokenizer;
use tokenizers::utils::truncation::{TruncationDirection, TruncationParams, TruncationStrategy};

use super::config::ModelConfig;
use super::error::ModelError;

/// A checked tokenizer that cuts every text to one length.
pub struct TextTokenizer {
    inner: Tokenizer,
    max_tokens: usize,
    vocab_size: usize,
}

impl std::fmt::Debug for TextTokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextTokenizer").field("max_tokens", &self.max_tokens).finish_non_exhaustive()
    }
}

impl TextTokenizer {
    /// Parses `tokenizer.json` and checks it against the model.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`], [`ModelError::TokenizerMismatch`] or [`ModelError::TooManyTokens`].
    pub(super) fn parse(bytes: &[u8], config: &ModelConfig, max_tokens: usize) -> Result<Self, ModelError> {
        if !(3..=config.max_tokens()).contains(&max_tokens) {
            return Err(ModelError::TooManyTokens { wanted: max_tokens, most: config.max_tokens() });
        }
        let failed = |error: tokenizers::Error| ModelError::Tokenizer { problem: error.to_string() };
        let mut inner = Tokenizer::from_bytes(bytes).map_err(failed)?;
        check_vocabulary(&inner, config)?;
        inner.with_padding(None);
        inner
            .with_truncation(Some(TruncationParams {
                direction: TruncationDirection::Right,
                max_length: max_tokens,
                strategy: TruncationStrategy::LongestFirst,
                stride: 0,
            }))
            .map_err(failed)?;
        Ok(Self { inner, max_tokens, vocab_size: config.vocab_size })
    }

    /// The most tokens that [`Self::encode`] returns.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The text's token ids with the special tokens, 1 to `max_tokens` of them, each below the model's `vocab_size`.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] if the tokenizer fails on this text or returns nothing.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let encoding = self
            .inner
            .encode_fast(text, true)
            .map_err(|error| ModelError::Tokenizer { problem: error.to_string() })?;
        let ids = encoding.get_ids();
        if ids.is_empty() || ids.len() > self.max_tokens {
            return Err(ModelError::Tokenizer {
                problem: format!(
                    "a text became {} tokens, expected 1 to {}; its post-processor is not this model's",
                    ids.len(),
                    self.max_tokens
                ),
            });
        }
        // A post-processor may add ids that stand in no vocabulary.
        if let Some(strange) = ids.iter().find(|id| **id as usize >= self.vocab_size) {
            return Err(ModelError::Tokenizer {
                problem: format!(
                    "a text became a token {strange}, and the model has {} rows; its post-processor is not this model's",
                    self.vocab_size
                ),
            });
        }
        Ok(ids.to_vec())
    }
}

/// Names of the token that fills up, in the families that are known.
const PADDING: [&str; 3] = ["[PAD]", "<pad>", "<|pad|>"];

/// A tokenizer belongs to a model if every id has a row, if hardly any row is without a token (vocabularies are padded to round
/// numbers, not doubled), and if both mean the same token by padding: two vocabularies of one size often differ there.
fn check_vocabulary(tokenizer: &Tokenizer, config: &ModelConfig) -> Result<(), ModelError> {
    let vocabulary = tokenizer.get_vocab(true);
    let largest_id = vocabulary.values().copied().max().unwrap_or(0);
    let spare = (config.vocab_size / 20).max(256);
    let fits = (largest_id as usize) < config.vocab_size
        && config.vocab_size - (largest_id as usize) <= spare
        && !vocabulary.is_empty();
    let padding = PADDING.iter().find_map(|token| Some((*token, *vocabulary.get(*token)?)));
    let said = fits && config.padding_is_said;
    if let Some((token, id)) = padding.filter(|(_, id)| said && *id != config.pad_token_id) {
        return Err(ModelError::TokenizerPadding { token, id, pad_token_id: config.pad_token_id });
    }
    if fits {
        return Ok(());
    }
    Err(ModelError::TokenizerMismatch {
        tokenizer_tokens: vocabulary.len(),
        largest_id,
        vocab_size: config.vocab_size,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Six words, the last of them the one that fills up.
    const WORDS: &str = r#"{"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "unk_token": "a",
        "vocab": {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4, "<pad>": 5}}}"#;

    #[test]
    fn a_decoder_that_names_no_padding_contradicts_none() {
        let file = include_str!("../../../tests/vectors/trainer/tiny-llama/config.json");
        let said = ModelConfig::parse(file.as_bytes()).unwrap();
        let said = ModelConfig { vocab_size: 6, ..said };
        let refused = TextTokenizer::parse(WORDS.as_bytes(), &said, 8).unwrap_err().to_string();
        assert!(
            refused.contains("it has `<pad>` as token 5, config.json says pad_token_id = 0"),
            "{refused}"
        );
        let silent = file.replacen("\"pad_token_id\": 0,", "", 1);
        let silent = ModelConfig { vocab_size: 6, ..ModelConfig::parse(silent.as_bytes()).unwrap() };
        TextTokenizer::parse(WORDS.as_bytes(), &silent, 8).unwrap();
    }
}
