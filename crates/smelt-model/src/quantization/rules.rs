//! Rules that say which modules are quantized, and how: the first that matches a module counts.
//!
//! A pattern is a run of segments of a module's path, `layers.0-10.attention` or `mlp.down_proj`: each a name, a
//! number, a range of numbers with both ends, or `*`. `*` alone matches everything.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};
use smelt_backend::kernels::QuantizationFormat;

use crate::error::{ModelError, nearest};

/// Values that share a scale where a rule does not say how many.
pub const GROUP_SIZE: u64 = 64;

const ANY: &str = "*";
/// Names besides those of the modules, and what they stand for.
const ALIASES: [(&str, &str); 1] = [("attention", "self_attn")];
/// Where the projections of experts are, which are those of an `mlp`, too; the router is none of them.
const EXPERTS: [&str; 2] = [".moe.experts.*.", ".moe.shared_expert."];
/// Modules that not every model has: a rule for one is no mistake.
const SOMETIMES: [&str; 5] = ["lm_head", "embed_positions", "mlp", "moe", "experts"];
/// Keys of a rule.
const RULE_KEYS: [&str; 2] = ["bits", "group_size"];

/// Rules in the order in which they are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantizationRules {
    pub(super) rules: Vec<Rule>,
    /// Every module that mlx-lm would quantize, and in its way.
    pub(super) usual: Option<QuantizationFormat>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// As it was written.
    pub(super) text: String,
    segments: Vec<Segment>,
    /// `None` leaves modules as they are.
    pub(super) format: Option<QuantizationFormat>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Any,
    Numbers(RangeInclusive<usize>),
    Name(String),
}

impl QuantizationRules {
    /// All that mlx-lm quantizes, in `format`: projections, heads and tables whose rows divide into groups.
    pub fn uniform(format: QuantizationFormat) -> Self {
        Self { rules: Vec::new(), usual: Some(format) }
    }

    /// Patterns and what becomes of the modules that they match: `{bits, group_size}`, or `false` or `dense` to leave
    /// them. What no pattern matches is left.
    ///
    /// # Errors
    /// [`ModelError::BadRule`] for a pattern that is none, or another value.
    pub fn from_json(rules: &Map<String, Value>) -> Result<Self, ModelError> {
        let rules = rules.iter().map(|(text, value)| Rule::new(text, value)).collect::<Result<_, _>>()?;
        Ok(Self { rules, usual: None })
    }

    /// Every name in the patterns is one of a model whose modules are at `paths`.
    ///
    /// # Errors
    /// [`ModelError::BadRule`] with the nearest name.
    pub(super) fn check_names<'a>(
        &self,
        paths: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<(), ModelError> {
        for rule in &self.rules {
            for segment in &rule.segments {
                let Segment::Name(name) = segment else { continue };
                let known = || {
                    let others = ALIASES.iter().map(|(alias, _)| *alias).chain(SOMETIMES);
                    paths.clone().flat_map(|path| path.split('.')).chain(others)
                };
                if known().all(|known| known != name) {
                    let near = nearest(name, known());
                    let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                    return Err(bad(&rule.text, format!("no module is called `{name}`{near}")));
                }
            }
        }
        Ok(())
    }
}

impl Rule {
    fn new(text: &str, value: &Value) -> Result<Self, ModelError> {
        let segments = text.split('.').map(Segment::new).collect::<Option<_>>();
        let segments = segments.ok_or_else(|| {
            bad(text, "expected names, numbers, ranges such as `0-10`, or `*`, with dots between".to_owned())
        })?;
        Ok(Self { text: text.to_owned(), segments, format: format(text, value)? })
    }

    /// The pattern matches the module at `path`.
    pub(super) fn matches(&self, path: &str) -> bool {
        let as_mlp = EXPERTS.iter().find(|part| path.contains(*part)).map(|part| path.replace(part, ".mlp."));
        self.fits(path) || as_mlp.is_some_and(|path| self.fits(&path))
    }

    fn fits(&self, path: &str) -> bool {
        let path: Vec<&str> = path.split('.').collect();
        let fits = |run: &[&str]| self.segments.iter().zip(run).all(|(segment, name)| segment.matches(name));
        path.windows(self.segments.len()).any(fits)
    }
}

impl Segment {
    fn new(text: &str) -> Option<Self> {
        if text == ANY {
            return Some(Self::Any);
        }
        if let Some((first, last)) = text.split_once('-') {
            let range = first.parse().ok()?..=last.parse().ok()?;
            return (!range.is_empty()).then_some(Self::Numbers(range));
        }
        if let Ok(number) = text.parse() {
            return Some(Self::Numbers(number..=number));
        }
        let is_name = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        (is_name && !text.is_empty()).then(|| Self::Name(text.to_owned()))
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Numbers(range) => name.parse().is_ok_and(|number: usize| range.contains(&number)),
            Self::Name(own) => {
                own == name || ALIASES.iter().any(|(alias, stands_for)| alias == own && *stands_for == name)
            }
        }
    }
}

