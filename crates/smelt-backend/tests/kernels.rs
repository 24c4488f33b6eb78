//! Every kernel, forward and backward, against the composition of burn operations, on every backend of the build.

#![allow(clippy::print_stderr, reason = "a failure should say on which backend")]

mod support;

use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{DType, Int, Tensor, TensorPrimitive};
use burn_autodiff::Autodiff;
use smelt_backend::kernels::{
    Activation, AdamWState, AdamWStep, AttentionDropout, AttentionOptions, AttentionSegment,
    CrossEntropyOptions, Head, HeadWeight, RotaryStyle, activation, adamw, attention, cross_entropy,
    layer_norm, linear, parts, positions, rms_norm, rotary, soft_cap,
};
use smelt_backend::{Job, Kernels, Precision, float_tensor, int_tensor, to_host};
use smelt_testkit::{Golden, numbers};

use support::{on_each_backend, random};

const TOLERANCE: f32 = 2e-5;

fn close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}: lengths differ");
    let magnitude = expected.iter().fold(1f32, |largest, value| largest.max(value.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs() / magnitude;
        assert!(error <= TOLERANCE, "{what}: element {index} is {found}, expected {expected}");
    }
}

/// Output and input gradients of `f`, whose inputs are leaves of the given shapes.
fn run<B: Kernels, const N: usize, const D: usize, const O: usize>(
    inputs: &[Tensor<B, D>; N],
    f: impl Fn([Tensor<Autodiff<B>, D>; N]) -> Tensor<Autodiff<B>, O>,
) -> Vec<Vec<f32>> {
    let leaves = inputs.clone().map(|input| Tensor::from_inner(input).require_grad());
    let output = f(leaves.clone());
    let seed = random::<B, O>(output.dims(), 99, &inputs[0].device());
    let mut results = vec![to_host(output.clone().inner())];
    let root = output * Tensor::from_inner(seed);
    let count = root.shape().num_elements();
    let grads = root.reshape([count]).sum_dim(0).backward();
    results.extend(leaves.map(|leaf| to_host(leaf.grad(&grads).expect("every input has a gradient"))));
    results
}

/// Compares a kernel with its composition, output and gradients.
fn same<B: Kernels, const N: usize, const D: usize, const O: usize>(
    what: &str,
    inputs: &[Tensor<B, D>; N],
    kernel: impl Fn([Tensor<Autodiff<B>, D>; N]) -> Tensor<Autodiff<B>, O>,
    composed: impl Fn([Tensor<Autodiff<B>, D>; N]) -> Tensor<Autodiff<B>, O>,
) {
    let (found, expected) = (run(inputs, kernel), run(inputs, composed));
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let part = if index == 0 { "output".to_owned() } else { format!("gradient {index}") };
        close(&format!("{what}, {part}"), found, expected);
    }
}

fn row<B: Kernels>(t: Tensor<B, 2>) -> Tensor<B, 1> {
    t.squeeze_dim(0)
}

#[derive(Clone)]
struct Linear;

impl Job for Linear {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        for [rows, inner, outer] in
            [[1, 1, 1], [5, 7, 3], [33, 16, 24], [1, 64, 96], [130, 64, 200], [7, 600, 35], [400, 270, 150]]
        {
            let inputs = [
                random::<B, 2>([rows, inner], 1, &device),
                random::<B, 2>([outer, inner], 2, &device),
                random::<B, 2>([1, outer], 3, &device),
            ];
            same(
                &format!("linear {rows} x {inner} x {outer}"),
                &inputs,
                |[x, w, b]| Kernels::linear(x, w, Some(row(b))),
                |[x, w, b]| linear::plain(x, w, Some(row(b))),
            );
            let inputs = [inputs[0].clone(), inputs[1].clone()];
            same(
                "linear without bias",
                &inputs,
                |[x, w]| Kernels::linear(x, w, None),
                |[x, w]| linear::plain(x, w, None),
            );
        }
    }
}

#[derive(Clone)]
struct Parts;

