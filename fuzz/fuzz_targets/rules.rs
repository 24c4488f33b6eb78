//! Any text as a YAML file of quantization rules: parsed, and applied to a small model.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use smelt_fuzz::small_model;
use smelt_model::quantization::QuantizationRules;

// The command line is too much to build for one of its files.
#[allow(dead_code)]
#[path = "../../crates/smelt-cli/src/config/yaml.rs"]
mod yaml;

fuzz_target!(|text: &str| {
    let Ok(Some(document)) = yaml::parse(text) else { return };
    let Value::Object(rules) = document.to_json() else { return };
    let Ok(rules) = QuantizationRules::from_json(&rules) else { return };
    let model = small_model();
    let Ok(plan) = rules.plan(&model) else { return };
    let written = plan.applied_to(&model).quantization.expect("a plan quantizes something");
    assert_eq!(written, plan.quantization);
});
