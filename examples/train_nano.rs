//! Trains a nano model on the corpus in the library, then asks it for a text.
//!
//! `cargo run --release --example train_nano`

#![allow(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::error::Error;
use std::ops::ControlFlow;

use smelt_cli::config::RunConfig;
use smelt_cli::{Start, TrainEvent, train};

fn main() -> Result<(), Box<dyn Error>> {
    let mut config = RunConfig::quick_start();
    config.model.set("hidden_size", 64);
    config.model.set("num_hidden_layers", 2);
    config.model.set("num_attention_heads", 4);
    config.train.max_steps = 50;
    config.train.warmup_steps = 5;
    config.train.eval_interval = 25;
    config.checkpoint.output_dir = Some("runs/nano".into());

    let summary = train(&config, &Start::Overwrite, &mut |event| {
        if let TrainEvent::Evaluated { step, evaluation } = event {
            println!("step {step}: validation loss {:.3}", evaluation.loss);
        }
        ControlFlow::Continue(())
    })?;
    println!("{} steps, the model is in {}", summary.steps, summary.run.display());
    Ok(())
}
