//! Arithmetic of training, by the usual count.
//!
//! Six operations per weight of a matrix and token: two forward, four backward; and twelve per layer, width
//! and position that attention looks at (Kaplan et al. 2020, arXiv:2001.08361; Chowdhery et al. 2022,
//! arXiv:2204.02311). What is computed twice to save memory does not count.

use crate::config::{DecoderConfig, LayerConfig};
use crate::estimate::{mlp_parameters, parameters};

/// What a training step computes gradients of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trained {
    /// Every weight.
    Model,
    /// A small part beside frozen weights, through which gradients pass without adding to any.
    Adapter,
}

/// Floating-point operations of a training step per token, sequences being `seq_length` long.
pub fn training_flops_per_token(config: &DecoderConfig, seq_length: usize, trained: Trained) -> f64 {
    let head = config.vocab_size as f64 * config.hidden_size as f64;
    let weights = parameters(config).blocks as f64 - idle_expert_weights(config) + head;
    let seen = |layer: &LayerConfig| layer.sliding_window.unwrap_or(seq_length).min(seq_length) as f64;
    let positions: f64 = config.layers.iter().map(seen).sum();
    let per_weight = match trained {
        Trained::Model => 6.0,
        Trained::Adapter => 4.0,
    };
    // Half of the scores are masked.
    per_weight * weights + 12.0 * config.attention.query_size() as f64 * positions / 2.0
}

/// Weights of the experts that a token does not pass through.
fn idle_expert_weights(config: &DecoderConfig) -> f64 {
    let Some(experts) = config.experts else { return 0.0 };
    let idle = experts.num_experts.saturating_sub(experts.num_experts_per_tok);
    let expert = mlp_parameters(config.hidden_size, config.expert_mlp(experts.intermediate_size));
    let sparse = config.layers.iter().filter(|layer| layer.sparse).count();
    (sparse * idle) as f64 * expert as f64
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::ModelConfig;

    fn flops(section: Value, seq_length: usize) -> f64 {
        let Value::Object(section) = section else { panic!("an object") };
        let config = ModelConfig::from_section(&section).unwrap();
        training_flops_per_token(&config.decoder, seq_length, Trained::Model)
    }

    #[test]
    fn weights_count_six_times_and_scores_twelve() {
        let section = json!({
            "model_type": "llama", "vocab_size": 100, "hidden_size": 8, "num_hidden_layers": 2,
            "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 64,
        });
        // Two norms, four square projections, three of the feed-forward part.
        let block = 2 * 8 + 4 * 8 * 8 + 3 * 8 * 16;
        let expected = |positions: usize| (6 * (2 * block + 800) + 6 * 8 * positions) as f64;
        assert_eq!(flops(section.clone(), 32), expected(64));
        let mut windowed = section;
        windowed["model_type"] = "mistral".into();
        windowed["sliding_window"] = 4.into();
        assert_eq!(flops(windowed, 32), expected(8));
    }

    #[test]
    fn idle_experts_compute_nothing() {
        let section = |experts: u32| {
            json!({
                "model_type": "mixtral", "vocab_size": 100, "hidden_size": 8, "num_hidden_layers": 1,
                "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 64,
                "num_local_experts": experts, "num_experts_per_tok": 2,
            })
        };
        // More experts, more of the router: a row of it each.
        assert_eq!(flops(section(8), 16) - flops(section(4), 16), f64::from(6 * 4 * 8));
    }
}
