//! Checks of a decoder: logits, loss, hidden states, paddings, lengths, and greedy decoding.

use std::ops::{ControlFlow, Range};

use burn::tensor::Tensor;
use smelt_backend::kernels::CrossEntropyOptions;
use smelt_backend::{Job, Kernels, float_tensor, int_tensor, scalar, to_host};
use smelt_generate::engine::{CompletionOptions, EngineOptions, complete_all};
use smelt_generate::{GenerateOptions, SamplingOptions, generate};
use smelt_model::weights::{Checkpoint, LoadOptions, load_weights};
use smelt_model::{
    CacheOptions, Decoder, Extension, ForwardInput, KvCache, ModelConfig, RopeScaling, RotaryConfig, load,
};

use super::checks::Checks;
use super::golden::Golden;
use crate::error::CliError;
use crate::token_ids::TokenIds;

/// The configuration in the spelling of transformers 5.
const OTHER_CONFIG: &str = "config_v5.json";
/// Largest error of a hidden state.
const HIDDEN_TOLERANCE: f64 = 2e-4;

/// The checks of one folder, on the backend that was selected.
pub struct CausalJob<'a> {
    pub golden: &'a Golden,
    pub checks: &'a mut Checks,
}

impl Job for CausalJob<'_> {
    type Output = Result<(), CliError>;

    fn run<B: Kernels>(self, device: B::Device) -> Self::Output {
        let (config, model) = load::<B>(&self.golden.folder, &device)?;
        let CausalJob { golden, checks } = self;
        checks.unread("tensor", golden.names().into_iter().filter(|name| !is_known(name)));
        Causal { golden, checks, config, model, device }.run()
    }
}

/// One model under its checks.
pub struct Causal<'a, B: Kernels> {
    pub golden: &'a Golden,
    pub checks: &'a mut Checks,
    pub config: ModelConfig,
    pub model: Decoder<B>,
    pub device: B::Device,
}

