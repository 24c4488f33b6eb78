//! What the log of a run says of its beginning: the settings, and what they run on.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use smelt_backend::{Kernels, Selection, matmul_flops_per_second};
use smelt_model::{ModelConfig, Trained, training_flops_per_token};
use smelt_train::RunStart;

use crate::config::{Method, RunConfig};
use crate::training::RunFacts;

/// Products of these sizes are as fast as any, on processors of few and of many cores.
const MATMUL_SIZES: [usize; 2] = [512, 1024];
/// Enough for the best of several products of a size, and nobody's time.
const MATMUL_TIME: Duration = Duration::from_millis(60);

/// The first record of a process in the log of its run; may measure the device.
pub fn run_start<B: Kernels>(
    config: &RunConfig,
    model: &ModelConfig,
    facts: &RunFacts,
    selection: &Selection,
    device: &B::Device,
) -> RunStart {
    let trained = if config.train.method == Method::Full { Trained::Model } else { Trained::Adapter };
    RunStart {
        step: facts.first_step,
        unix_seconds: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        version: env!("CARGO_PKG_VERSION"),
        commit: option_env!("SMELT_COMMIT"),
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        backend: selection.name.to_string(),
        device: selection.device.clone(),
        threads: rayon::current_num_threads(),
        family: facts.family,
        parameters: facts.parameters,
        train_tokens: facts.train_tokens,
        val_tokens: facts.val_tokens,
        flops_per_token: training_flops_per_token(&model.decoder, config.train.seq_length, trained),
        peak_flops_per_second: peak_flops_per_second::<B>(config, selection, device),
        config: serde_json::to_value(config).expect("a config is plain data"),
    }
}

/// What the config says, or what the processor does; a GPU would compile for seconds before it is measured.
fn peak_flops_per_second<B: Kernels>(
    config: &RunConfig,
    selection: &Selection,
    device: &B::Device,
) -> Option<f64> {
    match config.log.peak_tflops {
        Some(tflops) => (tflops > 0.0).then_some(tflops * 1e12),
        None if !selection.name.is_processor() => None,
        None => {
            let rates = MATMUL_SIZES.map(|size| matmul_flops_per_second::<B>(size, MATMUL_TIME, device));
            rates.into_iter().reduce(f64::max)
        }
    }
}
