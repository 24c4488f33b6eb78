//! What `--quantize` means for folders in MLX's layout: a preset or a file of rules.

use std::path::Path;

use serde_json::Value;
use smelt_backend::kernels::QuantizationFormat;
use smelt_model::quantization::{GROUP_SIZE, QuantizationPlan, QuantizationRules};

use crate::config::{ConfigError, Origin, yaml};
use crate::error::CliError;

/// Names for one format of all that mlx-lm quantizes, and their bits.
const PRESETS: [(&str, u64); 6] =
    [("q2_bit", 2), ("q3_bit", 3), ("q4_bit", 4), ("q5_bit", 5), ("q6_bit", 6), ("q8_bit", 8)];
/// Modules that a note names before it only counts the rest.
const NAMED: usize = 3;

/// The rules that `given` names: a preset in groups of `group_size`, or a YAML file.
///
/// # Errors
/// [`CliError::Usage`] for what is neither, [`CliError::Io`], [`CliError::Config`] for a file that is no YAML, and
/// [`CliError::Model`] for a rule that is none.
pub fn rules(given: &str, group_size: Option<u64>) -> Result<QuantizationRules, CliError> {
    if let Some((_, bits)) = PRESETS.iter().find(|(name, _)| *name == given) {
        let format = QuantizationFormat::new(*bits, group_size.unwrap_or(GROUP_SIZE));
        return format.map(QuantizationRules::uniform).map_err(|error| CliError::Usage {
            message: error.to_string(),
            hint: "give another `--group-size`".to_owned(),
        });
    }
    let path = Path::new(given);
    if !path.is_file() {
        let names = PRESETS.map(|(name, _)| format!("`{name}`")).join(", ");
        return Err(CliError::Usage {
            message: format!("`{given}` is neither a preset nor a file of rules"),
            hint: format!("the presets are {names}; docs/quantization.md shows a file of rules"),
        });
    }
    if group_size.is_some() {
        return Err(CliError::Usage {
            message: "`--group-size` and a file of rules exclude each other".to_owned(),
            hint: format!("give `group_size` to the rules of `{given}`"),
        });
    }
    let text = std::fs::read_to_string(path).map_err(|source| CliError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    let syntax = |error: yaml::YamlError| ConfigError::Syntax {
        origin: Origin::File { path: path.to_owned(), line: error.line },
        message: error.message,
    };
    match yaml::parse(&text).map_err(syntax)?.map(|rules| rules.to_json()) {
        Some(Value::Object(rules)) => Ok(QuantizationRules::from_json(&rules)?),
        _ => Err(CliError::Usage {
            message: format!("`{given}` holds no rules"),
            hint: "a rule is a line such as `layers.*.mlp: {bits: 4}`".to_owned(),
        }),
    }
}

/// What the user should know of a plan.
pub fn notes(plan: &QuantizationPlan) -> Vec<String> {
    let idle = plan
        .idle_rules
        .iter()
        .map(|rule| format!("the rule `{rule}` matches nothing that no earlier one does"));
    let left = plan.indivisible.split_at_checked(NAMED).unwrap_or((&plan.indivisible, &[]));
    let named = || left.0.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
    let left = match left {
        ([], _) => None,
        (_, []) => Some(format!("rows do not divide into groups, so these stay as they are: {}", named())),
        (_, more) => Some(format!(
            "rows do not divide into groups, so these stay as they are: {} and {} more",
            named(),
            more.len()
        )),
    };
    idle.chain(left).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_and_files_are_told_apart() {
        let uniform = |bits, group_size| {
            QuantizationRules::uniform(QuantizationFormat::new(bits, group_size).expect("a format"))
        };
        assert_eq!(rules("q4_bit", None).unwrap(), uniform(4, 64));
        assert_eq!(rules("q8_bit", Some(32)).unwrap(), uniform(8, 32));
        assert!(rules("q8_bit", Some(48)).unwrap_err().to_string().contains("`group_size` is 48"));
        assert!(rules("q4", None).unwrap_err().to_string().contains("neither a preset nor a file"));
        let file = tempfile::NamedTempFile::new().unwrap();
        let given = file.path().to_str().unwrap();
        let text = "layers.0-1.attention: {bits: 8, group_size: 128}\nlm_head: dense\n\"*\": {bits: 4}\n";
        std::fs::write(file.path(), text).unwrap();
        let Value::Object(expected) = serde_json::json!({
            "layers.0-1.attention": {"bits": 8, "group_size": 128}, "lm_head": "dense", "*": {"bits": 4},
        }) else {
            unreachable!("written as an object")
        };
        assert_eq!(rules(given, None).unwrap(), QuantizationRules::from_json(&expected).unwrap());
        assert!(rules(given, Some(64)).unwrap_err().to_string().contains("exclude each other"));
        std::fs::write(file.path(), "- 4\n").unwrap();
        assert!(rules(given, None).unwrap_err().to_string().contains("holds no rules"));
    }
}
