//! Judges the values of a run config, alone and against each other.
//!
//! Every fault names the key, the value, what it may be and the nearest right value, because a run
//! that fails after an hour of tokenizing is the expensive way to find a typo.

use std::fmt::Display;

use smelt_backend::Name;
use smelt_backend::kernels::{QuantizationError, QuantizationFormat};
use smelt_train::{LrSchedule, TrainConfig};

use super::error::{BadValue, ConfigError};
use super::model;
use super::sections::{Method, QuantizationSection, RunConfig};
use super::settings::Settings;

/// Smallest vocabulary of a byte-level tokenizer: every byte and one end-of-text token.
const MIN_VOCAB_SIZE: usize = 257;

/// Checks `config`; `settings` tells where a value was written.
///
/// # Errors
/// [`ConfigError`] for the first value that cannot work.
pub fn check(config: &RunConfig, settings: &Settings) -> Result<(), ConfigError> {
    let checker = Checker { settings };
    match config.model.path {
        Some(_) => checker.no_shape_beside_path(config)?,
        None => checker.model(config)?,
    }
    checker.backend(config)?;
    checker.data(config)?;
    checker.adapter(config)?;
    checker.quantization(config)?;
    checker.train(config)?;
    checker.intervals(config)
}

/// Checks that a sequence fits a model that was loaded.
///
/// # Errors
/// [`ConfigError::Value`] naming `train.seq_length`.
pub fn check_context(config: &RunConfig, max_position_embeddings: usize) -> Result<(), ConfigError> {
    Checker { settings: &Settings::default() }.fits_context(config, max_position_embeddings)
}

struct Checker<'a> {
    settings: &'a Settings,
}

