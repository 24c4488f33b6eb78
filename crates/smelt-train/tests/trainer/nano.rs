//! A model, data and settings small enough for a test.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use smelt_backend::Kernels;
use smelt_data::{BatchSource, DataError, EvalBatches, TokenBatch, TokenDtype, TokenShard};
use smelt_model::{Decoder, ModelConfig};
use smelt_train::{Data, LrSchedule, TrainConfig, Trainer};

pub const VOCABULARY: u32 = 64;
pub const SEQUENCE: usize = 16;
/// Steps whose batch `Batches::bad` spoils.
const NOT_FINITE: f32 = f32::NAN;

/// Pseudo-random batches; some may be spoilt.
#[derive(Debug, Default)]
pub struct Batches {
    /// Numbers of the batches whose weights in the loss are not finite.
    pub bad: Vec<u64>,
}

impl BatchSource for Batches {
    fn batches_per_epoch(&self) -> u64 {
        u64::MAX
    }

    fn batch(&self, index: u64) -> Result<TokenBatch, DataError> {
        let id = |at: u64| ((at * at * 7 + at * 13 + index * 29 + 5) % u64::from(VOCABULARY)) as u32;
        let tokens = 2 * SEQUENCE as u64;
        let weight = if self.bad.contains(&index) { NOT_FINITE } else { 1.0 };
        Ok(TokenBatch {
            batch_size: 2,
            seq_length: SEQUENCE,
            input_ids: (0..tokens).map(id).collect(),
            targets: (1..=tokens).map(id).collect(),
            loss_mask: vec![weight; tokens as usize],
            document_ids: None,
            position_ids: None,
        })
    }
}

/// The first batches of a run.
pub fn batch(index: u64) -> TokenBatch {
    Batches::default().batch(index).unwrap()
}

/// Batches, and something of another kind to validate on.
pub fn data(folder: &Path, batches: Batches) -> Data {
    let path = folder.join("val.bin");
    let tokens: Vec<u8> =
        (0..100u32).flat_map(|at| ((at * 31 + at / 7) % VOCABULARY).to_le_bytes()).collect();
    std::fs::write(&path, tokens).unwrap();
    let shard = TokenShard::open(&path, TokenDtype::U32).unwrap();
    let validation = Some(EvalBatches::new(&shard, 2, SEQUENCE, None));
    Data { train: Arc::new(batches), validation, fingerprint: "nano".to_owned() }
}

pub fn model_config() -> ModelConfig {
    let section = json!({
        "model_type": "gpt2", "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 160, "max_position_embeddings": SEQUENCE,
        "resid_pdrop": 0.1, "tie_word_embeddings": false,
    });
    let Value::Object(section) = section else { unreachable!("written as an object") };
    ModelConfig::from_section(&section).unwrap()
}

pub fn settings() -> TrainConfig {
    TrainConfig {
        batch_size: 2,
        seq_length: SEQUENCE,
        max_steps: 8,
        warmup_steps: 0,
        learning_rate: 3e-3,
        lr_schedule: LrSchedule::Constant,
        eval_interval: 1,
        save_interval: 4,
        log_interval: 1,
        ..TrainConfig::default()
    }
}

pub fn trainer<B: Kernels>(settings: &TrainConfig, device: &B::Device) -> Trainer<B> {
    let config = model_config();
    let model = Decoder::<B>::init(&config, 1, device);
    Trainer::new(settings.clone(), config, model, device.clone()).unwrap()
}
