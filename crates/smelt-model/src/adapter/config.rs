//! `adapter_config.json` as PEFT writes it.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::ModelError;

/// File name of an adapter's configuration.
pub const ADAPTER_CONFIG_FILE: &str = "adapter_config.json";

/// What an adapter changes, in PEFT's vocabulary (`LoraConfig`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AdapterConfig {
    /// The model it was trained on: a folder or the name of a repository.
    pub base_model_name_or_path: Option<String>,
    /// Which biases of the base are trained along.
    pub bias: AdapterBias,
    /// Modules that stay as they are though `target_modules` names them.
    pub exclude_modules: Option<ModuleNames>,
    /// How the adapter was started.
    pub init_lora_weights: Value,
    /// Layers to adapt; all where it is left out.
    pub layers_to_transform: Option<LayerIndices>,
    /// What layers are called in module names, for `layers_to_transform`.
    pub layers_pattern: Option<ModuleNames>,
    /// The update is scaled by `lora_alpha / r`, or `lora_alpha / sqrt(r)` with `use_rslora`.
    pub lora_alpha: f64,
    /// Dropout on what enters the adapter, in training.
    pub lora_dropout: f64,
    /// Modules that are trained and saved whole.
    pub modules_to_save: Option<Vec<String>>,
    /// Rank.
    pub r: usize,
    /// Other ranks, by patterns of the ends of module names; the first that fits counts.
    pub rank_pattern: IndexMap<String, usize>,
    /// Other alphas, likewise.
    pub alpha_pattern: IndexMap<String, f64>,
    /// Modules to adapt: names or ends of names, a pattern for whole names, or `all-linear`.
    pub target_modules: ModuleNames,
    /// DoRA (Liu et al. 2024, arXiv:2402.09353).
    pub use_dora: bool,
    /// Rank-stabilised scaling (Kalajdzievski 2023, arXiv:2312.03732).
    pub use_rslora: bool,
}

/// Which biases of the base an adapter trains along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdapterBias {
    /// None.
    #[default]
    None,
    /// All of the model.
    All,
    /// Those of adapted modules.
    LoraOnly,
}

/// One pattern, or several names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a list of names, a pattern, or `all-linear`")]
pub enum ModuleNames {
    /// A regular expression that whole names must match, or `all-linear`.
    Pattern(String),
    /// Names, each whole or the end of one behind a dot.
    Names(Vec<String>),
}

/// One layer, or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a layer, or a list of layers")]
pub enum LayerIndices {
    /// One.
    One(usize),
    /// Several.
    Several(Vec<usize>),
}

/// All projections but the head.
pub(super) const ALL_LINEAR: &str = "all-linear";

impl Default for AdapterConfig {
    /// Rank 16 on all projections of all blocks, with `lora_alpha` 32.
    fn default() -> Self {
        Self {
            base_model_name_or_path: None,
            bias: AdapterBias::None,
            exclude_modules: None,
            init_lora_weights: Value::Bool(true),
            layers_to_transform: None,
            layers_pattern: None,
            lora_alpha: 32.0,
            lora_dropout: 0.0,
            modules_to_save: None,
            r: 16,
            rank_pattern: IndexMap::new(),
            alpha_pattern: IndexMap::new(),
            target_modules: ModuleNames::Pattern(ALL_LINEAR.to_owned()),
            use_dora: false,
            use_rslora: false,
        }
    }
}

/// Keys of PEFT that change what an adapter computes, in ways that are not supported.
const UNSUPPORTED: [&str; 16] = [
    "alora_invocation_tokens",
    "arrow_config",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "layer_replication",
    "loftq_config",
    "lora_bias",
    "lora_ga_config",
    "kasa_config",
    "megatron_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
    "velora_config",
];

/// Values of `init_lora_weights` that leave the base as it was; others subtract the start from it.
const PLAIN_STARTS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// Largest rank that is believed: above, an adapter is larger than most weights.
const MOST_R: usize = 1 << 16;

