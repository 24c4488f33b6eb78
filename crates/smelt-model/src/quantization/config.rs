//! The section `quantization` of `config.json`, as mlx-lm writes it.

use indexmap::IndexMap;
use serde_json::{Map, Value, json};
use smelt_backend::kernels::{QuantizationError, QuantizationFormat};

use crate::error::ModelError;

/// Where mlx-lm writes the section, and where it repeats it for the hub.
const KEYS: [&str; 2] = ["quantization", "quantization_config"];
/// The one way of packing that there is here; others scale by powers of two or in small floats.
const AFFINE: &str = "affine";
/// What mlx-lm takes for a module that is named without these.
const USUAL: (u64, u64) = (4, 64);

/// How the weights of a folder are packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantization {
    /// The format of packed modules that are not named.
    pub default: QuantizationFormat,
    /// Modules by mlx-lm's names, with their formats; `None` for those that are not packed.
    pub modules: IndexMap<String, Option<QuantizationFormat>>,
}

impl Quantization {
    /// The section as [`Quantization::to_json`] writes it.
    ///
    /// # Errors
    /// [`ModelError::BadValue`] and [`ModelError::MissingKey`] for what it never writes.
    pub fn from_json(section: Value) -> Result<Option<Self>, ModelError> {
        Self::of(&Map::from_iter([(KEYS[0].to_owned(), section)]))
    }

    /// All packed modules in `format`.
    pub fn uniform(format: QuantizationFormat) -> Self {
        Self { default: format, modules: IndexMap::new() }
    }

    /// The formats of `modules`, which are mlx-lm's names with the values of a row: those are named whose format is
    /// not `default`.
    pub(crate) fn of_modules(
        default: QuantizationFormat,
        modules: impl Iterator<Item = (String, usize, Option<QuantizationFormat>)>,
    ) -> Self {
        // Where rows do not divide into groups, nobody expects codes.
        let is_expected = |columns, format: Option<_>| format.is_some() || default.groups(columns).is_ok();
        let named =
            modules.filter(|(_, columns, format)| *format != Some(default) && is_expected(*columns, *format));
        Self { default, modules: named.map(|(name, _, format)| (name, format)).collect() }
    }

    /// What a `config.json` says; `None` if it says nothing.
    ///
    /// # Errors
    /// [`ModelError::BadValue`] for another way of packing, or for bits and groups that there are not.
    pub(crate) fn of(raw: &Map<String, Value>) -> Result<Option<Self>, ModelError> {
        let found =
            KEYS.into_iter().find_map(|key| Some((key, raw.get(key).filter(|value| !value.is_null())?)));
        let Some((key, value)) = found else { return Ok(None) };
        let Value::Object(section) = value else {
            return Err(bad(key, value, "an object with `bits` and `group_size`"));
        };
        if let Some(method) = section.get("quant_method") {
            let expected = "no other method than that of mlx-lm: `bits` and `group_size`";
            return Err(bad(&format!("{key}.quant_method"), method, expected));
        }
        let default = format(key, section, None)?;
        let mut modules = IndexMap::new();
        for (name, value) in section {
            let own = match value {
                // To mlx-lm, nothing said is a no.
                Value::Object(own) if own.is_empty() => None,
                Value::Object(own) => Some(format(&format!("{key}.{name}"), own, Some(USUAL))?),
                Value::Bool(true) => Some(default),
                Value::Bool(false) => None,
                _ => continue,
            };
            modules.insert(name.clone(), own);
        }
        Ok(Some(Self { default, modules }))
    }

    /// The format of the module that mlx-lm calls `name`, if it is packed.
    pub fn format_of(&self, name: &str) -> Option<QuantizationFormat> {
        self.modules.get(name).copied().unwrap_or(Some(self.default))
    }

    /// The section.
    pub fn to_json(&self) -> Value {
        let mut section = object(self.default);
        section.insert("mode".to_owned(), AFFINE.into());
        for (name, format) in &self.modules {
            section.insert(name.clone(), format.map_or(false.into(), |format| object(format).into()));
        }
        section.into()
    }

    /// Writes the section into a `config.json`, under both keys.
    pub(crate) fn write(&self, raw: &mut Map<String, Value>) {
        for key in KEYS {
            raw.insert(key.to_owned(), self.to_json());
        }
    }

    /// Takes the section out of a `config.json`.
    pub(crate) fn remove(raw: &mut Map<String, Value>) {
        for key in KEYS {
            raw.shift_remove(key);
        }
    }
}

