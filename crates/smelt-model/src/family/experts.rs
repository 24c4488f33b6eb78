//! What the families with sparse experts share.

use crate::config::{DecoderConfig, ExpertsConfig, Fields, SectionKey};
use crate::error::ModelError;
use crate::limits;

/// Spellings of the number of experts: Mixtral's, Qwen's.
const NUM_EXPERTS: &[&str] = &["num_local_experts", "num_experts"];
const PER_TOKEN: &[&str] = &["num_experts_per_tok"];

/// What a family's experts are where its configuration says nothing.
#[derive(Debug, Clone, Copy)]
pub struct ExpertKeys {
    /// Width of one expert.
    pub intermediate_size: &'static [&'static str],
    /// Whether the weights of a token's experts sum to 1, unless `norm_topk_prob` says otherwise.
    pub norm_topk_prob: bool,
}

/// Gives `config` the experts that `fields` describe, in all layers but those of `mlp_only_layers` and those
/// that `decoder_sparse_step` leaves out.
///
/// # Errors
/// [`ModelError::MissingKey`] and [`ModelError::BadValue`].
pub fn add(fields: &Fields<'_>, config: &mut DecoderConfig, keys: ExpertKeys) -> Result<(), ModelError> {
    let num_experts = fields.size(NUM_EXPERTS, limits::EXPERTS)?;
    let num_experts_per_tok = fields.size(PER_TOKEN, limits::EXPERTS)?;
    if num_experts_per_tok > num_experts {
        return Err(fields.bad(PER_TOKEN, format!("at most the number of experts ({num_experts})")));
    }
    let shared = fields.optional_count(&["shared_expert_intermediate_size"], limits::INTERMEDIATE_SIZE)?;
    config.experts = Some(ExpertsConfig {
        num_experts,
        num_experts_per_tok,
        intermediate_size: fields.size(keys.intermediate_size, limits::INTERMEDIATE_SIZE)?,
        norm_topk_prob: fields.flag("norm_topk_prob", keys.norm_topk_prob)?,
        shared_expert_intermediate_size: shared.filter(|size| *size > 0),
        router_aux_loss_coef: fields.optional_number(&["router_aux_loss_coef"])?.unwrap_or(0.001),
    });
    let dense = fields.indices(&["mlp_only_layers"], config.num_hidden_layers)?;
    let step = fields.optional_size(&["decoder_sparse_step"], limits::LAYERS)?.unwrap_or(1);
    for (index, layer) in config.layers.iter_mut().enumerate() {
        layer.sparse = !dense.contains(&index) && (index + 1).is_multiple_of(step);
    }
    Ok(())
}

/// The quantities that the `model` section of a run may set for every family with experts.
pub const SECTION_KEYS: &[SectionKey] = &[
    SectionKey { names: &["num_experts_per_tok"], writes: &["num_experts_per_tok"] },
    SectionKey { names: &["norm_topk_prob"], writes: &["norm_topk_prob"] },
    SectionKey { names: &["router_aux_loss_coef"], writes: &["router_aux_loss_coef"] },
];

/// Keys of Qwen's families with experts, besides [`SECTION_KEYS`].
pub const QWEN_KEYS: &[SectionKey] = &[
    SectionKey { names: &["num_experts"], writes: &["num_experts"] },
    SectionKey { names: &["moe_intermediate_size"], writes: &["moe_intermediate_size"] },
    SectionKey { names: &["shared_expert_intermediate_size"], writes: &["shared_expert_intermediate_size"] },
    SectionKey { names: &["decoder_sparse_step"], writes: &["decoder_sparse_step"] },
    SectionKey { names: &["mlp_only_layers"], writes: &["mlp_only_layers"] },
];
