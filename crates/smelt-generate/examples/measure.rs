#![allow(missing_docs, clippy::all, clippy::print_stdout, clippy::unwrap_used)]
use smelt_backend::*;
use smelt_model::*;
use std::path::Path;
use std::time::Instant;
struct Run(Vec<String>);
impl Job for Run {
    type Output = ();
    fn run<B: Kernels>(self, device: B::Device) {
        let folder = Path::new("/tmp/measure-model");
        let peak = || memory::process_peak_bytes().unwrap() as f64 / 1e6;
        let now = || memory::process_current_bytes().unwrap() as f64 / 1e6;
        match self.0[1].as_str() {
            "save" => {
                let s = serde_json::json!({"vocab_size": 32000, "d_model": 768, "n_layers": 12, "n_heads": 12, "d_ff": 3072, "max_seq_len": 4096});
                let c = ModelConfig::from_section(s.as_object().unwrap()).unwrap();
                let t = Instant::now();
                let m = Decoder::<B>::init(&c, 1, &device);
                println!("init {:?} current {} peak {}", t.elapsed(), now(), peak());
                let t = Instant::now();
                save(&c, &m, folder).unwrap();
                println!(
                    "save {:?} current {} peak {} weights {}",
                    t.elapsed(),
                    now(),
                    peak(),
                    estimate::parameters(&c.decoder).total as f64 * 4e-6
                );
            }
            "load" => {
                println!("before {} {}", now(), peak());
                let t = Instant::now();
                let (c, m) = load::<B>(folder, &device).unwrap();
                println!("load {:?} current {} peak {}", t.elapsed(), now(), peak());
                let prompt: Vec<u32> = (0..256).collect();
                let options = smelt_generate::GenerateOptions { max_tokens: 40, ..Default::default() };
                let r = smelt_generate::generate(
                    &m,
                    &c,
                    &prompt,
                    &options,
                    &mut |_| std::ops::ControlFlow::Continue(()),
                    &device,
                )
                .unwrap();
                println!(
                    "prefill {:.1} tok/s decode {:.2} tok/s peak {}",
                    r.prompt_tokens_per_second(),
                    r.generation_tokens_per_second(),
                    peak()
                );
                println!(
                    "{:?}",
                    estimate::inference(
                        &c.decoder,
                        estimate::InferenceShape { batch_size: 1, prompt_length: 256, capacity: 296 }
                    )
                );
                let logits: Vec<f32> = (0..32000).map(|i| ((i * 7919) % 1000) as f32 / 100.0).collect();
                let o = smelt_generate::SamplingOptions {
                    temperature: 0.8,
                    top_p: Some(0.9),
                    ..Default::default()
                };
                let mut s = smelt_generate::Sampler::new(&o).unwrap();
                let t = Instant::now();
                for _ in 0..100 {
                    s.sample(&logits, &prompt).unwrap();
                }
                println!("sample {:?}", t.elapsed() / 100);
            }
            _ => {}
        }
    }
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let name: Name = a.get(2).map_or("cpu", |s| s.as_str()).parse().unwrap();
    dispatch(name, Run(a));
}
