//! One model with its optimizer: single steps, without files and without a loop.

use burn::module::{AutodiffModule, Param};
use burn::tensor::Tensor;
use burn_autodiff::Autodiff;
use serde::{Deserialize, Serialize};
use smelt_backend::profile::phase;
use smelt_backend::{Kernels, memory, scoped};
use smelt_data::{TokenBatch, derive_seed};
use smelt_model::{
    AdapterConfig, Decoder, DropoutStream, ModelConfig, NameMap, ParameterInfo, ParameterVisitor,
};

use crate::average::Average;
use crate::gradients::{Gradients, ParameterNorm};
use crate::loss::{self, MicroBatch, counted};
use crate::master_weights::MasterWeights;
use crate::optimizer::{Optimizer, Step};
use crate::schedule::learning_rate;
use crate::{Base, Evaluation, Progress, SkippedStep, TrainConfig, TrainError, evaluate, recompute};

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
    /// The loss scale of the step, in f16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f64>,
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
    masters: MasterWeights<B>,
    pub(crate) optimizer: Optimizer<B>,
    pub(crate) average: Option<Average<B>>,
    pub(crate) step: u64,
    pub(crate) progress: Progress,
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
        // Each step allocates what the step before freed.
        memory::keep_freed();
        let names = &model_config.family.names;
        let average = config.ema_decay.map(|_| Average::of(&model, names));
        let (masters, model) = MasterWeights::take(config.precision, model, names);
        let (optimizer, progress) = (Optimizer::new(&config), Progress::new(&config));
        Ok(Self {
            config,
            model_config,
            adapter,
            base: None,
            model: Some(model),
            masters,
            optimizer,
            average,
            step: 0,
            progress,
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

    /// What the policies of the run remember.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The model for inference, sharing the parameters, in f32 whatever the precision of training.
    ///
    /// Drop it before the next step: a shared parameter cannot be updated in place.
    pub fn model(&self) -> Decoder<B> {
        self.masters.put_into(self.trained().valid(), self.names())
    }

    /// The model with the moving average of its weights, where one is kept.
    pub fn averaged_model(&self) -> Option<Decoder<B>> {
        self.average.as_ref().map(|average| average.put_into(self.trained().valid(), self.names()))
    }

    /// What validates and samples: the average where one is kept, or the model.
    pub fn best_model(&self) -> Decoder<B> {
        self.averaged_model().unwrap_or_else(|| self.model())
    }

    fn names(&self) -> &NameMap {
        &self.model_config.family.names
    }

    fn trained(&self) -> &Decoder<Autodiff<B>> {
        self.model.as_ref().expect("the model is taken only within a step")
    }

    /// One optimizer step on the micro-batches of an effective batch, which weigh by their tokens.
    ///
    /// # Errors
    /// [`TrainError::NonFinite`], which [`Trainer::skip`] may pass over, [`TrainError::NoGradient`],
    /// [`TrainError::NothingToLearn`]; the model is then as it was.
    pub fn step(&mut self, micro_batches: &[TokenBatch]) -> Result<StepReport, TrainError> {
        scoped(|| self.unscoped_step(micro_batches))
    }

    fn unscoped_step(&mut self, micro_batches: &[TokenBatch]) -> Result<StepReport, TrainError> {
        let (loss, gradients) = self.gradients(micro_batches)?;
        let loss_scale = self.progress.scale();
        let grad_norm = phase("clip", || gradients.global_norm()) / loss_scale;
        self.check_finite(loss, grad_norm, &gradients)?;

        let learning_rate = learning_rate(&self.config, self.step);
        let gradient_scale = self.clipping(grad_norm) / loss_scale;
        // Skipped steps moved nothing, so that bias corrections do not count them.
        let number = self.step - self.progress.skipped_steps + 1;
        let model = self.model.take().expect("the model is there between steps");
        let names = &self.model_config.family.names;
        let numbers = Step { learning_rate, number, gradient_scale };
        let step = || self.optimizer.step(model, &mut self.masters, names, gradients, numbers);
        self.model = Some(phase("optimizer", step));
        phase("average", || self.follow(number));
        self.step += 1;

        let tokens = micro_batches.iter().map(|batch| batch.input_ids.len()).sum();
        let loss_scale = self.progress.loss_scale.map(|_| loss_scale);
        self.progress.updated(&self.config);
        Ok(StepReport { step: self.step, loss, grad_norm, learning_rate, tokens, loss_scale })
    }

    /// Lets the moving average follow update `number`.
    fn follow(&mut self, number: u64) {
        if let (Some(mut average), Some(decay)) = (self.average.take(), self.config.ema_decay) {
            average.follow(&self.model(), self.names(), decay, number);
            self.average = Some(average);
        }
    }

    /// Passes over a step that failed with `fault`, if it was not finite and the policy allows it: the next one
    /// has other data and, in f16, half the loss scale.
    ///
    /// # Errors
    /// `fault` itself otherwise.
    pub fn skip(&mut self, fault: TrainError) -> Result<SkippedStep, TrainError> {
        if !matches!(fault, TrainError::NonFinite { .. }) || !self.progress.may_skip(&self.config) {
            return Err(fault);
        }
        let TrainError::NonFinite { what, value, .. } = fault else { return Err(fault) };
        self.step += 1;
        self.progress.skipped();
        let loss_scale = self.progress.loss_scale.map(|scale| scale.scale);
        let consecutive = self.progress.consecutive_skipped_steps;
        Ok(SkippedStep { step: self.step, what, value, consecutive, loss_scale })
    }

    /// Goes on from the moving average in `model`.
    pub(crate) fn restore_average(&mut self, model: &Decoder<B>) {
        if let Some(average) = &mut self.average {
            average.restore(model, &self.model_config.family.names);
        }
    }

    /// Takes note of what an evaluation of the present step found; true if it is the best so far.
    pub(crate) fn validated(&mut self, evaluation: &Evaluation) -> bool {
        self.progress.validated(self.step, evaluation.loss, &self.config)
    }

    /// Patience with the validation loss has run out.
    pub fn stops_early(&self) -> bool {
        self.progress.stops_early(&self.config)
    }

    /// Norm of each parameter's gradient on an effective batch, after clipping; changes nothing.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn gradient_norms(&self, micro_batches: &[TokenBatch]) -> Result<Vec<ParameterNorm>, TrainError> {
        let (_, gradients) = self.gradients(micro_batches)?;
        let loss_scale = self.progress.scale();
        let scale = self.clipping(gradients.global_norm() / loss_scale) / loss_scale;
        let mut norms = gradients.norms();
        norms.iter_mut().for_each(|entry| entry.norm *= scale);
        Ok(norms)
    }

    /// The validation loss of [`Trainer::best_model`]; `None` if no token counts.
    pub fn evaluate(&self, batches: impl IntoIterator<Item = TokenBatch>) -> Option<Evaluation> {
        evaluate(&self.best_model(), batches, &self.device)
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
        let (loss_scale, z_loss) = (self.progress.scale(), self.config.z_loss);
        let model = self.trained();
        let mut loss = 0.0;
        let mut gradients = Gradients::of(model, &self.model_config.family.names);
        for (index, batch) in micro_batches.iter().enumerate() {
            let seed = derive_seed(derive_seed(self.config.seed, self.step), index as u64);
            let dropout = Some(DropoutStream::new(seed));
            let precision = self.config.precision;
            let micro_batch = MicroBatch { batch, scale: loss_scale / total, z_loss, precision, dropout };
            loss += backward(model, micro_batch, &mut gradients, &self.device) / loss_scale;
        }
        gradients.check_complete()?;
        Ok((loss, gradients))
    }

    /// What gradients of `grad_norm` are multiplied by.
    fn clipping(&self, grad_norm: f64) -> f64 {
        let limit = self.config.max_grad_norm;
        // The small term is PyTorch's `clip_grad_norm_`.
        if limit > 0.0 { (limit / (grad_norm + 1e-6)).min(1.0) } else { 1.0 }
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
