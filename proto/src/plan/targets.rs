//! Which linear layers an adapter is put beside, in `peft`'s own words (`target_modules` of its `LoraConfig`).
//!
//! A list names the last parts of module names (`"query"` means `encoder.layer.0.attention.self.query` and its like); one string is a
//! regular expression that a whole name must match. Names are those of the bare encoder, or of the decoder with its output, as
//! `transformers` gives them. Python's and Rust's expressions agree but for look-around and back-references, which are refused here.

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

/// Longest pattern, bytes.
const MAX_PATTERN_BYTES: usize = 1000;
/// `peft`'s word for every linear layer but the output.
const ALL: &str = "all-linear";

/// `target_modules`, as in `peft`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TargetModules {
    /// Last parts of module names. Empty: no layer is adapted.
    Names(Vec<String>),
    /// A regular expression over whole module names.
    Pattern(String),
}

impl TargetModules {
    /// Whether no layer is adapted.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Names(names) if names.is_empty())
    }

    /// What tells whether a module is meant.
    ///
    /// # Errors
    ///
    /// A pattern that is not a regular expression, or a very large one; in words.
    pub fn matcher(&self) -> Result<Matcher<'_>, String> {
        let text = match self {
            Self::Names(names) => return Ok(Matcher::Names(names)),
            Self::Pattern(text) if text == ALL => return Ok(Matcher::All),
            Self::Pattern(text) => text,
        };
        if text.len() > MAX_PATTERN_BYTES {
            return Err(format!("a pattern of {} bytes; at most {MAX_PATTERN_BYTES} are read", text.len()));
        }
        // The whole name must match, as with Python's `re.fullmatch`.
        RegexBuilder::new(&format!("^(?:{text})$"))
            .size_limit(1 << 20)
            .build()
            .map(|regex| Matcher::Pattern { text, regex: Box::new(regex) })
            .map_err(|error| {
                // The last line of a syntax error says what is wrong, those before it point at it.
                let why = error.to_string();
                let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                format!("`{text}` is not a pattern that is understood here: {why}")
            })
    }
}

impl Default for TargetModules {
    fn default() -> Self {
        Self::Names(Vec::new())
    }
}

impl From<Vec<String>> for TargetModules {
    fn from(names: Vec<String>) -> Self {
        Self::Names(names)
    }
}

impl<const N: usize> From<[&str; N]> for TargetModules {
    fn from(names: [&str; N]) -> Self {
        Self::Names(names.map(str::to_owned).to_vec())
    }
}

/// Tells whether a module is meant; made by [`TargetModules::matcher`].
#[derive(Debug)]
pub enum Matcher<'a> {
    /// Last parts of names.
    Names(&'a [String]),
    /// A whole name.
    Pattern {
        /// As the plan has it.
        text: &'a str,
        /// The same, compiled.
        regex: Box<Regex>,
    },
    /// Every linear layer of the transformer's layers.
    All,
}

impl Matcher<'_> {
    /// Whether the module of this full name is meant.
    pub fn matches(&self, module: &str) -> bool {
        match self {
            Self::Names(names) => names.iter().any(|name| ends_in(module, name)),
            Self::Pattern { regex, .. } => regex.is_match(module),
            Self::All => true,
        }
    }

    /// The first target that matches none of `modules`, if there is one: a plan that names it was made for another model.
    pub fn unmatched<'m>(&self, modules: impl Iterator<Item = &'m str> + Clone) -> Option<String> {
        match self {
            Self::Names(names) => {
                names.iter().find(|name| !modules.clone().any(|module| ends_in(module, name))).cloned()
            }
            Self::Pattern { text, regex } => {
                let mut modules = modules;
                (!modules.any(|module| regex.is_match(module))).then(|| (*text).to_owned())
            }
            Self::All => modules.clone().next().is_none().then(|| ALL.to_owned()),
        }
    }
}

fn ends_in(module: &str, name: &str) -> bool {
    module == name || module.strip_suffix(name).is_some_and(|rest| rest.ends_with('.') && !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULES: [&str; 4] = [
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.self_attn.v_proj",
        "model.layers.11.self_attn.q_proj",
        "model.layers.11.mlp.up_proj",
    ];

    fn matched(targets: &TargetModules) -> Vec<&'static str> {
        let matcher = targets.matcher().unwrap();
        MODULES.into_iter().filter(|module| matcher.matches(module)).collect()
    }

    #[test]
    fn names_are_last_parts_and_a_pattern_is_the_whole_name() {
        assert_eq!(matched(&["q_proj"].into()), [MODULES[0], MODULES[2]]);
        assert_eq!(matched(&["11.self_attn.q_proj", "up_proj"].into()), [MODULES[2], MODULES[3]]);
        assert_eq!(matched(&["proj"].into()), [""; 0], "a part of a part is no part");
        assert_eq!(matched(&[""].into()), [""; 0]);
        let pattern = |text: &str| TargetModules::Pattern(text.to_owned());
        assert_eq!(matched(&pattern(r".*\.(q|v)_proj")), MODULES[..3]);
        assert_eq!(matched(&pattern(r"q_proj")), [""; 0], "as with re.fullmatch");
        assert_eq!(
            matched(&pattern(r"model\.layers\.\d\..*|.*up_proj")),
            [MODULES[0], MODULES[1], MODULES[3]]
        );
        assert_eq!(matched(&pattern("all-linear")), MODULES);
    }

    #[test]
    fn what_matches_nothing_is_named() {
        let unmatched = |targets: &TargetModules| targets.matcher().unwrap().unmatched(MODULES.into_iter());
        assert_eq!(unmatched(&["q_proj", "query"].into()), Some("query".to_owned()));
        assert_eq!(unmatched(&TargetModules::Pattern("q.*".into())), Some("q.*".to_owned()));
        assert_eq!(unmatched(&["q_proj"].into()), None);
        let error = TargetModules::Pattern("(?<=q)_proj".into()).matcher().unwrap_err();
        assert!(error.contains("look-around"), "{error}");
        let error = TargetModules::Pattern("(((a{100}){100}){100})".into()).matcher().unwrap_err();
        assert!(error.contains("size limit"), "{error}");
        assert!(TargetModules::Pattern("a".repeat(1001)).matcher().is_err());
    }
}