impl Checker<'_> {
    fn no_shape_beside_path(&self, config: &RunConfig) -> Result<(), ConfigError> {
        match config.model.shape.keys().next() {
            None => Ok(()),
            Some(key) => Err(ConfigError::Excluded {
                origin: self.settings.origin("model", key),
                key: format!("model.{key}"),
                other: "model.path".to_owned(),
                hint: "the folder's `config.json` decides the shape".to_owned(),
            }),
        }
    }

    fn model(&self, config: &RunConfig) -> Result<(), ConfigError> {
        let model = model::checked(&config.model, self.settings)?.decoder;
        self.at_least("model", "vocab_size", model.vocab_size, MIN_VOCAB_SIZE)?;
        self.fits_context(config, model.max_position_embeddings)
    }

    fn fits_context(&self, config: &RunConfig, positions: usize) -> Result<(), ConfigError> {
        self.at_most("train", "seq_length", config.train.seq_length, positions, || {
            format!("at most the {positions} positions of the model")
        })
    }

    fn backend(&self, config: &RunConfig) -> Result<(), ConfigError> {
        let backend = &config.backend;
        let written = [("name", &backend.name)]
            .into_iter()
            .chain(backend.preference.iter().map(|name| ("preference", name)));
        for (key, name) in written {
            let known = Name::ALL.map(Name::as_str);
            if known.contains(&name.as_str()) || (key == "name" && name == "auto") {
                continue;
            }
            let nearest = known.iter().min_by_key(|known| strsim::damerau_levenshtein(known, name));
            let list = known.map(|name| format!("`{name}`")).join(", ");
            let expected = if key == "name" {
                format!("`auto` or one of {list}")
            } else {
                format!("names out of {list}")
            };
            return Err(self.fault("backend", key, name, expected, nearest.map(|name| (*name).to_owned())));
        }
        Ok(())
    }

    fn data(&self, config: &RunConfig) -> Result<(), ConfigError> {
        let data = &config.data;
        if data.embedded && !data.paths.is_empty() {
            return Err(ConfigError::Excluded {
                origin: self.settings.origin("data", "paths"),
                key: "data.paths".to_owned(),
                other: "data.embedded".to_owned(),
                hint: "leave one of them out".to_owned(),
            });
        }
        if data.val_split > 0.0 && data.val_split < 1.0 {
            return Ok(());
        }
        let nearest = if data.val_split >= 1.0 { "0.5" } else { "0.05" };
        let expected = "above 0 and below 1".to_owned();
        Err(self.fault("data", "val_split", data.val_split, expected, Some(nearest.to_owned())))
    }

    fn quantization(&self, config: &RunConfig) -> Result<(), ConfigError> {
        let QuantizationSection { bits, group_size } = config.quantization;
        let fault = |key: &str, found: u64, expected: &str, nearest: String| {
            Err(self.fault("quantization", key, found, expected.to_owned(), Some(nearest)))
        };
        match config.quantization.format() {
            Err(QuantizationError::Bits { found }) => {
                let nearest =
                    QuantizationFormat::BITS.into_iter().min_by_key(|bits| found.abs_diff((*bits).into()));
                return fault("bits", found, "2, 3, 4, 5, 6 or 8", nearest.unwrap_or(4).to_string());
            }
            Err(QuantizationError::GroupSize { found }) => {
                let sizes = QuantizationFormat::GROUP_SIZES.into_iter();
                let nearest = sizes.min_by_key(|size| found.abs_diff(*size as u64));
                return fault("group_size", found, "32, 64 or 128", nearest.unwrap_or(64).to_string());
            }
            _ => {}
        }
        if config.train.method == Method::Qlora || (bits.is_none() && group_size.is_none()) {
            return Ok(());
        }
        let found = format!("{:?}", config.train.method).to_lowercase();
        let expected = "`qlora`, where `quantization` is given".to_owned();
        Err(self.fault("train", "method", found, expected, Some("qlora".to_owned())))
    }

    fn adapter(&self, config: &RunConfig) -> Result<(), ConfigError> {
        let adapter = &config.adapter;
        self.at_least("adapter", "r", adapter.r, 1)?;
        self.below_one("adapter", "lora_dropout", adapter.lora_dropout)?;
        if let Some(alpha) = adapter.lora_alpha {
            self.positive("adapter", "lora_alpha", alpha, 2.0 * adapter.r as f64)?;
        }
        if config.train.method == Method::Full || config.model.path.is_some() {
            return Ok(());
        }
        let found = format!("{:?}", config.train.method).to_lowercase();
        let expected = "`full`, or `model.path` to name the model that is adapted".to_owned();
        Err(self.fault("train", "method", found, expected, None))
    }

    fn train(&self, config: &RunConfig) -> Result<(), ConfigError> {
        let train = &config.train;
        self.at_least("train", "batch_size", train.batch_size, 1)?;
        self.at_least("train", "seq_length", train.seq_length, 2)?;
        self.at_least("train", "max_steps", train.max_steps, 1)?;
        self.at_least("train", "gradient_accumulation_steps", train.gradient_accumulation_steps, 1)?;
        self.not_negative("train", "max_grad_norm", train.max_grad_norm)?;
        let resolved = config.train_config();
        self.schedule(config, &resolved)?;
        self.optimizer(&resolved)?;
        self.stability(&resolved)
    }

    fn schedule(&self, config: &RunConfig, resolved: &TrainConfig) -> Result<(), ConfigError> {
        let train = &config.train;
        let TrainConfig { max_steps, warmup_steps, learning_rate, .. } = *resolved;
        self.at_most("train", "warmup_steps", warmup_steps, max_steps, || {
            format!("at most `max_steps`, {max_steps}")
        })?;
        let usual = train.optimizer.defaults().learning_rate;
        self.positive("train", "learning_rate", learning_rate, usual)?;
        self.not_negative("train", "min_learning_rate", resolved.min_learning_rate)?;
        self.at_most("train", "min_learning_rate", resolved.min_learning_rate, learning_rate, || {
            format!("at most `learning_rate`, {learning_rate}")
        })?;
        if train.decay_steps.is_some() && train.decay_ratio.is_some() {
            return Err(ConfigError::Excluded {
                origin: self.settings.origin("train", "decay_ratio"),
                key: "train.decay_ratio".to_owned(),
                other: "train.decay_steps".to_owned(),
                hint: "both say how long `wsd` decays; leave one of them out".to_owned(),
            });
        }
        if let Some(ratio) = train.decay_ratio {
            self.not_negative("train", "decay_ratio", ratio)?;
            self.at_most("train", "decay_ratio", ratio, 1.0, || "a part of the run, from 0 to 1".to_owned())?;
        }
        if resolved.lr_schedule != LrSchedule::Wsd || train.decay_steps.is_none() {
            return Ok(());
        }
        let left = max_steps.saturating_sub(warmup_steps);
        self.at_most("train", "decay_steps", resolved.decay_steps, left, || {
            format!("at most the {left} steps after the warm-up")
        })
    }

    fn optimizer(&self, resolved: &TrainConfig) -> Result<(), ConfigError> {
        self.not_negative("train", "weight_decay", resolved.weight_decay)?;
        self.below_one("train", "adam_beta1", resolved.adam_beta1)?;
        self.below_one("train", "adam_beta2", resolved.adam_beta2)?;
        self.positive("train", "adam_epsilon", resolved.adam_epsilon, 1e-8)?;
        if let Some(rate) = resolved.adam_learning_rate {
            self.positive("train", "adam_learning_rate", rate, resolved.learning_rate)?;
        }
        self.below_one("train", "momentum", resolved.momentum)
    }

    fn stability(&self, resolved: &TrainConfig) -> Result<(), ConfigError> {
        self.not_negative("train", "z_loss", resolved.z_loss)?;
        if let Some(decay) = resolved.ema_decay {
            self.below_one("train", "ema_decay", decay)?;
        }
        self.at_least("train", "max_skipped_steps", resolved.max_skipped_steps, 1)?;
        self.at_least("train", "early_stopping_patience", resolved.early_stopping_patience.unwrap_or(1), 1)?;
        self.not_negative("train", "early_stopping_min_delta", resolved.early_stopping_min_delta)?;
        self.positive("train", "loss_scale_init", resolved.loss_scale_init, 65536.0)?;
        self.at_least("train", "loss_scale_growth_interval", resolved.loss_scale_growth_interval, 1)
    }

    fn intervals(&self, config: &RunConfig) -> Result<(), ConfigError> {
        self.at_least("train", "eval_interval", config.train.eval_interval, 1)?;
        self.at_least("train", "eval_batches", config.train.eval_batches, 1)?;
        self.at_least("checkpoint", "save_interval", config.checkpoint.save_interval, 1)?;
        self.at_least("checkpoint", "keep_last", config.checkpoint.keep_last, 1)?;
        self.at_least("log", "log_interval", config.log.log_interval, 1)?;
        self.at_least("log", "sample_tokens", config.log.sample_tokens, 1)?;
        self.not_negative("log", "peak_tflops", config.log.peak_tflops.unwrap_or_default())
    }

    fn at_least<T: PartialOrd + Display>(
        &self,
        section: &str,
        key: &str,
        value: T,
        least: T,
    ) -> Result<(), ConfigError> {
        if value >= least {
            return Ok(());
        }
        Err(self.fault(section, key, value, format!("at least {least}"), Some(least.to_string())))
    }

    fn at_most<T: PartialOrd + Display>(
        &self,
        section: &str,
        key: &str,
        value: T,
        most: T,
        expected: impl Fn() -> String,
    ) -> Result<(), ConfigError> {
        if value <= most {
            return Ok(());
        }
        Err(self.fault(section, key, value, expected(), Some(most.to_string())))
    }

    fn positive(&self, section: &str, key: &str, value: f64, usual: f64) -> Result<(), ConfigError> {
        if value > 0.0 && value.is_finite() {
            return Ok(());
        }
        Err(self.fault(section, key, value, "a number above 0".to_owned(), Some(usual.to_string())))
    }

    fn not_negative(&self, section: &str, key: &str, value: f64) -> Result<(), ConfigError> {
        if value >= 0.0 && value.is_finite() {
            return Ok(());
        }
        Err(self.fault(section, key, value, "0 or more".to_owned(), Some("0".to_owned())))
    }

    fn below_one(&self, section: &str, key: &str, value: f64) -> Result<(), ConfigError> {
        if (0.0..1.0).contains(&value) {
            return Ok(());
        }
        let nearest = if value >= 1.0 { "0.99" } else { "0" };
        Err(self.fault(section, key, value, "0 or more and below 1".to_owned(), Some(nearest.to_owned())))
    }

    fn fault(
        &self,
        section: &str,
        key: &str,
        found: impl Display,
        expected: String,
        nearest: Option<String>,
    ) -> ConfigError {
        ConfigError::Value(Box::new(BadValue {
            origin: self.settings.origin(section, key),
            section: section.to_owned(),
            key: key.to_owned(),
            found: format!("`{found}`"),
            expected,
            nearest,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::Origin;

    const SHAPE: &str = "vocab_size: 512, d_model: 64, n_layers: 2, n_heads: 4, max_seq_len: 1024";

    fn fault(text: &str) -> (String, Option<String>) {
        let settings =
            Settings::from_yaml(text, &|line| Origin::File { path: "run.yaml".into(), line }).unwrap();
        let error = check(&settings.typed().unwrap(), &settings).expect_err(text);
        (error.to_string(), error.hint())
    }

    /// The nearest right value for a fault in `section`, or beside a right shape.
    fn nearest(section: &str) -> String {
        let shape =
            if section.starts_with("model:") { String::new() } else { format!("model: {{{SHAPE}}}\n") };
        let hint = fault(&format!("{shape}{section}")).1.unwrap();
        hint.split('`').nth(1).unwrap().to_owned()
    }

    fn nearest_in_shape(from: &str, to: &str) -> String {
        assert!(SHAPE.contains(from));
        nearest(&format!("model: {{{}}}", SHAPE.replace(from, to)))
    }

    #[test]
    fn defaults_and_a_shape_are_right() {
        let settings = Settings::from_yaml(&format!("model: {{{SHAPE}}}"), &|_| Origin::BuiltIn).unwrap();
        check(&settings.typed().unwrap(), &settings).unwrap();
    }

    #[test]
    fn a_fault_says_where_what_and_how() {
        let (message, hint) = fault("model:\n  d_model: 770\n  num_attention_heads: 12\n");
        assert_eq!(
            message,
            "run.yaml:2: `model.d_model` is `770`, expected a multiple of `num_attention_heads`, 12"
        );
        assert_eq!(hint.unwrap(), "the nearest right value is `768`");
        let (message, _) = fault("model:\n  d_model: 768\n  n_heads: 12\n");
        assert_eq!(message, "`model.vocab_size` is missing, expected a whole number from 1 to 16777216");
    }

    #[test]
    fn shapes_must_fit_each_other() {
        assert_eq!(nearest("model: {hidden_size: 5, num_attention_heads: 8}"), "8");
        assert_eq!(nearest("model: {hidden_size: 31, num_attention_heads: 8}"), "32");
        assert_eq!(nearest("train: {seq_length: 4096}"), "1024");
        assert_eq!(nearest("train: {max_steps: 10, warmup_steps: 20}"), "10");
        assert_eq!(nearest("train: {learning_rate: 0.001, min_learning_rate: 0.01}"), "0.001");
    }

    #[test]
    fn impossible_values_name_the_nearest_right_one() {
        assert_eq!(nearest("train: {batch_size: 0}"), "1");
        assert_eq!(nearest("train: {learning_rate: -1}"), "0.0003");
        assert_eq!(nearest("train: {adam_beta2: 1}"), "0.99");
        assert_eq!(nearest("train: {momentum: 1}"), "0.99");
        assert_eq!(nearest("train: {decay_ratio: 1.5}"), "1");
        assert_eq!(nearest("train: {lr_schedule: wsd, max_steps: 10, warmup_steps: 4, decay_steps: 8}"), "6");
        assert_eq!(nearest("train: {optimizer: lion, learning_rate: 0}"), "0.0001");
        assert_eq!(nearest("data: {val_split: 1.5}"), "0.5");
        assert_eq!(nearest("checkpoint: {keep_last: 0}"), "1");
        assert_eq!(nearest("backend: matel"), "metal");
        assert_eq!(nearest("backend: {preference: [cpu, ndaray]}"), "ndarray");
        assert_eq!(nearest("train: {ema_decay: 1}"), "0.99");
        assert_eq!(nearest("train: {early_stopping_patience: 0}"), "1");
        assert_eq!(nearest("train: {loss_scale_init: 0}"), "65536");
        assert_eq!(nearest("quantization: {bits: 7}"), "6");
        assert_eq!(nearest("quantization: {group_size: 100}"), "128");
        assert_eq!(nearest("quantization: {bits: 4}"), "qlora");
        assert_eq!(nearest_in_shape("n_layers: 2", "n_layers: 0"), "1");
        assert_eq!(nearest_in_shape("n_layers: 2", "n_layers: 2, dropout: -0.1"), "0");
        assert_eq!(nearest_in_shape("n_layers: 2", "n_layers: 2, hidden_act: gelu_nev"), "gelu_new");
        assert_eq!(nearest_in_shape("vocab_size: 512", "vocab_size: 100"), "257");
        assert_eq!(nearest_in_shape("n_layers: 2", "n_layers: 2, model_type: gtp2"), "gpt2");
    }

    #[test]
    fn exclusive_settings_are_told_apart() {
        let (message, _) = fault("model: {path: a, hidden_size: 64}");
        assert_eq!(message, "run.yaml:1: `model.hidden_size` and `model.path` cannot both be given");
        let (message, _) = fault(&format!("model: {{{SHAPE}}}\ndata: {{embedded: true, paths: [a]}}"));
        assert_eq!(message, "run.yaml:2: `data.paths` and `data.embedded` cannot both be given");
    }
}
