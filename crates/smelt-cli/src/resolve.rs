//! From what was typed to one run config: a base, `--set`, flags, and the folder of the run.

use std::path::{Path, PathBuf};

use serde_json::Value;
use smelt_train::OptimizerKind;

use crate::config::{ConfigError, Origin, RunConfig, Settings};
use crate::quickstart;

/// A key of the run config that a flag sets.
#[derive(Debug, Clone)]
pub struct FlagSetting {
    /// Its section.
    pub section: &'static str,
    /// The key.
    pub key: &'static str,
    /// The value.
    pub value: Value,
    /// The flag, for messages.
    pub flag: &'static str,
}

/// Everything that can decide a run config.
#[derive(Debug, Clone, Default)]
pub struct Sources<'a> {
    /// The file that replaces the quick start.
    pub config: Option<&'a Path>,
    /// `--set`, in order.
    pub sets: &'a [String],
    /// The flags that were given.
    pub flags: Vec<FlagSetting>,
}

/// The run config of `sources`, checked; flags override `--set`, which overrides the file.
///
/// # Errors
/// [`ConfigError`] with the place of the fault.
pub fn resolve(sources: &Sources<'_>) -> Result<RunConfig, ConfigError> {
    RunConfig::from_settings(&layered(sources)?)
}

/// The folder of the run that `sources` mean, whether or not they make a run.
///
/// # Errors
/// [`ConfigError`] for unknown keys and wrong types.
pub fn run_folder(sources: &Sources<'_>) -> Result<Option<PathBuf>, ConfigError> {
    Ok(layered(sources)?.typed()?.checkpoint.output_dir)
}

fn layered(sources: &Sources<'_>) -> Result<Settings, ConfigError> {
    let base = match sources.config {
        Some(path) => Settings::from_file(path)?,
        None => quickstart::settings()?,
    };
    let mut settings = base.clone();
    for text in sources.sets {
        settings.set_from_text(text)?;
    }
    for flag in &sources.flags {
        settings.set(flag.section, flag.key, flag.value.clone(), Origin::Flag(flag.flag))?;
    }
    give_way(&mut settings, &base);
    if sources.config.is_none() {
        fit_quick_start(&mut settings)?;
    }
    if settings.origin("checkpoint", "output_dir") == base.origin("checkpoint", "output_dir") {
        name_output(&mut settings, sources.config)?;
    }
    Ok(settings)
}

/// What the user typed drops those parts of the base that it excludes.
fn give_way(settings: &mut Settings, base: &Settings) {
    let typed = |section, key| settings.origin(section, key) != base.origin(section, key);
    let (data, model) = (typed("data", "paths"), typed("model", "path"));
    if data && !typed("data", "embedded") {
        settings.unset("data", "embedded");
    }
    let shape: Vec<String> =
        settings.given("model").filter(|key| *key != "path").map(str::to_owned).collect();
    for key in shape {
        if model && settings.origin("model", &key) == base.origin("model", &key) {
            settings.unset("model", &key);
        }
    }
}

/// The quick start stretches with what the user typed; a config file is taken at its word.
fn fit_quick_start(settings: &mut Settings) -> Result<(), ConfigError> {
    let typed = settings.typed()?;
    let built_in = |section, key| settings.origin(section, key) == Origin::BuiltIn;
    let warmup = typed.train.warmup_steps.min(typed.train.max_steps / 10);
    let shortens = built_in("train", "warmup_steps") && !built_in("train", "max_steps");
    let positions = typed.model.shape.get("max_position_embeddings").and_then(Value::as_u64);
    let lengthens = built_in("model", "max_position_embeddings") && !built_in("train", "seq_length");
    if shortens {
        settings.set("train", "warmup_steps", warmup.into(), Origin::BuiltIn)?;
    }
    if let Some(positions) = positions.filter(|_| lengthens) {
        let positions = positions.max(typed.train.seq_length as u64);
        settings.set("model", "max_position_embeddings", positions.into(), Origin::BuiltIn)?;
    }
    leave_rates_to(typed.train.optimizer, settings);
    Ok(())
}

/// The rates of the quick start are for AdamW; optimizers that want others have their usual ones.
fn leave_rates_to(optimizer: OptimizerKind, settings: &mut Settings) {
    let rates = |optimizer: OptimizerKind| {
        let usual = optimizer.defaults();
        (usual.learning_rate, usual.weight_decay)
    };
    if rates(optimizer) == rates(OptimizerKind::Adamw) {
        return;
    }
    for key in ["learning_rate", "weight_decay"] {
        if settings.origin("train", key) == Origin::BuiltIn {
            settings.unset("train", key);
        }
    }
}

