//! Several sequences at a time, left-padded to the longest.
//!
//! All start together and the batch runs until the last ends; a scheduler that admits and releases
//! sequences in between is not here.

use smelt_backend::Kernels;
use smelt_model::{Decoder, ModelConfig};

use crate::decoding::Decoding;
use crate::error::GenerateError;
use crate::generate::{GenerateOptions, checked_context};
use crate::sampling::{Sampler, SamplingOptions};

/// What stands in the padding; it is masked, so any id will do.
const PADDING: u32 = 0;

/// Continues every prompt by up to `max_tokens`, ending each at a stop token, which is not returned.
///
/// Greedy results equal those of [`generate`](crate::generate) on each prompt alone, but for rounding; a
/// sampling sequence has its own generator, seeded by the seed plus its index. The batch ends where its
/// longest sequence fills the context.
///
/// # Errors
/// Those of [`generate`](crate::generate).
pub fn generate_batch<B: Kernels>(
    model: &Decoder<B>,
    config: &ModelConfig,
    prompts: &[Vec<u32>],
    options: &GenerateOptions,
    device: &B::Device,
) -> Result<Vec<Vec<u32>>, GenerateError> {
    let mut context = config.decoder.context_length();
    for prompt in prompts {
        context = checked_context(config, prompt)?;
    }
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    let steps = options.max_tokens.min(context - longest);
    let mut rows = Vec::with_capacity(prompts.len());
    for (index, prompt) in prompts.iter().enumerate() {
        rows.push(Row::new(prompt, index, &options.sampling)?);
    }
    if rows.is_empty() || steps == 0 {
        return Ok(vec![Vec::new(); prompts.len()]);
    }
    let pads: Vec<usize> = prompts.iter().map(|prompt| longest - prompt.len()).collect();
    let padded = |(pad, prompt): (&usize, &Vec<u32>)| [vec![PADDING; *pad], prompt.clone()].concat();
    let mut new: Vec<Vec<u32>> = pads.iter().zip(prompts).map(padded).collect();
    let mut decoding = Decoding::new(model, pads, longest + steps, device);
    for _ in 0..steps {
        let logits = decoding.advance(&new);
        for (row, logits) in rows.iter_mut().zip(&logits) {
            row.extend(logits, &options.stop_tokens)?;
        }
        if rows.iter().all(|row| row.ended) {
            break;
        }
        new = rows.iter().map(|row| vec![row.tokens[row.tokens.len() - 1]]).collect();
    }
    Ok(rows.into_iter().zip(prompts).map(|(row, prompt)| row.tokens[prompt.len()..].to_vec()).collect())
}

/// One sequence of the batch.
struct Row {
    tokens: Vec<u32>,
    sampler: Sampler,
    ended: bool,
}

impl Row {
    fn new(prompt: &[u32], index: usize, sampling: &SamplingOptions) -> Result<Self, GenerateError> {
        let seed = sampling.seed.wrapping_add(index as u64);
        let sampler = Sampler::new(&SamplingOptions { seed, ..sampling.clone() })?;
        Ok(Self { tokens: prompt.to_vec(), sampler, ended: false })
    }

    fn extend(&mut self, logits: &[f32], stop_tokens: &[u32]) -> Result<(), GenerateError> {
        if self.ended {
            return Ok(());
        }
        let token = self.sampler.sample(logits, &self.tokens)?;
        self.ended = stop_tokens.contains(&token);
        if !self.ended {
            self.tokens.push(token);
        }
        Ok(())
    }
}
