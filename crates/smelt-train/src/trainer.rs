//! One model with its optimizer: single steps, without files and without a loop.

use burn::module::{AutodiffModule, Param};
use burn::tensor::Tensor;
use burn_autodiff::Autodiff;
use serde::{Deserialize, Serialize};
use smelt_backend::kernels::AdamWStep;
use smelt_backend::{Kernels, scoped};
use smelt_data::{TokenBatch, derive_seed};
use smelt_model::{AdapterConfig, Decoder, DropoutStream, ModelConfig, ParameterInfo, ParameterVisitor};

use crate::gradients::{Gradients, ParameterNorm};
use crate::loss::{self, MicroBatch, counted};
use crate::optimizer::AdamW;
use crate::schedule::learning_rate;
use crate::{Base, Evaluation, TrainConfig, TrainError, evaluate, recompute};

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Steps done so far, this one included.
    pub step: u64,
    /// Mean negative log-likelihood per counted token before the update, in nats.
    pub loss: f64,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate of the update.
    pub learning_rate: f64,
    /// Positions computed.
    pub tokens: usize,
}

/// A model in training.
pub struct Trainer<B: Kernels> {
    pub(crate) config: TrainConfig,
    pub(crate) model_config: ModelConfig,
    /// What is trained, where it is not the whole model.
    pub(crate) adapter: Option<AdapterConfig>,
    /// Fingerprint of the weights below an adapter.
    pub(crate) base: Option<String>,
    /// `None` only inside a step, while the optimizer owns the parameters.
    model: Option<Decoder<Autodiff<B>>>,
    pub(crate) optimizer: AdamW<B>,
    pub(crate) step: u64,
    pub(crate) device: B::Device,
}

impl<B: Kernels> Trainer<B> {
    /// Starts training `model` from its present weights.
    ///
    /// # Errors
    /// [`TrainError::TooLong`] if the sequences exceed the model's context.
    pub fn new(
        config: TrainConfig,
        model_config: ModelConfig,
        model: Decoder<B>,
        device: B::Device,
    ) -> Result<Self, TrainError> {
        Self::of_trainable(config, model_config, None, model.into_trainable(), device)
    }

    /// Starts training the adapter of `model` from its present values; the rest of the model stays as it is.
    ///
    /// # Errors
    /// As [`Trainer::new`]; [`ModelError::BadAdapterValue`](smelt_model::ModelError).
    pub fn with_adapter(
        config: TrainConfig,
        model_config: ModelConfig,
        adapter: AdapterConfig,
        model: Decoder<B>,
        device: B::Device,
    ) -> Result<Self, TrainError> {
        let model = model.into_trainable_adapter(&model_config, &adapter)?;
        Self::of_trainable(config, model_config, Some(adapter), model, device)
    }

    /// Starts training a new adapter on `base`.
    ///
    /// # Errors
    /// As [`Trainer::with_adapter`].
    pub fn with_new_adapter(
        config: TrainConfig,
        base: Base<B>,
        adapter: &AdapterConfig,
        device: B::Device,
    ) -> Result<Self, TrainError> {
        let (model, adapter) = base.model.with_new_adapter(&base.config, adapter, config.seed)?;
        let trainer = Self::with_adapter(config, base.config, adapter, model, device)?;
        Ok(Self { base: Some(base.fingerprint), ..trainer })
    }

    fn of_trainable(
        config: TrainConfig,
        model_config: ModelConfig,
        adapter: Option<AdapterConfig>,
        model: Decoder<Autodiff<B>>,
        device: B::Device,
    ) -> Result<Self, TrainError> {
        let context = model_config.decoder.context_length();
        if config.seq_length > context {
            let key = "max_position_embeddings";
            return Err(TrainError::TooLong { seq_length: config.seq_length, key, context });
        }
        let model = Some(model);
        Ok(Self {
            config,
            model_config,
            adapter,
            base: None,
            model,
            optimizer: AdamW::new(),
            step: 0,
            device,
        })
    }

    /// The parameters that are trained, in the order of the model.
    pub fn trained_parameters(&self) -> Vec<ParameterInfo> {
        let mut trained = Trained(Vec::new());
        self.trained().visit_parameters(&self.model_config.family.names, &mut trained);
        trained.0
    }

    /// Steps done so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// The settings of the run.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// The model for inference, sharing the parameters.
    ///
    /// Drop it before the next step: a shared parameter cannot be updated in place.
    pub fn model(&self) -> Decoder<B> {
        self.trained().valid()
    }

    fn trained(&self) -> &Decoder<Autodiff<B>> {
        self.model.as_ref().expect("the model is taken only within a step")
    }