impl<B: Kernels> Causal<'_, B> {
    fn run(mut self) -> Result<(), CliError> {
        self.plain()?;
        self.other_config()?;
        self.hidden_states()?;
        self.padded("right")?;
        self.padded("left")?;
        self.other_lengths()?;
        self.greedy()?;
        self.batched()?;
        self.adapters()?;
        self.mlx_folders()
    }

    fn plain(&mut self) -> Result<(), CliError> {
        let ids = self.golden.ids("input_ids")?;
        let mask = TokenIds { values: vec![1; ids.values.len()], shape: ids.shape };
        let hidden = self.hidden(&ids, None, None);
        let loss = self.loss(hidden.clone(), &ids, &mask);
        let logits = to_host(self.model.logits(hidden));
        self.checks.close("logits", &logits, &self.golden.floats("logits")?, self.logits_tolerance());
        if self.golden.contains("logits_native_dtype") {
            let tolerance = self.golden.tolerance("logits_native_abs_suggested", 0.1);
            self.checks.close(
                "logits_native",
                &logits,
                &self.golden.floats("logits_native_dtype")?,
                tolerance,
            );
        }
        for name in ["loss", "hf_loss"] {
            if self.golden.contains(name) {
                self.checks.close(name, &[loss], &self.golden.floats(name)?, self.loss_tolerance());
            }
        }
        Ok(())
    }

    /// The configuration as transformers 5 writes it must give the same model.
    fn other_config(&mut self) -> Result<(), CliError> {
        let path = self.golden.folder.join(OTHER_CONFIG);
        if !path.exists() {
            return Ok(());
        }
        let config = ModelConfig::from_file(&path)?;
        let checkpoint = Checkpoint::open(&self.golden.folder)?;
        let model = load_weights::<B>(&config, &checkpoint, LoadOptions::default(), &self.device)?;
        let ids = self.golden.ids("input_ids")?;
        let ids = int_tensor::<B, 2>(&ids.values, ids.shape, &self.device);
        let logits = to_host(model.logits(model.hidden(ForwardInput::new(ids))));
        self.checks.close(OTHER_CONFIG, &logits, &self.golden.floats("logits")?, self.logits_tolerance());
        Ok(())
    }

    fn hidden_states(&mut self) -> Result<(), CliError> {
        let ids = self.golden.ids("input_ids")?;
        let ids = int_tensor::<B, 2>(&ids.values, ids.shape, &self.device);
        for (index, state) in self.model.hidden_states(ForwardInput::new(ids)).into_iter().enumerate() {
            let name = format!("hidden.{index}");
            if !self.golden.contains(&name) {
                continue;
            }
            // Row 0 only, and of it the first positions.
            let expected = self.golden.floats(&name)?;
            let state = to_host(state);
            self.checks.close(&name, &state[..expected.len().min(state.len())], &expected, HIDDEN_TOLERANCE);
        }
        Ok(())
    }

    /// Row 1 with padding on one side: its logits must be those without padding.
    fn padded(&mut self, side: &str) -> Result<(), CliError> {
        let tensor = |name: &str| format!("{side}.{name}");
        if !self.golden.contains(&tensor("input_ids")) {
            return Ok(());
        }
        let ids = self.golden.ids(&tensor("input_ids"))?;
        let mask = self.golden.ids(&tensor("attention_mask"))?;
        let positions = match self.golden.contains(&tensor("position_ids")) {
            true => Some(self.golden.ids(&tensor("position_ids"))?.values),
            false => None,
        };
        let hidden = self.hidden(&ids, Some(&mask), positions.as_deref());
        if self.golden.contains(&tensor("loss")) {
            let loss = self.loss(hidden.clone(), &ids, &mask);
            self.checks.close(
                &tensor("loss"),
                &[loss],
                &self.golden.floats(&tensor("loss"))?,
                self.loss_tolerance(),
            );
        }
        let logits = to_host(self.model.logits(hidden));
        let kept = kept(mask.row(1));
        let found = self.rows_of(&logits, ids.shape[1], kept.clone());
        let own = tensor("logits_row1");
        let expected = match self.golden.contains(&own) {
            true => {
                let stored = self.golden.floats(&own)?;
                if stored.len() == found.len() { stored } else { self.slice(&stored, kept).to_vec() }
            }
            false => self.rows_of(&self.golden.floats("logits")?, ids.shape[1], 0..kept.len()).to_vec(),
        };
        self.checks.close(&tensor("logits"), found, &expected, self.logits_tolerance());
        Ok(())
    }

    fn other_lengths(&mut self) -> Result<(), CliError> {
        let names = self.golden.names();
        let lengths =
            names.iter().filter_map(|name| name.strip_suffix(".input_ids")).filter(|name| is_length(name));
        for length in lengths {
            let ids = self.golden.ids(&format!("{length}.input_ids"))?;
            let logits = to_host(self.model.logits(self.hidden(&ids, None, None)));
            let name = format!("{length}.logits");
            self.checks.close(&name, &logits, &self.golden.floats(&name)?, self.logits_tolerance());
        }
        Ok(())
    }

    /// Greedy decoding with a cache and without, against a reference that had none; where the reference says
    /// that its cache changes the ids, ours may do so too.
    fn greedy(&mut self) -> Result<(), CliError> {
        for name in ["greedy", "greedy_long"] {
            let (prompt, ids) = (format!("{name}.prompt_ids"), format!("{name}.ids"));
            if !self.golden.contains(&prompt) {
                continue;
            }
            let (prompt, expected) = (self.golden.ids(&prompt)?, self.golden.ids(&ids)?);
            let (prompt, expected) = (prompt.row(0), expected.row(0));
            let uncached = self.greedy_uncached(prompt, expected.len());
            self.checks.equal(&format!("{name}, no cache"), &uncached, expected);

            let cached_ids = format!("{name}.ids_hf_cached");
            let expected = match self.golden.contains(&cached_ids) {
                true => self.golden.ids(&cached_ids)?.row(0).to_vec(),
                false => expected.to_vec(),
            };
            let mut found = Vec::new();
            let mut on_token = |token| {
                found.push(token);
                ControlFlow::Continue(())
            };
            let options = greedy_options(expected.len());
            generate(&self.model, &self.config, prompt, &options, &mut on_token, &self.device)?;
            self.checks.equal(name, &found, &expected);
        }
        Ok(())
    }

    /// Each token from a pass over everything before it.
    fn greedy_uncached(&self, prompt: &[u32], count: usize) -> Vec<u32> {
        let mut ids = prompt.to_vec();
        for _ in 0..count {
            let mut input = ForwardInput::new(int_tensor::<B, 2>(&ids, [1, ids.len()], &self.device));
            input.prompt_length = Some(prompt.len());
            let hidden = self.model.hidden(input).narrow(1, ids.len() - 1, 1);
            let logits = to_host(self.model.logits(hidden));
            let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
            ids.extend(best.map(|id| id as u32));
        }
        ids.split_off(prompt.len())
    }

    fn batched(&mut self) -> Result<(), CliError> {
        if !self.golden.contains("batch.prompt_ids") {
            return Ok(());
        }
        let (prompts, expected) = (self.golden.ids("batch.prompt_ids")?, self.golden.ids("batch.ids")?);
        let mask = self.golden.ids("batch.attention_mask")?;
        let unpadded = |row| prompts.row(row)[kept(mask.row(row))].to_vec();
        let prompts: Vec<Vec<u32>> = (0..prompts.shape[0]).map(unpadded).collect();
        let found = match self.config.decoder.rotary().iter().any(grows_with_the_batch) {
            true => self.greedy_in_step(&prompts, expected.shape[1]),
            false => {
                let options = || CompletionOptions { max_tokens: expected.shape[1], ..Default::default() };
                let prompts = prompts.into_iter().map(|prompt| (prompt, options())).collect();
                complete_all(&self.model, &self.config, prompts, EngineOptions::default(), &self.device)?
            }
        };
        self.checks.equal("batch", &found.concat(), &expected.values);
        Ok(())
    }

    /// The likeliest tokens of prompts that go step by step together, with the frequencies of the longest, as
    /// transformers runs a batch.
    fn greedy_in_step(&self, prompts: &[Vec<u32>], count: usize) -> Vec<Vec<u32>> {
        let longest = prompts.iter().map(Vec::len).max().unwrap_or_default();
        let options = CacheOptions::new(longest + count);
        let cache = |_: &Vec<u32>| KvCache::new(self.model.config(), options, &self.device);
        let mut caches: Vec<_> = prompts.iter().map(cache).collect();
        let mut new = prompts.to_vec();
        let mut found = vec![Vec::new(); prompts.len()];
        for step in 0..count {
            let sequences = caches.iter_mut().zip(&new);
            let mut sequences: Vec<_> = sequences
                .map(|(cache, ids)| Extension { ids, cache, known_length: longest + step })
                .collect();
            let logits = to_host(self.model.row_logits(self.model.extend(&mut sequences, &self.device)));
            let rows: Vec<&[f32]> = logits.chunks(self.config.decoder.vocab_size).collect();
            let mut end = 0;
            for (found, new) in found.iter_mut().zip(&mut new) {
                end += new.len();
                let row = rows[end - 1];
                let best = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or_default();
                found.push(best as u32);
                *new = vec![best as u32];
            }
        }
        found
    }

    pub fn hidden(&self, ids: &TokenIds, mask: Option<&TokenIds>, positions: Option<&[u32]>) -> Tensor<B, 3> {
        let mut input = ForwardInput::new(int_tensor::<B, 2>(&ids.values, ids.shape, &self.device));
        input.position_ids = positions.map(<[u32]>::to_vec);
        input.attention_mask = mask.map(|mask| {
            let values = mask.values.iter().map(|&keep| keep as f32).collect();
            float_tensor::<B, 2>(values, mask.shape, &self.device)
        });
        self.model.hidden(input)
    }

    /// Mean next-token cross-entropy over the positions whose next token is kept.
    pub fn loss(&self, hidden: Tensor<B, 3>, ids: &TokenIds, mask: &TokenIds) -> f32 {
        let [batch, seq, _] = hidden.dims();
        let mut targets = Vec::with_capacity(batch * seq);
        let mut weights = Vec::with_capacity(batch * seq);
        for row in 0..batch {
            let next = |values: &[u32]| values[1..].iter().copied().chain([0]).collect::<Vec<_>>();
            targets.extend(next(ids.row(row)));
            weights.extend(next(mask.row(row)).into_iter().map(|keep| keep as f32));
        }
        let counted: f32 = weights.iter().sum();
        let loss = self.model.cross_entropy(
            hidden,
            int_tensor::<B, 1>(&targets, [batch * seq], &self.device),
            float_tensor::<B, 1>(weights, [batch * seq], &self.device),
            CrossEntropyOptions::default(),
        );
        scalar(loss.likelihood) as f32 / counted
    }

    /// Positions of row 1 in logits `[2, seq, vocab]`.
    fn rows_of<'l>(&self, logits: &'l [f32], seq: usize, positions: Range<usize>) -> &'l [f32] {
        self.slice(&logits[seq * self.config.decoder.vocab_size..], positions)
    }

    fn slice<'l>(&self, logits: &'l [f32], positions: Range<usize>) -> &'l [f32] {
        let vocab = self.config.decoder.vocab_size;
        &logits[positions.start * vocab..positions.end * vocab]
    }

    pub fn logits_tolerance(&self) -> f64 {
        self.golden.tolerance("logits_abs", 2e-4)
    }

    pub fn loss_tolerance(&self) -> f64 {
        self.golden.tolerance("loss_abs", 1e-5)
    }
}

