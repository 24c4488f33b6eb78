//! Checks of training: losses, learning rates, gradient norms, and the logits at the end.

use std::collections::BTreeMap;

use serde::Deserialize;
use smelt_backend::{Job, Kernels, int_tensor, to_host};
use smelt_data::TokenBatch;
use smelt_model::{Adapter, ForwardInput, load, load_for_training};
use smelt_train::{LrSchedule, TrainConfig, Trainer};

use super::checks::Checks;
use super::golden::Golden;
use crate::error::CliError;
use crate::token_ids::TokenIds;

/// Tensors that the checks read.
const TENSORS: [&str; 4] = ["batches", "attention_mask", "final_logits_batch0_row0", "final_loss_batch0"];
/// Folder of the adapter that is trained, as it starts.
pub const ADAPTER_FOLDER: &str = "adapter_init";
/// Largest relative error of a learning rate: rounding alone.
const RATE_TOLERANCE: f64 = 1e-9;

/// The part of `meta.json` that describes the training run.
#[derive(Debug, Deserialize)]
struct Reference {
    hyper: Hyper,
    lrs: Vec<f64>,
    losses: Vec<f64>,
    grad_norms: Vec<f64>,
    step0_param_grad_norms_after_clip: BTreeMap<String, f64>,
}

#[derive(Debug, Deserialize)]
struct Hyper {
    accum: usize,
    betas: [f64; 2],
    clip: f64,
    eps: f64,
    lr: f64,
    weight_decay: f64,
}

/// The checks of one folder, on the backend that was selected.
pub struct TrainingJob<'a> {
    pub golden: &'a Golden,
    pub checks: &'a mut Checks,
}

impl Job for TrainingJob<'_> {
    type Output = Result<(), CliError>;

    fn run<B: Kernels>(self, device: B::Device) -> Self::Output {
        let TrainingJob { golden, checks } = self;
        checks.unread("tensor", golden.names().into_iter().filter(|name| !TENSORS.contains(&name.as_str())));
        let path = golden.folder.join("meta.json");
        let reference: Reference =
            serde_json::from_value(golden.meta.clone()).map_err(|source| CliError::Json { path, source })?;
        let batches = batches(golden)?;
        let Some(first) = batches.first() else {
            checks.fail("batches", "there are none");
            return Ok(());
        };
        let mut trainer = trainer::<B>(golden, settings(&reference, first), &device)?;
        gradient_norms(&trainer, &reference, &batches, golden, checks)?;
        curves(&mut trainer, &reference, &batches, golden, checks)?;
        final_model(&trainer, &batches, golden, checks, &device)
    }
}

/// A trainer of the whole model, or of the adapter that lies beside it.
fn trainer<B: Kernels>(
    golden: &Golden,
    settings: TrainConfig,
    device: &B::Device,
) -> Result<Trainer<B>, CliError> {
    let folder = golden.folder.join(ADAPTER_FOLDER);
    if !folder.exists() {
        let (config, model) = load_for_training::<B>(&golden.folder, device)?;
        return Ok(Trainer::new(settings, config, model, device.clone())?);
    }
    let (config, model) = load::<B>(&golden.folder, device)?;
    let mut adapter = Adapter::open(&folder, &config.family.names)?;
    // What PEFT notes is not what the generator trained with: it had no dropout.
    adapter.config.lora_dropout = 0.0;
    let model = model.with_adapter(&config, &adapter)?;
    Ok(Trainer::with_adapter(settings, config, adapter.config, model, device.clone())?)
}

fn settings(reference: &Reference, batch: &TokenBatch) -> TrainConfig {
    let Reference { hyper, lrs, .. } = reference;
    let constant = lrs.iter().all(|rate| rate == &hyper.lr);
    // The generator warms up linearly to `lr`, reached by the step after as many steps as it names.
    let warmup_steps =
        if constant { 0 } else { lrs.iter().take_while(|rate| **rate < hyper.lr).count() as u64 + 1 };
    TrainConfig {
        batch_size: batch.batch_size,
        seq_length: batch.seq_length,
        max_steps: lrs.len() as u64,
        warmup_steps,
        learning_rate: hyper.lr,
        min_learning_rate: hyper.lr / 10.0,
        lr_schedule: if constant { LrSchedule::Constant } else { LrSchedule::Cosine },
        weight_decay: hyper.weight_decay,
        decay_all_parameters: true,
        adam_beta1: hyper.betas[0],
        adam_beta2: hyper.betas[1],
        adam_epsilon: hyper.eps,
        max_grad_norm: hyper.clip,
        gradient_accumulation_steps: hyper.accum,
        ..TrainConfig::default()
    }
}

/// The batches as the trainer reads them: each token's target is the next one, where that is kept.
fn batches(golden: &Golden) -> Result<Vec<TokenBatch>, CliError> {
    let &[_, rows, seq] = golden.shape("batches")? else {
        let found = format!("shape {:?}", golden.shape("batches")?);
        return Err(CliError::BadTensor { name: "batches".to_owned(), found });
    };
    let ids = golden.whole_numbers("batches")?;
    let mask = golden.whole_numbers("attention_mask")?;
    let size = (rows * seq).max(1);
    Ok(ids.chunks(size).zip(mask.chunks(size)).map(|(ids, mask)| shifted(ids, mask, rows, seq)).collect())
}