    /// One optimizer step on the micro-batches of an effective batch, which weigh by their tokens.
    ///
    /// # Errors
    /// [`TrainError::NonFinite`], [`TrainError::NoGradient`], [`TrainError::NothingToLearn`]; the model is
    /// then as it was.
    pub fn step(&mut self, micro_batches: &[TokenBatch]) -> Result<StepReport, TrainError> {
        scoped(|| self.unscoped_step(micro_batches))
    }

    fn unscoped_step(&mut self, micro_batches: &[TokenBatch]) -> Result<StepReport, TrainError> {
        let (loss, gradients) = self.gradients(micro_batches)?;
        let grad_norm = gradients.global_norm();
        self.check_finite(loss, grad_norm, &gradients)?;

        let learning_rate = learning_rate(&self.config, self.step);
        let update = self.update(learning_rate, grad_norm);
        let model = self.model.take().expect("the model is there between steps");
        let names = &self.model_config.family.names;
        self.model = Some(self.optimizer.step(model, names, gradients, update, &self.config));
        self.step += 1;

        let tokens = micro_batches.iter().map(|batch| batch.input_ids.len()).sum();
        Ok(StepReport { step: self.step, loss, grad_norm, learning_rate, tokens })
    }

    /// Norm of each parameter's gradient on an effective batch, after clipping; changes nothing.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn gradient_norms(&self, micro_batches: &[TokenBatch]) -> Result<Vec<ParameterNorm>, TrainError> {
        let (_, gradients) = self.gradients(micro_batches)?;
        let scale = self.update(0.0, gradients.global_norm()).gradient_scale;
        let mut norms = gradients.norms();
        norms.iter_mut().for_each(|entry| entry.norm *= scale);
        Ok(norms)
    }

    /// The validation loss; `None` if no token counts.
    pub fn evaluate(&self, batches: impl IntoIterator<Item = TokenBatch>) -> Option<Evaluation> {
        evaluate(&self.model(), batches, &self.device)
    }

    /// batch -> forward -> loss -> backward -> accumulate
    fn gradients(&self, micro_batches: &[TokenBatch]) -> Result<(f64, Gradients<B>), TrainError> {
        let total: f64 = micro_batches.iter().map(counted).sum();
        if total <= 0.0 {
            return Err(TrainError::NothingToLearn { step: self.step + 1 });
        }
        let backward = match self.config.gradient_checkpointing {
            true => recompute::backward_by_block,
            false => loss::backward,
        };
        let model = self.trained();
        let mut loss = 0.0;
        let mut gradients = Gradients::of(model, &self.model_config.family.names);
        for (index, batch) in micro_batches.iter().enumerate() {
            let seed = derive_seed(derive_seed(self.config.seed, self.step), index as u64);
            let dropout = Some(DropoutStream::new(seed));
            let micro_batch = MicroBatch { batch, scale: 1.0 / total, dropout };
            loss += backward(model, micro_batch, &mut gradients, &self.device);
        }
        gradients.check_complete()?;
        Ok((loss, gradients))
    }

    fn update(&self, learning_rate: f64, grad_norm: f64) -> AdamWStep {
        let limit = self.config.max_grad_norm;
        // The small term is PyTorch's `clip_grad_norm_`.
        let gradient_scale = if limit > 0.0 { (limit / (grad_norm + 1e-6)).min(1.0) } else { 1.0 };
        AdamWStep {
            learning_rate,
            beta1: self.config.adam_beta1,
            beta2: self.config.adam_beta2,
            epsilon: self.config.adam_epsilon,
            weight_decay: self.config.weight_decay,
            number: self.step + 1,
            gradient_scale,
        }
    }

    fn check_finite(&self, loss: f64, grad_norm: f64, gradients: &Gradients<B>) -> Result<(), TrainError> {
        let step = self.step + 1;
        if !loss.is_finite() {
            return Err(TrainError::NonFinite { step, what: "the loss".to_owned(), value: loss });
        }
        if grad_norm.is_finite() {
            return Ok(());
        }
        let worst = gradients.norms().into_iter().find(|entry| !entry.norm.is_finite());
        let what = worst.map_or("the gradient's global norm".to_owned(), |entry| {
            format!("the gradient of `{}`", entry.name)
        });
        Err(TrainError::NonFinite { step, what, value: grad_norm })
    }
}

/// Lists what asks for a gradient.
struct Trained(Vec<ParameterInfo>);

impl<B: Kernels> ParameterVisitor<Autodiff<B>> for Trained {
    fn visit<const D: usize>(&mut self, info: &ParameterInfo, parameter: &Param<Tensor<Autodiff<B>, D>>) {
        if parameter.val().is_require_grad() {
            self.0.push(info.clone());
        }
    }
}