impl Job for Parts {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        // Weights make the parts' gradients differ.
        fn weighted<B: Kernels>([a, b, c]: [Tensor<B, 4>; 3]) -> Tensor<B, 4> {
            Tensor::cat(vec![c * 3.0, a.swap_dims(1, 2).swap_dims(1, 2), b * 2.0], 2)
        }
        for (shape, dim, sizes) in [([2, 3, 5, 4], 2, [2, 1, 2]), ([3, 70, 4, 90], 3, [30; 3])] {
            same(
                &format!("parts of {shape:?} along {dim}"),
                &[random::<B, 4>(shape, 1, &device)],
                |[x]| weighted(Kernels::parts(x, dim, sizes)),
                |[x]| weighted(parts::plain(x, dim, sizes)),
            );
        }
        let [a, b] = [1, 2].map(|seed| random::<B, 4>([2, 3, 4, 5], seed, &device));
        for dim in 0..4 {
            let [a, b] = [a.clone(), b.clone()].map(|part| part.swap_dims(1, 2));
            let expected = to_host(Tensor::cat(vec![a.clone(), b.clone()], dim));
            close("joined", &to_host(B::joined(vec![a, b], dim)), &expected);
        }
    }
}

#[derive(Clone)]
struct Embedding;

impl Job for Embedding {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        let weight = random::<B, 2>([11, 6], 1, &device);
        let ids = || int_tensor::<Autodiff<B>, 2>(&[3, 10, 3, 0, 3, 7, 0, 9], [2, 4], &device);
        same(
            "embedding",
            &[weight],
            |[weight]| Kernels::embedding(weight, ids()),
            |[weight]| burn::tensor::module::embedding(weight, ids()),
        );
    }
}

#[derive(Clone)]
struct Norms;

impl Job for Norms {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        for [rows, width] in [[1, 8], [5, 33], [64, 256], [7, 1]] {
            let x = random::<B, 2>([rows, width], 1, &device) * 3.0 + 0.5;
            let inputs = [x, random::<B, 2>([1, width], 2, &device), random::<B, 2>([1, width], 3, &device)];
            same(
                &format!("layer_norm {rows} x {width}"),
                &inputs,
                |[x, w, b]| Kernels::layer_norm(x, row(w), Some(row(b)), 1e-5),
                |[x, w, b]| layer_norm::plain(x, row(w), Some(row(b)), 1e-5),
            );
            let inputs = [inputs[0].clone(), inputs[1].clone()];
            same(
                "layer_norm without bias",
                &inputs,
                |[x, w]| Kernels::layer_norm(x, row(w), None, 1e-5),
                |[x, w]| layer_norm::plain(x, row(w), None, 1e-5),
            );
            same(
                "rms_norm",
                &inputs,
                |[x, w]| Kernels::rms_norm(x, row(w), 1e-6),
                |[x, w]| rms_norm::plain(x, row(w), 1e-6),
            );
        }
    }
}

#[derive(Clone)]
struct Activations;

impl Job for Activations {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        for kind in [Activation::Gelu, Activation::GeluTanh, Activation::Silu, Activation::Relu] {
            let inputs = [random::<B, 2>([9, 37], 1, &device) * 6.0, random::<B, 2>([9, 37], 2, &device)];
            same(
                &format!("{kind:?}"),
                &[inputs[0].clone()],
                |[x]| Kernels::activation(x, kind),
                |[x]| activation::plain(x, kind),
            );
            same(
                &format!("gated {kind:?}"),
                &inputs,
                |[gate, up]| Kernels::gated(gate, up, kind),
                |[gate, up]| activation::plain(gate, kind) * up,
            );
        }
    }
}

#[derive(Clone)]
struct Rotary;

