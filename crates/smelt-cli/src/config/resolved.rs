//! What the trainer reads: every setting has its value, the user's or the usual one of the optimizer and schedule.

use smelt_train::{LrSchedule, TrainConfig};

use super::sections::{RunConfig, TrainSection};

/// Part of a run over which `wsd` decays.
const DECAY_RATIO: f64 = 0.2;

impl RunConfig {
    /// The part of the config that the trainer reads.
    pub fn train_config(&self) -> TrainConfig {
        let train = &self.train;
        let usual = train.optimizer.defaults();
        let learning_rate = train.learning_rate.unwrap_or(usual.learning_rate);
        TrainConfig {
            batch_size: train.batch_size,
            seq_length: train.seq_length,
            max_steps: train.max_steps,
            warmup_steps: train.warmup_steps,
            learning_rate,
            min_learning_rate: train.lowest_learning_rate(learning_rate),
            lr_schedule: train.lr_schedule,
            decay_steps: train.resolved_decay_steps(),
            decay_type: train.decay_type,
            optimizer: train.optimizer,
            weight_decay: train.weight_decay.unwrap_or(usual.weight_decay),
            decay_all_parameters: train.decay_all_parameters,
            adam_beta1: train.adam_beta1.unwrap_or(usual.adam_beta1),
            adam_beta2: train.adam_beta2.unwrap_or(usual.adam_beta2),
            adam_epsilon: train.adam_epsilon,
            adam_learning_rate: train.adam_learning_rate,
            momentum: train.momentum.unwrap_or(usual.momentum),
            nesterov: train.nesterov.unwrap_or(usual.nesterov),
            muon_adjust_lr_fn: train.muon_adjust_lr_fn,
            max_grad_norm: train.max_grad_norm,
            z_loss: train.z_loss,
            precision: train.precision,
            loss_scale_init: train.loss_scale_init,
            loss_scale_growth_interval: train.loss_scale_growth_interval,
            ema_decay: train.ema_decay,
            non_finite: train.non_finite,
            max_skipped_steps: train.max_skipped_steps,
            early_stopping_patience: train.early_stopping_patience,
            early_stopping_min_delta: train.early_stopping_min_delta,
            gradient_accumulation_steps: train.gradient_accumulation_steps,
            gradient_checkpointing: train.gradient_checkpointing,
            seed: train.seed,
            eval_interval: train.eval_interval,
            eval_on_start: train.eval_on_start.unwrap_or(self.model.path.is_some()),
            eval_batches: train.eval_batches,
            save_interval: self.checkpoint.save_interval,
            keep_last: self.checkpoint.keep_last,
            keep_best: self.checkpoint.keep_best,
            log_interval: self.log.log_interval,
        }
    }
}

impl TrainSection {
    fn lowest_learning_rate(&self, highest: f64) -> f64 {
        let usual = match self.lr_schedule {
            LrSchedule::Cosine | LrSchedule::Constant => highest / 10.0,
            LrSchedule::Linear | LrSchedule::Wsd => 0.0,
        };
        self.min_learning_rate.unwrap_or(usual)
    }

    fn resolved_decay_steps(&self) -> u64 {
        let ratio = self.decay_ratio.unwrap_or(DECAY_RATIO);
        self.decay_steps.unwrap_or((self.max_steps as f64 * ratio).round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use smelt_train::OptimizerKind;

    use super::*;

    #[test]
    fn what_is_left_out_is_the_usual_setting_of_the_optimizer() {
        let mut config = RunConfig::default();
        let adamw = config.train_config();
        assert_eq!((adamw.learning_rate, adamw.weight_decay, adamw.adam_beta2), (3e-4, 0.1, 0.95));
        config.train.optimizer = OptimizerKind::Lion;
        config.train.adam_beta1 = Some(0.95);
        let lion = config.train_config();
        assert_eq!((lion.learning_rate, lion.adam_beta1, lion.adam_beta2), (1e-4, 0.95, 0.99));
        config.train.optimizer = OptimizerKind::Muon;
        let muon = config.train_config();
        assert_eq!((muon.momentum, muon.nesterov), (0.95, true));
    }

    #[test]
    fn a_schedule_has_its_usual_end() {
        let mut config = RunConfig::default();
        let lowest = config.train_config().min_learning_rate;
        assert!((lowest - 3e-5).abs() < 1e-12, "{lowest}");
        config.train.lr_schedule = LrSchedule::Wsd;
        let usual = config.train_config();
        assert_eq!((usual.min_learning_rate, usual.decay_steps), (0.0, 200));
        config.train.decay_ratio = Some(0.1);
        config.train.min_learning_rate = Some(1e-6);
        let chosen = config.train_config();
        assert_eq!((chosen.min_learning_rate, chosen.decay_steps), (1e-6, 100));
        config.train.decay_steps = Some(7);
        assert_eq!(config.train_config().decay_steps, 7);
    }
}
