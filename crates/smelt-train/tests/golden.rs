//! Twenty AdamW steps against PyTorch, on every backend of the build.

use smelt_backend::{Kernels, int_tensor, to_host};
use smelt_data::TokenBatch;
use smelt_model::ForwardInput;
use smelt_testkit::{Golden, Tolerance, assert_close, backend_test};
use smelt_train::{LrSchedule, TrainConfig, Trainer};

/// Batch `index` of the fixture; the label of a position is the next token, where that is no padding.
fn batch(golden: &Golden, index: usize) -> TokenBatch {
    let ids = golden.tensor("batches");
    let [count, batch_size, seq_length] = ids.dims();
    let range = |index: usize| {
        let size = batch_size * seq_length;
        (index % count) * size..(index % count + 1) * size
    };
    let input_ids = ids.ids()[range(index)].to_vec();
    let mask = &golden.tensor("attention_mask").ids()[range(index)];
    let next =
        |values: &[u32], at: usize| if (at + 1).is_multiple_of(seq_length) { 0 } else { values[at + 1] };
    let targets = (0..input_ids.len()).map(|at| next(&input_ids, at)).collect();
    let loss_mask = (0..input_ids.len()).map(|at| next(mask, at) as f32).collect();
    TokenBatch {
        batch_size,
        seq_length,
        input_ids,
        targets,
        loss_mask,
        document_ids: None,
        position_ids: None,
    }
}

fn config(golden: &Golden) -> TrainConfig {
    let hyper = &golden.meta["hyper"];
    let number = |key: &str| hyper[key].as_f64().expect("a number");
    TrainConfig {
        batch_size: 4,
        seq_length: 24,
        max_steps: 20,
        warmup_steps: 0,
        learning_rate: number("lr"),
        lr_schedule: LrSchedule::Constant,
        weight_decay: number("weight_decay"),
        decay_all_parameters: true,
        adam_epsilon: number("eps"),
        adam_beta1: hyper["betas"][0].as_f64().expect("a number"),
        adam_beta2: hyper["betas"][1].as_f64().expect("a number"),
        max_grad_norm: number("clip"),
        ..TrainConfig::default()
    }
}

fn numbers(value: &serde_json::Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|value| value.as_f64().expect("a number")).collect()
}

fn train_gpt2<B: Kernels>(device: &B::Device) {
    let golden = Golden::open("train_gpt2");
    let (model_config, model) = smelt_model::load::<B>(&golden.folder, device).expect("the fixture loads");
    let mut trainer = Trainer::new(config(&golden), model_config, model, device.clone()).expect("it fits");

    let expected = &golden.meta["step0_param_grad_norms_after_clip"];
    for entry in trainer.gradient_norms(&[batch(&golden, 0)]).expect("gradients") {
        let expected = expected[&entry.name].as_f64().unwrap_or_else(|| panic!("unknown `{}`", entry.name));
        assert_relative(&entry.name, entry.norm, expected);
    }
    let (losses, norms) = (numbers(&golden.meta["losses"]), numbers(&golden.meta["grad_norms"]));
    for (step, (loss, norm)) in losses.iter().zip(norms).enumerate() {
        let report = trainer.step(&[batch(&golden, step)]).expect("a step");
        let tolerance = if step == 0 { Tolerance::FirstTrainingLoss } else { Tolerance::LastTrainingLoss };
        assert_close(&format!("loss of step {step}"), &[report.loss as f32], &[*loss as f32], tolerance);
        assert_relative(&format!("gradient norm of step {step}"), report.grad_norm, norm);
    }
    final_logits(&golden, &trainer, device);
}

fn assert_relative(what: &str, found: f64, expected: f64) {
    let error = ((found - expected) / expected).abs();
    assert!(error <= f64::from(Tolerance::GradientNorm.value()), "{what}: {found}, expected {expected}");
}

fn final_logits<B: Kernels>(golden: &Golden, trainer: &Trainer<B>, device: &B::Device) {
    let model = trainer.model();
    let first = &batch(golden, 0).input_ids[..24];
    let hidden = model.hidden(ForwardInput::new(int_tensor(first, [1, 24], device)));
    let logits = to_host(model.logits(hidden));
    assert_close(
        "final logits",
        &logits,
        golden.tensor("final_logits_batch0_row0").floats(),
        Tolerance::TrainedLogits,
    );
    let evaluation = trainer.evaluate([batch(golden, 0)]).expect("tokens count");
    let expected = golden.tensor("final_loss_batch0").scalar();
    assert_close("final loss", &[evaluation.loss as f32], &[expected], Tolerance::LastTrainingLoss);
}

backend_test!(twenty_steps_match_pytorch, train_gpt2);

/// One batch of four rows, and the same rows as two micro-batches of different token counts.
fn accumulation<B: Kernels>(device: &B::Device) {
    let golden = Golden::open("train_gpt2");
    let mut whole = batch(&golden, 0);
    whole.loss_mask[..20].fill(0.0);
    let half = |rows: std::ops::Range<usize>| {
        let range = rows.start * 24..rows.end * 24;
        TokenBatch {
            batch_size: rows.len(),
            seq_length: 24,
            input_ids: whole.input_ids[range.clone()].to_vec(),
            targets: whole.targets[range.clone()].to_vec(),
            loss_mask: whole.loss_mask[range].to_vec(),
            document_ids: None,
            position_ids: None,
        }
    };
    let trainer = || {
        let (model_config, model) =
            smelt_model::load::<B>(&golden.folder, device).expect("the fixture loads");
        Trainer::new(config(&golden), model_config, model, device.clone()).expect("it fits")
    };
    let at_once = trainer().step(&[whole.clone()]).expect("a step");
    let in_parts = trainer().step(&[half(0..1), half(1..4)]).expect("a step");
    assert_close("loss", &[in_parts.loss as f32], &[at_once.loss as f32], Tolerance::Loss);
    assert!((in_parts.grad_norm / at_once.grad_norm - 1.0).abs() < 1e-4);
    // The mean over micro-batches would have been another number.
    let mean_of_means = [half(0..1), half(1..4)].map(|part| trainer().step(&[part]).expect("a step").loss);
    let wrong = (mean_of_means[0] + mean_of_means[1]) / 2.0;
    assert!((wrong - at_once.loss).abs() > 1e-3, "the parts are too alike for this test");
}

backend_test!(micro_batches_weigh_by_their_tokens, accumulation);