impl Job for Rotary {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        for style in [RotaryStyle::Half, RotaryStyle::Interleaved] {
            for batch in [1, 2] {
                // As a projection leaves heads: `[batch, seq, heads, head_dim]`, seen with heads first.
                let x = random::<B, 4>([2, 5, 3, 8], 1, &device);
                let heads = |x: Tensor<Autodiff<B>, 4>| x.swap_dims(1, 2);
                let angles = random::<B, 3>([batch, 5, 4], 2, &device) * 3.0;
                let tables =
                    || (Tensor::from_inner(angles.clone().cos()), Tensor::from_inner(angles.clone().sin()));
                same(
                    &format!("rotary {style:?}"),
                    &[x],
                    |[x]| Kernels::rotary(heads(x), tables().0, tables().1, style),
                    |[x]| rotary::plain(heads(x), tables().0, tables().1, style),
                );
            }
        }
    }
}

#[derive(Clone)]
struct Attention;

impl Attention {
    fn check<B: Kernels>(
        what: &str,
        [heads, kv_heads, q_len, kv_len, head_dim]: [usize; 5],
        options: AttentionOptions,
        masked: bool,
        device: &B::Device,
    ) {
        let batch = 2;
        let q = random::<B, 4>([batch, heads, q_len, head_dim], 1, device);
        let [k, v] = [2, 3].map(|seed| random::<B, 4>([batch, kv_heads, kv_len, head_dim], seed, device));
        let padding: Vec<f32> =
            (0..batch * kv_len).map(|i| if i % kv_len < i / kv_len { -1e9 } else { 0.0 }).collect();
        let padding = float_tensor::<B, 4>(padding, [batch, 1, 1, kv_len], device);
        let mask = || masked.then(|| Tensor::from_inner(padding.clone()));
        same(
            what,
            &[q, k, v],
            |[q, k, v]| Kernels::attention(q, k, v, mask(), options),
            |[q, k, v]| attention::plain(q, k, v, mask(), options),
        );
    }
}

impl Job for Attention {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        let causal = AttentionOptions {
            scale: 0.35,
            causal: true,
            sliding_window: None,
            softcap: None,
            dropout: None,
        };
        let cases = [
            ("causal", [4, 4, 9, 9, 8], causal),
            ("long", [2, 2, 130, 130, 16], causal),
            ("full", [4, 4, 6, 6, 8], AttentionOptions { causal: false, ..causal }),
            ("grouped", [6, 2, 7, 7, 8], causal),
            ("with a cache", [4, 2, 3, 11, 8], causal),
            ("one query", [4, 1, 1, 12, 8], causal),
            ("windowed", [4, 2, 10, 10, 8], AttentionOptions { sliding_window: Some(4), ..causal }),
            ("soft-capped", [4, 2, 8, 8, 8], AttentionOptions { softcap: Some(0.5), ..causal }),
            ("one query, far back", [6, 2, 1, 700, 64], causal),
            ("two queries, far back", [3, 3, 2, 300, 20], causal),
            (
                "a window, far back",
                [4, 2, 70, 600, 16],
                AttentionOptions { sliding_window: Some(40), ..causal },
            ),
        ];
        for (what, shape, options) in cases {
            Self::check::<B>(what, shape, options, false, &device);
            Self::check::<B>(&format!("{what}, padded"), shape, options, true, &device);
        }
    }
}

/// Dropout of attention probabilities: which ones is seen where values are the unit vectors.
#[derive(Clone)]
struct DroppedAttention;