/// What `value` makes of modules.
fn format(rule: &str, value: &Value) -> Result<Option<QuantizationFormat>, ModelError> {
    let fields = match value {
        Value::Bool(false) => return Ok(None),
        Value::String(word) if word == "dense" => return Ok(None),
        Value::Object(fields) => fields,
        other => {
            let expected = "expected `{bits: 4}`, `{bits: 8, group_size: 128}`, `false` or `dense`";
            return Err(bad(rule, format!("{expected}, found {other}")));
        }
    };
    if let Some(key) = fields.keys().find(|key| !RULE_KEYS.contains(&key.as_str())) {
        let near = nearest(key, RULE_KEYS);
        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        return Err(bad(rule, format!("unknown key `{key}`{near}")));
    }
    let number = |key: &str| {
        fields.get(key).map(|value| {
            value.as_u64().ok_or_else(|| bad(rule, format!("`{key}` is {value}, expected a whole number")))
        })
    };
    let bits = number("bits").ok_or_else(|| bad(rule, "lacks `bits`".to_owned()))??;
    let group_size = number("group_size").transpose()?.unwrap_or(GROUP_SIZE);
    let format = QuantizationFormat::new(bits, group_size);
    format.map(Some).map_err(|error| bad(rule, error.to_string()))
}

fn bad(rule: &str, reason: String) -> ModelError {
    ModelError::BadRule { rule: rule.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(text: &str) -> Rule {
        Rule::new(text, &json!({"bits": 4})).unwrap()
    }

    #[test]
    fn patterns_match_runs_of_segments() {
        let q = "layers.3.self_attn.q_proj";
        for text in
            ["*", "q_proj", "layers.3", "layers.0-3.attention", "layers.*.self_attn.q_proj", "*.q_proj"]
        {
            assert!(rule(text).matches(q), "{text}");
        }
        for text in ["layers.4", "layers.0-2.attention", "layers.q_proj", "mlp", "lm_head", "proj"] {
            assert!(!rule(text).matches(q), "{text}");
        }
        let expert = "layers.0.moe.experts.*.up_proj";
        assert!(rule("layers.*.mlp").matches(expert));
        assert!(rule("layers.0.mlp.up_proj").matches(expert));
        assert!(rule("mlp.up_proj").matches("layers.2.moe.shared_expert.up_proj"));
        assert!(!rule("mlp").matches("layers.0.moe.router"), "a router is left as it is");
        assert!(rule("moe.experts").matches(expert));
        assert!(rule("experts.*.up_proj").matches(expert));
        assert!(!rule("experts.2.up_proj").matches(expert), "experts of a block are quantized alike");
        assert!(rule("lm_head").matches("lm_head"));
    }

    #[test]
    fn bad_rules_say_what_is_wrong() {
        let cases = [
            ("layers..mlp", json!({"bits": 4}), "expected names, numbers"),
            ("layers.9-3", json!({"bits": 4}), "expected names, numbers"),
            ("mlp", json!({"bit": 4}), "unknown key `bit`; did you mean `bits`?"),
            ("mlp", json!({"group_size": 64}), "lacks `bits`"),
            ("mlp", json!({"bits": 7}), "`bits` is 7"),
            ("mlp", json!({"bits": "4"}), "`bits` is \"4\", expected a whole number"),
            ("mlp", json!({"bits": 4, "group_size": 16}), "`group_size` is 16"),
            ("mlp", json!("sparse"), "found \"sparse\""),
            ("mlp", json!(true), "found true"),
        ];
        for (text, value, message) in cases {
            let error = Rule::new(text, &value).unwrap_err().to_string();
            assert!(error.contains(message) && error.contains(&format!("`{text}`")), "{error}");
        }
        assert_eq!(Rule::new("mlp", &json!(false)).unwrap().format, None);
        assert_eq!(Rule::new("mlp", &json!("dense")).unwrap().format, None);
    }

    #[test]
    fn names_of_no_module_are_told_with_the_nearest() {
        let paths = ["layers.0.self_attn.q_proj", "lm_head"];
        let check = |text: &str| {
            let rules = Map::from_iter([(text.to_owned(), json!(false))]);
            let rules = QuantizationRules::from_json(&rules).unwrap();
            rules.check_names(paths.into_iter()).map_err(|error| error.to_string())
        };
        assert!(check("layers.*.attention").is_ok());
        assert!(check("embed_positions").is_ok(), "other models have them");
        assert!(check("layers.*.q_prj").unwrap_err().contains("did you mean `q_proj`?"));
        assert!(check("lm_heed").unwrap_err().contains("did you mean `lm_head`?"));
    }
}