impl AdapterConfig {
    /// Reads `adapter_config.json`; keys that change nothing are passed over.
    ///
    /// # Errors
    /// [`ModelError::BadAdapterValue`] for another method than LoRA, for what is not supported, and for numbers that
    /// cannot be.
    pub fn from_json(value: Value) -> Result<Self, ModelError> {
        let Value::Object(raw) = &value else {
            return Err(bad(ADAPTER_CONFIG_FILE, &value, "a JSON object"));
        };
        let method = raw.get("peft_type").unwrap_or(&Value::Null);
        if method.as_str().is_none_or(|method| !method.eq_ignore_ascii_case("lora")) {
            return Err(bad("peft_type", method, "`LORA`"));
        }
        for key in UNSUPPORTED {
            if let Some(found) = raw.get(key).filter(|value| !is_inert(value)) {
                return Err(bad(key, found, "nothing: it is not supported"));
            }
        }
        let start = raw.get("init_lora_weights").unwrap_or(&Value::Null);
        if start.as_str().is_some_and(|start| !PLAIN_STARTS.contains(&start)) {
            return Err(bad("init_lora_weights", start, "a start that leaves the base as it was"));
        }
        let given = raw.iter().filter(|(_, value)| !value.is_null());
        let mut own: Map<String, Value> = given.map(|(key, value)| (key.clone(), value.clone())).collect();
        // PEFT's own defaults, which a file may leave out.
        own.entry("r").or_insert(8.into());
        own.entry("lora_alpha").or_insert(8.into());
        let config: Self = serde_json::from_value(Value::Object(own)).map_err(|source| {
            bad(ADAPTER_CONFIG_FILE, &source.to_string().into(), "PEFT's configuration of an adapter")
        })?;
        config.check()?;
        Ok(config)
    }

    /// Checks the numbers, alone and against each other.
    ///
    /// # Errors
    /// [`ModelError::BadAdapterValue`].
    pub fn check(&self) -> Result<(), ModelError> {
        let ranks = self.rank_pattern.values().chain([&self.r]);
        if let Some(r) = ranks.into_iter().find(|r| **r == 0 || **r > MOST_R) {
            return Err(bad("r", &(*r).into(), &format!("a rank from 1 to {MOST_R}")));
        }
        let mut alphas = self.alpha_pattern.values().chain([&self.lora_alpha]);
        if let Some(alpha) = alphas.find(|alpha| !alpha.is_finite()) {
            return Err(bad("lora_alpha", &(*alpha).into(), "a finite number"));
        }
        if !(0.0..1.0).contains(&self.lora_dropout) {
            return Err(bad("lora_dropout", &self.lora_dropout.into(), "a probability below 1"));
        }
        if self.layers_to_transform.is_some() && matches!(self.target_modules, ModuleNames::Pattern(_)) {
            let all = matches!(&self.target_modules, ModuleNames::Pattern(text) if text == ALL_LINEAR);
            if !all {
                let found = serde_json::to_value(&self.target_modules).unwrap_or_default();
                return Err(bad("target_modules", &found, "names, where `layers_to_transform` is given"));
            }
        }
        Ok(())
    }

    /// The factor on the product of a module's matrices.
    pub(super) fn scaling(&self, r: usize, alpha: f64) -> f64 {
        if self.use_rslora { alpha / (r as f64).sqrt() } else { alpha / r as f64 }
    }

    /// `adapter_config.json` as PEFT reads it.
    pub fn to_json(&self) -> Value {
        let mut value = serde_json::to_value(self).expect("a configuration is plain data");
        value["peft_type"] = "LORA".into();
        value["task_type"] = "CAUSAL_LM".into();
        value["inference_mode"] = true.into();
        value
    }
}

/// Values with which a key changes nothing.
fn is_inert(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

pub(super) fn bad(key: &str, found: &Value, expected: &str) -> ModelError {
    let (key, found, expected) = (key.to_owned(), found.to_string(), expected.to_owned());
    ModelError::BadAdapterValue { key, found, expected }
}

impl LayerIndices {
    pub(super) fn contains(&self, layer: usize) -> bool {
        match self {
            Self::One(one) => *one == layer,
            Self::Several(several) => several.contains(&layer),
        }
    }
}