/// Names the folder of the run after its data, or after its config file.
fn name_output(settings: &mut Settings, config: Option<&Path>) -> Result<(), ConfigError> {
    let typed = settings.typed()?;
    let data = typed.data.paths.first().and_then(|path| name_of(path));
    let name = match config {
        Some(path) if typed.checkpoint.output_dir.is_none() => path.file_stem().map(PathBuf::from),
        None if !typed.data.embedded => data,
        _ => None,
    };
    let Some(name) = name else { return Ok(()) };
    let folder = Path::new("runs").join(name);
    settings.set("checkpoint", "output_dir", folder.display().to_string().into(), Origin::BuiltIn)
}

/// The last part of a path; that of the folder it stands for where it ends in `.` or `..`.
fn name_of(path: &Path) -> Option<PathBuf> {
    let whole = path.canonicalize();
    let name = whole.as_deref().unwrap_or(path).file_stem()?;
    Some(PathBuf::from(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(sets: &[&str], flags: Vec<FlagSetting>) -> RunConfig {
        let sets: Vec<String> = sets.iter().map(|text| (*text).to_owned()).collect();
        resolve(&Sources { config: None, sets: &sets, flags }).unwrap()
    }

    fn data(path: &str) -> FlagSetting {
        FlagSetting { section: "data", key: "paths", value: vec![path].into(), flag: "--data" }
    }

    #[test]
    fn nothing_typed_is_the_quick_start() {
        let config = resolved(&[], Vec::new());
        assert!(config.data.embedded);
        assert_eq!(config.checkpoint.output_dir.unwrap(), Path::new(quickstart::OUTPUT));
    }

    #[test]
    fn data_of_ones_own_replaces_the_embedded_one_and_names_the_run() {
        let config = resolved(&[], vec![data("/nowhere/scripts")]);
        assert!(!config.data.embedded);
        assert_eq!(config.checkpoint.output_dir.unwrap(), Path::new("runs/scripts"));
        let config = resolved(&["checkpoint.output_dir=mine"], vec![data("/nowhere/scripts")]);
        assert_eq!(config.checkpoint.output_dir.unwrap(), Path::new("mine"));
    }

    #[test]
    fn a_model_of_ones_own_replaces_the_shape() {
        let config = resolved(&["model.path=folder"], Vec::new());
        assert_eq!(config.model.path.as_deref(), Some(Path::new("folder")));
        assert!(config.model.shape.is_empty());
        let sources = Sources {
            sets: &["model.path=folder".to_owned(), "model.d_model=64".to_owned()],
            ..Sources::default()
        };
        let error = resolve(&sources).unwrap_err();
        assert_eq!(error.to_string(), "`--set`: `model.d_model` and `model.path` cannot both be given");
    }

    #[test]
    fn flags_override_sets() {
        let flag = FlagSetting { section: "train", key: "batch_size", value: 3.into(), flag: "--batch-size" };
        assert_eq!(resolved(&["train.batch_size=2"], vec![flag]).train.batch_size, 3);
    }

    #[test]
    fn the_quick_start_stretches_with_what_is_typed() {
        let config = resolved(&["train.max_steps=20", "train.seq_length=1024"], Vec::new());
        assert_eq!(config.train.warmup_steps, 2);
        assert_eq!(config.model.shape["max_position_embeddings"], 1024);
        let sets = ["train.max_steps=20".to_owned(), "train.warmup_steps=30".to_owned()];
        assert!(resolve(&Sources { sets: &sets, ..Sources::default() }).is_err());
    }

    #[test]
    fn the_rates_of_the_quick_start_are_for_adamw() {
        let rates = |sets: &[&str]| {
            let train = resolved(sets, Vec::new()).train_config();
            (train.learning_rate, train.weight_decay)
        };
        assert_eq!(rates(&["train.optimizer=adamw_8bit"]), (2e-3, 0.1));
        assert_eq!(rates(&["train.optimizer=lion"]), (1e-4, 0.3));
        assert_eq!(rates(&["train.optimizer=lion", "train.learning_rate=0.01"]), (0.01, 0.3));
    }

    #[test]
    fn a_config_file_names_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.yaml");
        std::fs::write(&path, quickstart::CONFIG.replace("output_dir: runs/quickstart", "")).unwrap();
        let config = resolve(&Sources { config: Some(&path), ..Sources::default() }).unwrap();
        assert_eq!(config.checkpoint.output_dir.unwrap(), Path::new("runs/mine"));
        std::fs::write(&path, quickstart::CONFIG).unwrap();
        let config = resolve(&Sources { config: Some(&path), ..Sources::default() }).unwrap();
        assert_eq!(config.checkpoint.output_dir.unwrap(), Path::new(quickstart::OUTPUT));
    }
}