impl Job for DroppedAttention {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        const PROBABILITY: f64 = 0.3;
        let dropout = Some(AttentionDropout { probability: PROBABILITY, seed: 5 });
        let full = AttentionOptions {
            scale: 0.35,
            causal: false,
            sliding_window: None,
            softcap: Some(2.0),
            dropout,
        };
        // Several tiles of queries, and as many keys as a head has features.
        let (batch, heads, kv_heads, len) = (2, 4, 2, 70);
        let of = |heads, seed| random::<B, 4>([batch, heads, len, len], seed, &device);
        let (q, k, v) = (of(heads, 1), of(kv_heads, 2), of(kv_heads, 3));
        let units =
            Tensor::<B, 2>::eye(len, &q.device()).unsqueeze::<4>().expand([batch, kv_heads, len, len]);
        for options in [full, AttentionOptions { causal: true, ..full }] {
            let probabilities =
                |options| Kernels::attention(q.clone(), k.clone(), units.clone(), None, options);
            let dropped = to_host(probabilities(options));
            let whole = to_host(probabilities(AttentionOptions { dropout: None, ..options }));
            let kept = 1.0 / (1.0 - PROBABILITY as f32);
            let mut mask = vec![kept; whole.len()];
            for (mask, (dropped, whole)) in mask.iter_mut().zip(dropped.iter().zip(&whole)) {
                if *dropped == 0.0 {
                    *mask = 0.0;
                } else {
                    assert!((dropped / whole / kept - 1.0).abs() < 1e-4, "{dropped} of {whole}");
                }
            }
            let seen = whole.iter().filter(|p| **p > 0.0).count() as f64;
            let zeros = mask.iter().zip(&whole).filter(|(mask, p)| **mask == 0.0 && **p > 0.0).count();
            assert!((zeros as f64 / seen - PROBABILITY).abs() < 0.02, "{zeros} of {seen}");
            let mask: Tensor<B, 4> = float_tensor(mask, [batch, heads, len, len], &q.device());
            let without = AttentionOptions { dropout: None, ..options };
            same(
                &format!("dropped attention, {options:?}"),
                &[q.clone(), k.clone(), v.clone()],
                |[q, k, v]| Kernels::attention(q, k, v, None, options),
                |[q, k, v]| {
                    let units = Tensor::from_inner(units.clone());
                    let p = attention::plain(q, k, units, None, without) * Tensor::from_inner(mask.clone());
                    let of_heads = [batch, kv_heads, heads / kv_heads * len, len];
                    p.reshape(of_heads).matmul(v).reshape([batch, heads, len, len])
                },
            );
            let other = AttentionDropout { probability: PROBABILITY, seed: 6 };
            let other = AttentionOptions { dropout: Some(other), ..options };
            assert_eq!(to_host(probabilities(options)), dropped, "the same seed");
            assert_ne!(to_host(probabilities(other)), dropped, "another seed");
        }
    }
}

#[derive(Clone)]
struct Segments;

impl Job for Segments {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        let (heads, kv_heads, head_dim) = (6, 2, 24);
        let lengths = [(1, 300), (40, 40), (1, 1), (3, 90), (1, 513)];
        let segments: Vec<AttentionSegment<B>> = (0..)
            .zip(lengths)
            .map(|(seed, (rows, held))| {
                // As a cache hands them out: some positions of a larger buffer.
                let part = |seed| random::<B, 4>([1, kv_heads, held + 12, head_dim], seed, &device);
                let visible = 5..5 + held;
                AttentionSegment { rows, keys: part(2 * seed), values: part(2 * seed + 1), visible }
            })
            .collect();
        let rows = lengths.iter().map(|(rows, _)| rows).sum();
        let q = random::<B, 4>([1, rows, heads, head_dim], 99, &device).swap_dims(1, 2);
        let plain =
            AttentionOptions { scale: 0.2, causal: true, sliding_window: None, softcap: None, dropout: None };
        let windowed = AttentionOptions { sliding_window: Some(30), softcap: Some(0.7), ..plain };
        for options in [plain, windowed] {
            let found = B::attention_over_segments(q.clone(), segments.clone(), options);
            let mut start = 0;
            let expected = segments.iter().map(|AttentionSegment { rows, keys, values, visible }| {
                let q = q.clone().narrow(2, start, *rows);
                let [keys, values] =
                    [keys, values].map(|held| held.clone().narrow(2, visible.start, visible.len()));
                start += rows;
                attention::plain(q, keys, values, None, options)
            });
            let expected = Tensor::cat(expected.collect(), 2);
            close(&format!("segments, {options:?}"), &to_host(found), &to_host(expected));
        }
    }
}

#[derive(Clone)]
struct WritePositions;