pub fn greedy_options(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens, stop_tokens: Vec::new(), sampling: SamplingOptions::default() }
}

/// The run of positions that a mask keeps.
fn kept(mask: &[u32]) -> Range<usize> {
    let start = mask.iter().position(|&keep| keep != 0).unwrap_or(mask.len());
    let count = mask.iter().filter(|&&keep| keep != 0).count();
    start..start + count
}

/// Whether some check reads the tensor.
fn is_known(name: &str) -> bool {
    const WHOLE: [&str; 6] =
        ["input_ids", "attention_mask", "logits", "logits_native_dtype", "loss", "hf_loss"];
    const GREEDY: [&str; 3] = ["prompt_ids", "ids", "ids_hf_cached"];
    const PADDED: [&str; 5] = ["input_ids", "attention_mask", "position_ids", "loss", "logits_row1"];
    let known_in = |names: &[&str]| names.contains(&name);
    match name.split_once('.') {
        _ if known_in(&WHOLE) => true,
        Some(("hidden", index)) => index.parse::<usize>().is_ok(),
        Some(("right" | "left", tensor)) => PADDED.contains(&tensor),
        Some(("greedy" | "greedy_long", tensor)) => GREEDY.contains(&tensor),
        Some(("batch", tensor)) => ["prompt_ids", "attention_mask", "ids"].contains(&tensor),
        Some((length, tensor)) => is_length(length) && ["input_ids", "logits"].contains(&tensor),
        None => false,
    }
}

fn is_length(name: &str) -> bool {
    name.strip_prefix("len").is_some_and(|length| length.parse::<usize>().is_ok())
}

/// transformers takes the longest sequence of a batch for the frequencies of all.
fn grows_with_the_batch(rotary: &RotaryConfig) -> bool {
    matches!(rotary.scaling, RopeScaling::Dynamic { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_that_no_check_reads_are_unknown() {
        for name in
            ["logits", "hidden.3", "left.position_ids", "len65.logits", "batch.ids", "greedy_long.ids"]
        {
            assert!(is_known(name), "{name}");
        }
        for name in
            ["logits_native", "hidden.last", "left.ids", "length.logits", "greedy_longer.ids", "other"]
        {
            assert!(!is_known(name), "{name}");
        }
    }

    #[test]
    fn kept_positions_are_one_run() {
        assert_eq!(kept(&[0, 0, 1, 1]), 2..4);
        assert_eq!(kept(&[1, 1, 1, 0]), 0..3);
    }
}