fn shifted(ids: &[u32], mask: &[u32], rows: usize, seq: usize) -> TokenBatch {
    let next = |values: &[u32]| values.chunks(seq).flat_map(|row| row[1..].to_vec()).collect::<Vec<_>>();
    TokenBatch {
        batch_size: rows,
        seq_length: seq - 1,
        input_ids: ids.chunks(seq).flat_map(|row| row[..seq - 1].to_vec()).collect(),
        targets: next(ids),
        loss_mask: next(mask).into_iter().map(|keep| keep as f32).collect(),
        document_ids: None,
        position_ids: None,
    }
}

/// The micro-batches of a step.
fn of_step(batches: &[TokenBatch], step: usize, accumulation: usize) -> Vec<TokenBatch> {
    (0..accumulation).map(|index| batches[(step * accumulation + index) % batches.len()].clone()).collect()
}

fn gradient_norms<B: Kernels>(
    trainer: &Trainer<B>,
    reference: &Reference,
    batches: &[TokenBatch],
    golden: &Golden,
    checks: &mut Checks,
) -> Result<(), CliError> {
    let expected: BTreeMap<String, f64> =
        reference.step0_param_grad_norms_after_clip.iter().map(|(name, norm)| (plain(name), *norm)).collect();
    let found = trainer.gradient_norms(&of_step(batches, 0, reference.hyper.accum))?;
    let names: Vec<&str> = found.iter().map(|entry| entry.name.as_str()).collect();
    let missing: Vec<&str> =
        expected.keys().map(String::as_str).filter(|name| !names.contains(name)).collect();
    if !missing.is_empty() || names.len() != expected.len() {
        let note =
            format!("{} tensors, expected {}; missing: {}", names.len(), expected.len(), missing.join(", "));
        checks.fail("gradient norm by tensor", note);
        return Ok(());
    }
    let norms: Vec<f64> = found.iter().map(|entry| entry.norm).collect();
    let expected: Vec<f64> = names.iter().map(|name| expected[*name]).collect();
    checks.relative("gradient norm by tensor", &norms, &expected, golden.tolerance("grad_norm_rel", 2e-3));
    Ok(())
}

/// The parameter's name without what PEFT puts around it in memory.
fn plain(name: &str) -> String {
    name.strip_prefix("base_model.model.").unwrap_or(name).replace(".default", "")
}

fn curves<B: Kernels>(
    trainer: &mut Trainer<B>,
    reference: &Reference,
    batches: &[TokenBatch],
    golden: &Golden,
    checks: &mut Checks,
) -> Result<(), CliError> {
    let (mut losses, mut norms, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for step in 0..reference.lrs.len() {
        let report = trainer.step(&of_step(batches, step, reference.hyper.accum))?;
        losses.push(report.loss as f32);
        norms.push(report.grad_norm);
        rates.push(report.learning_rate);
    }
    let expected: Vec<f32> = reference.losses.iter().map(|loss| *loss as f32).collect();
    checks.close("loss of step 1", &losses[..1], &expected[..1], golden.tolerance("loss_abs_step1", 2e-5));
    let name = format!("losses of {} steps", losses.len());
    checks.close(&name, &losses, &expected, golden.tolerance("loss_abs_step20", 2e-3));
    checks.relative("learning rates", &rates, &reference.lrs, RATE_TOLERANCE);
    checks.relative("gradient norms", &norms, &reference.grad_norms, golden.tolerance("grad_norm_rel", 2e-3));
    Ok(())
}

fn final_model<B: Kernels>(
    trainer: &Trainer<B>,
    batches: &[TokenBatch],
    golden: &Golden,
    checks: &mut Checks,
    device: &B::Device,
) -> Result<(), CliError> {
    let loss = trainer.evaluate(batches[..1].to_vec()).map_or(f32::NAN, |evaluation| evaluation.loss as f32);
    let expected = golden.floats("final_loss_batch0")?;
    checks.close("final loss", &[loss], &expected, golden.tolerance("loss_abs_step20", 2e-3));
    let seq = golden.shape("batches")?[2];
    let row = TokenIds { values: golden.whole_numbers("batches")?[..seq].to_vec(), shape: [1, seq] };
    let model = trainer.model();
    let ids = int_tensor::<B, 2>(&row.values, row.shape, device);
    let logits = to_host(model.logits(model.hidden(ForwardInput::new(ids))));
    let expected = golden.floats("final_logits_batch0_row0")?;
    checks.close("final logits", &logits, &expected, golden.tolerance("final_logits_abs", 2e-2));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_next_tokens_and_padding_does_not_count() {
        let batch = shifted(&[1, 2, 3, 4, 5, 0], &[1, 1, 1, 1, 1, 0], 2, 3);
        assert_eq!((batch.batch_size, batch.seq_length), (2, 2));
        assert_eq!(batch.input_ids, [1, 2, 4, 5]);
        assert_eq!(batch.targets, [2, 3, 5, 0]);
        assert_eq!(batch.loss_mask, [1.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn micro_batches_go_round() {
        let batches: Vec<TokenBatch> = (0..3).map(|id| shifted(&[id, id], &[1, 1], 1, 2)).collect();
        let ids: Vec<u32> = of_step(&batches, 2, 2).iter().map(|batch| batch.input_ids[0]).collect();
        assert_eq!(ids, [1, 2]);
    }
}