impl Job for WritePositions {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        let buffer = random::<B, 4>([2, 3, 10, 4], 1, &device);
        // As a projection leaves heads.
        let rows = random::<B, 4>([2, 5, 3, 4], 2, &device).swap_dims(1, 2);
        let before = to_host(buffer.clone());
        let expected = to_host(positions::plain(buffer.clone(), &rows, 2..5, 7));
        let written = B::write_positions(buffer.clone(), &rows, 2..5, 7);
        assert_eq!(to_host(written), expected);
        assert_eq!(to_host(buffer.clone()), before, "somebody else held the buffer");
        assert_eq!(to_host(B::write_positions(buffer, &rows, 2..5, 7)), expected);
    }
}

#[derive(Clone)]
struct CrossEntropy;

impl Job for CrossEntropy {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        let (tokens, width, vocabulary) = (13, 6, 29);
        let inputs = [
            random::<B, 2>([tokens, width], 1, &device) * 3.0,
            random::<B, 2>([vocabulary, width], 2, &device),
        ];
        let ids: Vec<u32> = (0..tokens as u32).map(|i| i * 7 % vocabulary as u32).collect();
        let targets = || -> Tensor<Autodiff<B>, 1, Int> { int_tensor(&ids, [tokens], &device) };
        let weights: Vec<f32> = (0..tokens).map(|i| if i % 4 == 3 { 0.0 } else { 0.1 * i as f32 }).collect();
        let weights = || -> Tensor<Autodiff<B>, 1> { float_tensor(weights.clone(), [tokens], &device) };
        let cases = [
            (5, None, 0.0),
            (13, None, 0.0),
            (100, None, 0.0),
            (5, Some(0.7), 0.0),
            (13, Some(0.7), 0.0),
            (5, None, 0.03),
            (13, Some(0.7), 0.03),
        ];
        for (chunk_tokens, softcap, z_loss) in cases {
            let options = CrossEntropyOptions { chunk_tokens, softcap, z_loss, ..Default::default() };
            let plain = |logits| {
                let loss =
                    cross_entropy::plain(soft_cap(logits, softcap), targets(), weights(), z_loss, false);
                loss.z_loss.map_or(loss.sum.clone(), |z_loss| loss.sum + z_loss)
            };
            same(
                &format!("linear_cross_entropy with {options:?}"),
                &inputs,
                |[h, weight]| {
                    let head = Head { weight: HeadWeight::Float(weight), bias: None };
                    Kernels::linear_cross_entropy(h, head, targets(), weights(), options).objective
                },
                |[h, w]| plain(linear::plain(h, w, None)),
            );
            let [hidden, weight] = inputs.clone();
            let bias = random::<B, 2>([1, vocabulary], 3, &device);
            same(
                &format!("linear_cross_entropy with a bias and {options:?}"),
                &[hidden, weight, bias],
                |[h, weight, b]| {
                    let head =
                        Head { weight: HeadWeight::Float(weight), bias: Some(b.reshape([vocabulary])) };
                    Kernels::linear_cross_entropy(h, head, targets(), weights(), options).objective
                },
                |[h, w, b]| plain(linear::plain(h, w, Some(b.reshape([vocabulary])))),
            );
        }
        // A head in f32 counts as its copy in 16 bits.
        for precision in [Precision::Bf16, Precision::F16].into_iter().filter(|p| B::trains_in(*p)) {
            let options = CrossEntropyOptions { chunk_tokens: 5, ..Default::default() };
            let loss = |[h, weight]: [Tensor<Autodiff<B>, 2>; 2], options| {
                let head = Head { weight: HeadWeight::Float(weight), bias: None };
                Kernels::linear_cross_entropy(h, head, targets(), weights(), options).objective
            };
            let [hidden, weight] = inputs.clone();
            let copy = [hidden, B::rounded(weight, precision.dtype())];
            let found = run(&inputs, |inputs| loss(inputs, CrossEntropyOptions { precision, ..options }));
            assert_eq!(found, run(&copy, |inputs| loss(inputs, options)), "a head in {precision}");
        }
    }
}

#[derive(Clone)]
struct ZLoss;

