//! Adapters of mlx-lm: `adapters.safetensors` with matrices turned, and a configuration of its own.
//!
//! mlx-lm adds `scale * (x lora_a) lora_b` with `lora_a` `[in, r]` and `lora_b` `[r, out]`; DoRA's magnitudes are
//! called `m`. The body of a model is `model.` whatever its family.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use smelt_backend::Kernels;

use super::config::{AdapterConfig, ModuleNames, bad};
use super::folder::{Adapter, HostTensor, held, read, write_config};
use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::parameters::Role;
use crate::weights::{NameMap, TensorFile, TensorFileWriter, transposed};

/// File name of an adapter's weights in the folders of mlx-lm.
pub const MLX_WEIGHTS_FILE: &str = "adapters.safetensors";

const MLX_BODY: &str = "model.";

/// The parts of an adapter: PEFT's names, and those of mlx-lm.
const PARTS: [(&str, &str); 3] =
    [(".lora_A.weight", ".lora_a"), (".lora_B.weight", ".lora_b"), (".lora_magnitude_vector", ".m")];

/// Reads the adapter in `folder`, whose `adapter_config.json` is `config`.
pub(super) fn open(folder: &Path, config: &Value, names: &NameMap) -> Result<Adapter, ModelError> {
    let path = folder.join(MLX_WEIGHTS_FILE);
    let file = TensorFile::open(&path)?;
    let mut tensors = read(&file, |name| Ok(hub_name(name, names)))?;
    let mut modules = BTreeSet::new();
    for (name, HostTensor { shape, values }) in &mut tensors {
        if let Some(module) = PARTS.iter().find_map(|(part, _)| name.strip_suffix(part)) {
            modules.insert(module.to_owned());
            if let [rows, columns] = **shape {
                *values = transposed(values, rows, columns);
                shape.reverse();
            }
        }
    }
    let config = converted(config, modules)?;
    Ok(Adapter { config, path, tensors })
}

/// The parameter that mlx-lm calls `name`.
fn hub_name(name: &str, names: &NameMap) -> String {
    let part = PARTS.iter().find_map(|(hub, mlx)| Some((name.strip_suffix(mlx)?, hub)));
    let name = part.map_or(name.to_owned(), |(module, part)| format!("{module}{part}"));
    names.with_prefix(name.strip_prefix(MLX_BODY).unwrap_or(&name))
}

fn converted(config: &Value, modules: BTreeSet<String>) -> Result<AdapterConfig, ModelError> {
    let kind = config.get("fine_tune_type").and_then(Value::as_str).unwrap_or("lora");
    if !["lora", "dora"].contains(&kind) {
        return Err(bad("fine_tune_type", &kind.into(), "`lora` or `dora`"));
    }
    let numbers = &config["lora_parameters"];
    // What mlx-lm takes where its configuration is silent.
    let number = |key: &str, default: f64| match numbers.get(key) {
        None => Ok(default),
        Some(value) => value.as_f64().ok_or_else(|| bad(key, value, "a number")),
    };
    let r = numbers.get("rank").unwrap_or(&Value::Null);
    let rank = r.as_u64().and_then(|rank| usize::try_from(rank).ok());
    let rank = rank.ok_or_else(|| bad("lora_parameters.rank", r, "a rank"))?;
    let config = AdapterConfig {
        base_model_name_or_path: config.get("model").and_then(Value::as_str).map(str::to_owned),
        r: rank,
        lora_alpha: number("scale", 20.0)? * rank as f64,
        lora_dropout: number("dropout", 0.0)?,
        use_dora: kind == "dora",
        target_modules: ModuleNames::Names(modules.into_iter().collect()),
        ..AdapterConfig::default()
    };
    config.check().map(|()| config)
}

/// Writes the adapter that `decoder` carries into `folder`, as mlx-lm reads it.
///
/// # Errors
/// [`ModelError::BadAdapterValue`] for what mlx-lm has no way to say: more than one scale or rank, whole modules;
/// [`ModelError::Io`].
pub fn save_mlx_adapter<B: Kernels>(
    model: &ModelConfig,
    decoder: &Decoder<B>,
    config: &AdapterConfig,
    folder: &Path,
) -> Result<(), ModelError> {
    if !config.rank_pattern.is_empty() || !config.alpha_pattern.is_empty() {
        return Err(bad("rank_pattern", &json!(config.rank_pattern), "one rank and alpha, for mlx-lm"));
    }
    fs::create_dir_all(folder).map_err(ModelError::io("write", folder))?;
    let mut file = TensorFileWriter::new();
    let mut keys = BTreeSet::new();
    for (info, values) in held(model, decoder, config)? {
        if info.role != Role::Adapter {
            return Err(bad("modules_to_save", &info.key.into(), "nothing, for mlx-lm"));
        }
        keys.extend(key_in_layer(&info.key));
        let name = mlx_name(&info.key, &model.family.names);
        let (shape, values) = match *info.shape {
            [rows, columns] => (vec![columns, rows], transposed(&values, rows, columns)),
            _ => (info.shape, values),
        };
        file.add_f32(name, &shape, move || values.into());
    }
    file.write(&folder.join(MLX_WEIGHTS_FILE))?;
    let own = json!({
        "fine_tune_type": if config.use_dora { "dora" } else { "lora" },
        "lora_parameters": {
            "rank": config.r, "scale": config.scaling(config.r, config.lora_alpha),
            "dropout": config.lora_dropout, "keys": keys,
        },
        "model": config.base_model_name_or_path,
        "num_layers": model.decoder.num_hidden_layers,
    });
    write_config(&own, folder)
}

fn mlx_name(key: &str, names: &NameMap) -> String {
    let part = PARTS.iter().find_map(|(hub, mlx)| Some((key.strip_suffix(hub)?, mlx)));
    let key = part.map_or(key.to_owned(), |(module, part)| format!("{module}{part}"));
    match names.without_prefix(&key) {
        Some(rest) => format!("{MLX_BODY}{rest}"),
        None => key,
    }
}

/// The name of a module within its layer, as mlx-lm lists them: `self_attn.q_proj`.
fn key_in_layer(key: &str) -> Option<String> {
    let module = PARTS.iter().find_map(|(part, _)| key.strip_suffix(part))?;
    let mut segments = module.split('.').skip_while(|segment| segment.parse::<usize>().is_err());
    segments.next()?;
    Some(segments.collect::<Vec<_>>().join("."))
}