fn object(format: QuantizationFormat) -> Map<String, Value> {
    let fields = [("group_size", json!(format.group_size())), ("bits", json!(format.bits()))];
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The format that `section` describes, which may leave out what is `usual`.
fn format(
    key: &str,
    section: &Map<String, Value>,
    usual: Option<(u64, u64)>,
) -> Result<QuantizationFormat, ModelError> {
    if let Some(mode) = section.get("mode").filter(|mode| mode.as_str() != Some(AFFINE)) {
        return Err(bad(&format!("{key}.mode"), mode, "`affine`; other modes are not supported"));
    }
    let number = |name: &str, usual: Option<u64>| {
        let key = format!("{key}.{name}");
        match (section.get(name), usual) {
            (Some(value), _) => value.as_u64().ok_or_else(|| bad(&key, value, "a whole number")),
            (None, Some(usual)) => Ok(usual),
            (None, None) => Err(ModelError::MissingKey { key, expected: "a whole number".to_owned() }),
        }
    };
    let bits = number("bits", usual.map(|usual| usual.0))?;
    let group_size = number("group_size", usual.map(|usual| usual.1))?;
    QuantizationFormat::new(bits, group_size).map_err(|error| match error {
        QuantizationError::GroupSize { found } => {
            bad(&format!("{key}.group_size"), &found.into(), "32, 64 or 128")
        }
        _ => bad(&format!("{key}.bits"), &bits.into(), "2, 3, 4, 5, 6 or 8"),
    })
}

fn bad(key: &str, found: &Value, expected: &str) -> ModelError {
    ModelError::BadValue { key: key.to_owned(), found: found.to_string(), expected: expected.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: Value) -> Result<Option<Quantization>, String> {
        Quantization::of(config.as_object().unwrap()).map_err(|error| error.to_string())
    }

    fn format(bits: u64, group_size: u64) -> QuantizationFormat {
        QuantizationFormat::new(bits, group_size).unwrap()
    }

    #[test]
    fn a_section_is_read_as_mlx_lm_writes_it_and_written_the_same() {
        let section = json!({
            "group_size": 64, "bits": 4, "mode": "affine",
            "model.layers.0.mlp.down_proj": {"group_size": 32, "bits": 8},
            "lm_head": false,
        });
        for key in KEYS {
            let found = read(json!({ key: section })).unwrap().unwrap();
            assert_eq!(found.default, format(4, 64));
            assert_eq!(found.format_of("model.layers.0.mlp.down_proj"), Some(format(8, 32)));
            assert_eq!(found.format_of("lm_head"), None);
            assert_eq!(found.format_of("model.layers.1.mlp.down_proj"), Some(format(4, 64)));
            let mut raw = Map::new();
            found.write(&mut raw);
            assert_eq!(raw[KEYS[0]], section);
            assert_eq!(raw[KEYS[1]], section);
        }
        assert_eq!(read(json!({})), Ok(None));
        assert_eq!(read(json!({"quantization": null})), Ok(None));
        let named = json!({"bits": 8, "group_size": 32, "a": {"bits": 2}, "b": true, "c": {}});
        let named = read(json!({ "quantization": named })).unwrap().unwrap();
        assert_eq!(named.format_of("a"), Some(format(2, 64)), "what mlx-lm takes for a module");
        assert_eq!(named.format_of("b"), Some(format(8, 32)));
        assert_eq!(named.format_of("c"), None, "as mlx-lm reads it");
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let cases = [
            (json!({"quantization": 4}), "`quantization` is 4"),
            (json!({"quantization": {"bits": 4}}), "lacks `quantization.group_size`"),
            (json!({"quantization": {"bits": 7, "group_size": 64}}), "`quantization.bits` is 7"),
            (json!({"quantization": {"bits": -4, "group_size": 64}}), "`quantization.bits` is -4"),
            (json!({"quantization": {"bits": 4, "group_size": 48}}), "`quantization.group_size` is 48"),
            (
                json!({"quantization": {"bits": 4, "group_size": 32, "mode": "mxfp4"}}),
                "`quantization.mode` is \"mxfp4\"",
            ),
            (
                json!({"quantization": {"bits": 4, "group_size": 64, "lm_head": {"mode": "nvfp4"}}}),
                "`quantization.lm_head.mode` is \"nvfp4\"",
            ),
            (json!({"quantization_config": {"quant_method": "gptq", "bits": 4}}), "is \"gptq\""),
        ];
        for (config, message) in cases {
            let found = read(config).unwrap_err();
            assert!(found.contains(message), "{found}");
        }
    }
}