impl Job for ZLoss {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        let golden = Golden::open("z_loss");
        let [tokens, vocabulary] = golden.tensor("logits").dims();
        let targets = golden.tensor("targets").ids().to_vec();
        let weights = golden.tensor("weights").floats().to_vec();
        let logits: Tensor<B, 2> =
            float_tensor(golden.tensor("logits").floats().to_vec(), [tokens, vocabulary], &device);
        let loss = |with_gradient| {
            let (targets, weights) =
                (int_tensor(&targets, [tokens], &device), float_tensor(weights.clone(), [tokens], &device));
            let coefficient = f64::from(golden.tensor("coefficient").scalar());
            B::token_loss(logits.clone(), targets, weights, coefficient, with_gradient)
        };
        for loss in [loss(false), loss(true)] {
            close("likelihood", &to_host(loss.sum), golden.tensor("likelihood").floats());
            close(
                "z-loss",
                &to_host(loss.z_loss.expect("there is a coefficient")),
                golden.tensor("z_loss").floats(),
            );
            if let Some(gradient) = loss.logits_gradient {
                close("gradient", &to_host(gradient), golden.tensor("gradient").floats());
            }
        }
    }
}

/// Weights that train in 16 bits: operands and gradient are rounded, sums are not.
#[derive(Clone)]
struct MixedPrecision;

impl Job for MixedPrecision {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        for precision in [Precision::Bf16, Precision::F16].into_iter().filter(|p| B::trains_in(*p)) {
            let dtype = precision.dtype();
            let round = |t: Tensor<B, 2>| {
                let shape = t.dims();
                let values = to_host(t).into_iter().map(|value| nearest(value, precision)).collect();
                float_tensor::<B, 2>(values, shape, &device)
            };
            for (rows, inner, outer) in [(3, 70, 33), (40, 130, 520)] {
                let x = random::<B, 2>([rows, inner], 1, &device) * 3.0;
                let weight = random::<B, 2>([outer, inner], 2, &device).cast(dtype);
                let seed = random::<B, 2>([rows, outer], 4, &device);
                let what = format!("linear in {precision}, {rows} x {inner} x {outer}");
                let leaf = Tensor::<Autodiff<B>, 2>::from_inner(x.clone()).require_grad();
                let held = Tensor::<Autodiff<B>, 2>::from_inner(weight.clone()).require_grad();
                let y = Kernels::linear(leaf.clone(), held.clone(), None);
                let (wide_x, wide_weight) = (round(x), weight.cast(DType::F32));
                let expected = linear::plain(wide_x.clone(), wide_weight.clone(), None);
                close(&what, &to_host(y.clone().inner()), &to_host(expected));
                let elements = rows * outer;
                let root = (y * Tensor::from_inner(seed.clone())).reshape([elements]).sum_dim(0);
                let grads = root.backward();
                let expected = linear::plain_backward(wide_x, wide_weight, round(seed), [true, true, false]);
                for (leaf, expected) in [(leaf, expected.x), (held, expected.weight)] {
                    let found = leaf.grad(&grads).expect("a gradient");
                    assert_eq!(found.dtype(), DType::F32, "{what}");
                    close(&what, &to_host(found), &to_host(expected.expect("asked for")));
                }
            }
            // A frozen weight stands for its values: what passes through it is not rounded.
            let x = random::<B, 2>([9, 70], 1, &device);
            let weight = random::<B, 2>([33, 70], 2, &device).cast(dtype);
            let tracked = Tensor::<Autodiff<B>, 2>::from_inner(x.clone()).require_grad();
            let y = Kernels::linear(tracked, Tensor::from_inner(weight.clone()), None);
            let expected = linear::plain(x, weight.cast(DType::F32), None);
            close("a frozen weight", &to_host(y.inner()), &to_host(expected));
        }
    }
}

/// burn's own cast passes through f64 and back, and rounds some ties the wrong way.
fn nearest(value: f32, precision: Precision) -> f32 {
    match precision {
        Precision::F32 => value,
        Precision::Bf16 => half::bf16::from_f32(value).to_f32(),
        Precision::F16 => half::f16::from_f32(value).to_f32(),
    }
}

#[derive(Clone)]
struct Rounded;

impl Job for Rounded {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        for precision in [Precision::Bf16, Precision::F16].into_iter().filter(|p| B::trains_in(*p)) {
            let dtype = precision.dtype();
            // Ties, subnormal numbers of f16, and what is too large for it.
            let mut values = numbers(40_000, 5);
            values.extend([
                0.0,
                -0.0,
                1.0 + 1.0 / 256.0,
                1.0 + 3.0 / 256.0,
                6e-8,
                -3e-6,
                65504.0,
                70000.0,
                1e30,
            ]);
            let count = values.len();
            let x: Tensor<B, 2> = float_tensor(values.clone(), [1, count], &device);
            let expected: Vec<f32> = values.iter().map(|value| nearest(*value, precision)).collect();
            assert_eq!(to_host(B::rounded(x, dtype).cast(DType::F32)), expected, "{precision}");
        }
    }
}

#[derive(Clone)]
struct HalfPrecisionWeights;

impl Job for HalfPrecisionWeights {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        for dtype in [DType::BF16, DType::F16].into_iter().filter(|dtype| B::keeps_weights_in(*dtype)) {
            for (rows, inner, outer) in
                [(1, 70, 33), (3, 128, 65), (8, 600, 65), (9, 40, 600), (20, 300, 1030)]
            {
                let x = random::<B, 2>([rows, inner], 1, &device);
                let bias = random::<B, 2>([1, outer], 3, &device).reshape([outer]);
                let held = random::<B, 2>([outer, inner], 2, &device).cast(dtype);
                let widened = held.clone().cast(DType::F32);
                let what = format!("linear with a weight in {dtype:?}, {rows} x {inner} x {outer}");
                for bias in [None, Some(bias)] {
                    let y = Kernels::linear(x.clone(), held.clone(), bias.clone());
                    let expected = linear::plain(x.clone(), widened.clone(), bias);
                    close(&what, &to_host(y), &to_host(expected));
                }
                let grad = random::<B, 2>([rows, outer], 4, &device);
                let needed = [true, false, true];
                let found = B::linear_backward(x.clone(), held, grad.clone(), needed);
                let expected = linear::plain_backward(x, widened, grad, needed);
                close(&what, &to_host(found.x.expect("asked for")), &to_host(expected.x.expect("asked for")));
                close(
                    &what,
                    &to_host(found.bias.expect("asked for")),
                    &to_host(expected.bias.expect("asked for")),
                );
            }
        }
    }
}

#[derive(Clone)]
struct AdamW;

impl Job for AdamW {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        let shape = [33, 5];
        let start = random::<B, 2>(shape, 1, &device);
        let zeros = || primitive(start.zeros_like());
        let state = || AdamWState::<B> { first_moment: zeros(), second_moment: zeros() };
        let (mut fused, mut fused_state) = (primitive(start.clone()), state());
        let (mut plain, mut plain_state) = (primitive(start.clone()), state());
        let mut reference = numbers(33 * 5, 1).iter().map(|&x| (f64::from(x), 0.0, 0.0)).collect::<Vec<_>>();
        for number in 1..=5 {
            let step = AdamWStep {
                learning_rate: 1e-2,
                beta1: 0.9,
                beta2: 0.95,
                epsilon: 1e-8,
                weight_decay: 0.1,
                number,
                gradient_scale: 0.5,
            };
            let gradient = random::<B, 2>(shape, 10 + number as u32, &device);
            for (entry, &g) in reference.iter_mut().zip(&numbers(33 * 5, 10 + number as u32)) {
                adamw_reference(entry, f64::from(g), &step);
            }
            (fused, fused_state) = B::adamw_step(fused, primitive(gradient.clone()), fused_state, &step);
            (plain, plain_state) = adamw::plain::<B>(plain, primitive(gradient), plain_state, &step);
        }
        let host = |p| to_host(Tensor::<B, 2>::from_primitive(TensorPrimitive::Float(p)));
        let expected: Vec<f32> = reference.iter().map(|entry| entry.0 as f32).collect();
        close("adamw_step", &host(fused), &expected);
        close("plain adamw", &host(plain), &expected);
        close("first moment", &host(fused_state.first_moment), &host(plain_state.first_moment));
        close("second moment", &host(fused_state.second_moment), &host(plain_state.second_moment));
    }
}

fn primitive<B: Kernels>(t: Tensor<B, 2>) -> B::FloatTensorPrimitive {
    t.into_primitive().tensor()
}

/// torch.optim.AdamW on one number.
fn adamw_reference((x, m, v): &mut (f64, f64, f64), gradient: f64, step: &AdamWStep) {
    let g = gradient * step.gradient_scale;
    *x *= 1.0 - step.learning_rate * step.weight_decay;
    *m = step.beta1 * *m + (1.0 - step.beta1) * g;
    *v = step.beta2 * *v + (1.0 - step.beta2) * g * g;
    let denominator = (*v / step.second_correction()).sqrt() + step.epsilon;
    *x -= step.learning_rate * (*m / step.first_correction()) / denominator;
}

#[derive(Clone)]
struct Dropout;

impl Job for Dropout {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        let x = Tensor::<B, 2>::ones([64, 64], &device);
        let once = to_host(Kernels::dropout(x.clone(), 0.25, 7));
        assert_eq!(once, to_host(Kernels::dropout(x.clone(), 0.25, 7)), "the same seed gives the same mask");
        assert_ne!(once, to_host(Kernels::dropout(x.clone(), 0.25, 8)), "another seed gives another mask");
        let kept = once.iter().filter(|value| **value != 0.0).count() as f64 / once.len() as f64;
        assert!((kept - 0.75).abs() < 0.05, "{kept} were kept");
        assert!(once.iter().all(|value| *value == 0.0 || (value - 1.0 / 0.75).abs() < 1e-6));
        let leaf = Tensor::<Autodiff<B>, 2>::from_inner(x).require_grad();
        let grads = Kernels::dropout(leaf.clone(), 0.25, 7).sum().backward();
        let gradient = <Autodiff<B> as AutodiffBackend>::grad(&leaf.into_primitive().tensor(), &grads);
        let gradient = Tensor::<B, 2>::from_primitive(TensorPrimitive::Float(gradient.expect("a gradient")));
        close("dropout gradient", &to_host(gradient), &once);
    }
}

#[test]
fn linear_matches_burn() {
    on_each_backend(Linear);
}

#[test]
fn parts_match_burn() {
    on_each_backend(Parts);
}

#[test]
fn embedding_matches_burn() {
    on_each_backend(Embedding);
}

#[test]
fn norms_match_burn() {
    on_each_backend(Norms);
}

#[test]
fn activations_match_burn() {
    on_each_backend(Activations);
}

#[test]
fn rotary_matches_burn() {
    on_each_backend(Rotary);
}

#[test]
fn attention_matches_burn() {
    on_each_backend(Attention);
}

#[test]
fn dropped_attention_is_that_of_what_is_left() {
    on_each_backend(DroppedAttention);
}

#[test]
fn attention_of_several_sequences_matches_burn() {
    on_each_backend(Segments);
}

#[test]
fn positions_are_written_where_they_belong() {
    on_each_backend(WritePositions);
}

#[test]
fn cross_entropy_matches_burn() {
    on_each_backend(CrossEntropy);
}

#[test]
fn adamw_matches_the_paper() {
    on_each_backend(AdamW);
}

#[test]
fn weights_in_half_precision_give_what_they_stand_for() {
    on_each_backend(HalfPrecisionWeights);
}

#[test]
fn z_loss_is_that_of_autograd() {
    on_each_backend(ZLoss);
}

#[test]
fn products_in_half_precision_round_what_enters_them() {
    on_each_backend(MixedPrecision);
}

#[test]
fn rounding_goes_to_the_nearest() {
    on_each_backend(Rounded);
}

#[test]
fn dropout_is_seeded_and_scaled() {
    on_each_backend(Dropout);
}
