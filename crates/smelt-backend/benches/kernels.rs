//! Time of each kernel, at the shapes of a Llama with 125M parameters, on every backend of the build that computes in
//! system memory: `cargo bench --workspace --features cpu --bench kernels -- attention`.
//!
//! Items are floating-point operations, where products decide, and bytes what must be read and written at the least.

use std::fmt;

use burn::tensor::{DType, Int, Tensor, TensorPrimitive};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use smelt_backend::kernels::quantized::quantize;
use smelt_backend::kernels::{
    Activation, AdamWState, AdamWStep, AttentionOptions, CrossEntropyOptions, Head, HeadWeight,
    QuantizationFormat, QuantizedWeight, RotaryStyle,
};
use smelt_backend::{Job, Kernels, Name, dispatch, float_tensor, in_build, int_tensor};
use smelt_testkit::numbers;

const HIDDEN: usize = 768;
const INTERMEDIATE: usize = 2048;
const HEADS: usize = 12;
const KV_HEADS: usize = 4;
const HEAD_DIM: usize = 64;
const VOCABULARY: usize = 32000;
/// Positions of a pass over many.
const ROWS: usize = 512;

fn main() {
    // As training does: what was freed stays with the process.
    smelt_backend::memory::keep_freed();
    divan::main();
}

/// A backend, and what is computed on it.
struct On<T> {
    backend: Name,
    what: T,
}

impl<T: fmt::Debug> fmt::Display for On<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.backend, self.what)
    }
}

/// Each of `cases` on each backend.
fn on_each<T: Clone>(cases: impl IntoIterator<Item = T>) -> Vec<On<T>> {
    let is_here = |name: &Name| matches!(name, Name::Cpu | Name::Ndarray | Name::Candle);
    let backends: Vec<Name> = in_build().into_iter().filter(is_here).collect();
    let on = |what: T| backends.iter().map(move |backend| On { backend: *backend, what: what.clone() });
    cases.into_iter().flat_map(on).collect()
}

/// Something to be computed again and again.
trait Repeated {
    fn prepared<B: Kernels>(&self, device: &B::Device) -> impl FnMut();
}

struct Timed<'a, 'b, 'c, T> {
    bencher: Bencher<'a, 'b>,
    what: &'c T,
}

impl<T: Repeated> Job for Timed<'_, '_, '_, T> {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        let mut step = self.what.prepared::<B>(&device);
        self.bencher.bench_local(|| {
            step();
            B::sync(&device).expect("the backend finishes its work");
        });
    }
}

impl<T: Repeated> On<T> {
    fn time(&self, bencher: Bencher<'_, '_>) {
        dispatch(self.backend, Timed { bencher, what: &self.what });
    }

    /// As [`On::time`], of work of so many floating-point operations.
    fn time_operations(&self, bencher: Bencher<'_, '_>, operations: usize) {
        self.time(bencher.counter(ItemsCount::new(operations)));
    }

    /// As [`On::time`], of work that reads and writes so many numbers in f32.
    fn time_numbers(&self, bencher: Bencher<'_, '_>, numbers: usize) {
        self.time(bencher.counter(BytesCount::new(numbers * size_of::<f32>())));
    }
}

fn random<B: Kernels, const D: usize>(shape: [usize; D], device: &B::Device) -> Tensor<B, D> {
    float_tensor(numbers(shape.iter().product(), 1), shape, device)
}

fn ids<B: Kernels, const D: usize>(shape: [usize; D], device: &B::Device) -> Tensor<B, D, Int> {
    let ids: Vec<u32> =
        (0..shape.iter().product::<usize>() as u32).map(|id| id * 7919 % VOCABULARY as u32).collect();
    int_tensor(&ids, shape, device)
}

/// Rows, inputs and outputs.
type Shape = [usize; 3];

const SHAPES: [Shape; 8] = [
    [1, HIDDEN, INTERMEDIATE],
    [8, HIDDEN, INTERMEDIATE],
    [ROWS, HIDDEN, HIDDEN],
    [ROWS, HIDDEN, INTERMEDIATE],
    [ROWS, INTERMEDIATE, HIDDEN],
    [1, HIDDEN, VOCABULARY],
    // As matrix products are usually compared.
    [1024, 1024, 1024],
    [2048, 1024, 4096],
];

#[derive(Debug, Clone)]
struct Linear(Shape, DType);

impl Repeated for Linear {
    fn prepared<B: Kernels>(&self, device: &B::Device) -> impl FnMut() {
        let Self([rows, inner, outer], dtype) = *self;
        let x = random::<B, 2>([rows, inner], device);
        let weight = random::<B, 2>([outer, inner], device);
        let weight = if B::keeps_weights_in(dtype) { weight.cast(dtype) } else { weight };
        move || drop(Kernels::linear(x.clone(), weight.clone(), None))
    }
}

#[divan::bench(args = on_each(SHAPES.map(|shape| [DType::F32, DType::BF16].map(|dtype| Linear(shape, dtype))).concat()))]
fn linear(bencher: Bencher<'_, '_>, on: &On<Linear>) {
    on.time_operations(bencher, 2 * on.what.0.iter().product::<usize>());
}

/// In `f32`, or rounded to bf16 as mixed precision does where the backend has it.
#[derive(Debug, Clone)]
struct LinearBackward(Shape, DType);

impl Repeated for LinearBackward {
    fn prepared<B: Kernels>(&self, device: &B::Device) -> impl FnMut() {
        let Self([rows, inner, outer], dtype) = *self;
        let held = |x: Tensor<B, 2>| if B::keeps_weights_in(dtype) { x.cast(dtype) } else { x };
        let (x, weight) = (held(random([rows, inner], device)), held(random([outer, inner], device)));
        let grad = random::<B, 2>([rows, outer], device);
        move || drop(B::linear_backward(x.clone(), weight.clone(), grad.clone(), [true; 3]))
    }
}

#[divan::bench(args = on_each([DType::F32, DType::BF16].map(|dtype| LinearBackward([ROWS, HIDDEN, INTERMEDIATE], dtype))))]
fn linear_backward(bencher: Bencher<'_, '_>, on: &On<LinearBackward>) {
    on.time_operations(bencher, 4 * on.what.0.iter().product::<usize>());
}

/// With so many bits, and scales in a dtype.
#[derive(Debug, Clone)]
struct QuantizedLinear(Shape, u64, DType);

impl Repeated for QuantizedLinear {
    fn prepared<B: Kernels>(&self, device: &B::Device) -> impl FnMut() {
        let Self([rows, inner, outer], bits, dtype) = *self;
        let format = QuantizationFormat::new(bits, 64).expect("a known format");
        let bytes =
            quantize(&numbers(outer * inner, 2), [outer, inner], format, dtype).expect("whole groups");
        let weight =
            QuantizedWeight::<B>::from_bytes(bytes, [outer, inner], format, device).expect("just made");
        let x = random::<B, 2>([rows, inner], device);
        move || drop(B::quantized_linear(x.clone(), weight.clone(), None))
    }
}

fn quantized_cases() -> Vec<On<QuantizedLinear>> {
    let formats = [(4, DType::F32), (4, DType::BF16), (8, DType::F32), (8, DType::BF16)];
    let of = |shape: Shape| formats.map(|(bits, dtype)| QuantizedLinear(shape, bits, dtype));
    on_each(
        [[1, HIDDEN, INTERMEDIATE], [8, HIDDEN, INTERMEDIATE], [ROWS, HIDDEN, INTERMEDIATE]].map(of).concat(),
    )
}

#[divan::bench(args = quantized_cases())]
fn quantized_linear(bencher: Bencher<'_, '_>, on: &On<QuantizedLinear>) {
    on.time_operations(bencher, 2 * on.what.0.iter().product::<usize>());
}

/// Queries, and keys.
#[derive(Debug, Clone)]
struct Attention(usize, usize);

const OPTIONS: AttentionOptions =
    AttentionOptions { scale: 0.125, causal: true, sliding_window: None, softcap: None, dropout: None };

impl Attention {
    /// Of both products, without what the causal mask leaves out.
    fn operations(&self) -> usize {
        let Self(queries, keys) = *self;
        let seen = queries * keys - queries * (queries - 1) / 2;
        4 * HEADS * HEAD_DIM * seen
    }

    fn inputs<B: Kernels>(&self, device: &B::Device) -> [Tensor<B, 4>; 3] {
        let Self(queries, keys) = *self;
        [[HEADS, queries], [KV_HEADS, keys], [KV_HEADS, keys]]
            .map(|[heads, len]| random([1, heads, len, HEAD_DIM], device))
    }
}

impl Repeated for Attention {
    fn prepared<B: Kernels>(&self, device: &B::Device) -> impl FnMut() {
        let [q, k, v] = self.inputs::<B>(device);
        move || drop(Kernels::attention(q.clone(), k.clone(), v.clone(), None, OPTIONS))
    }
}

#[divan::bench(args = on_each([Attention(1, ROWS), Attention(ROWS, ROWS)]))]
fn attention(bencher: Bencher<'_, '_>, on: &On<Attention>) {
    on.time_operations(bencher, on.what.operations());
}

#[derive(Debug, Clone)]
struct AttentionBackward(Attention);

impl Repeated for AttentionBackward {
    fn prepared<B: Kernels>(&self, device: &B::Device) -> impl FnMut() {
        let [q, k, v] = self.0.inputs::<B>(device);
        let output = Kernels::attention(q.clone(), k.clone(), v.clone(), None, OPTIONS);
        let grad = random::<B, 4>(output.dims(), device);
        move || {
            let [q, k, v] = [&q, &k, &v].map(Tensor::clone);
            drop(B::attention_backward(q, k, v, None, output.clone(), grad.clone(), OPTIONS));
        }
    }
}

#[divan::bench(args = on_each([AttentionBackward(Attention(ROWS, ROWS))]))]
fn attention_backward(bencher: Bencher<'_, '_>, on: &On<AttentionBackward>) {
    // Scores again, and the gradients of both products' operands.
    on.time_operations(bencher, on.what.0.operations() / 2 * 5);
}

#[derive(Debug, Clone)]
struct LinearCrossEntropy;

impl Repeated for LinearCrossEntropy {
    fn prepared<B: Kernels>(&self, device: &B::Device) -> impl FnMut() {
        let hidden = random::<B, 2>([ROWS, HIDDEN], device);
        let weight = random::<B, 2>([VOCABULARY, HIDDEN], device);
        let targets = ids::<B, 1>([ROWS], device);
        let token_weights = Tensor::<B, 1>::ones([ROWS], device);
        move || {
            let head = Head { weight: HeadWeight::Float(weight.clone()), bias: None };
            let (targets, weights) = (targets.clone(), token_weights.clone());
            let options = CrossEntropyOptions::default();
            drop(B::linear_cross_entropy(hidden.clone(), head, targets, weights, options));
        }
    }
}

#[divan::bench(args = on_each([LinearCrossEntropy]))]
fn linear_cross_entropy(bencher: Bencher<'_, '_>, on: &On<LinearCrossEntropy>) {
    on.time_operations(bencher, 2 * ROWS * HIDDEN * VOCABULARY);
}

/// What a row costs apart from products.
#[derive(Debug, Clone, Copy)]
enum RowWise {
    LayerNorm,
    LayerNormBackward,
    RmsNorm,
    RmsNormBackward,
    Gelu,
    GeluBackward,
    SwiGlu,
    SwiGluBackward,
    Rotary,
    Embedding,
    EmbeddingBackward,
}

impl RowWise {
    const ALL: [Self; 11] = [
        Self::LayerNorm,
        Self::LayerNormBackward,
        Self::RmsNorm,
        Self::RmsNormBackward,
        Self::Gelu,
        Self::GeluBackward,
        Self::SwiGlu,
        Self::SwiGluBackward,
        Self::Rotary,
        Self::Embedding,
        Self::EmbeddingBackward,
    ];

    /// Numbers that are read and written.
    fn numbers(self) -> usize {
        match self {
            Self::LayerNorm | Self::RmsNorm | Self::Rotary | Self::Embedding => 2 * ROWS * HIDDEN,
            Self::LayerNormBackward | Self::RmsNormBackward => 3 * ROWS * HIDDEN,
            Self::Gelu => 2 * ROWS * INTERMEDIATE,
            Self::GeluBackward | Self::SwiGlu => 3 * ROWS * INTERMEDIATE,
            Self::SwiGluBackward => 5 * ROWS * INTERMEDIATE,
            Self::EmbeddingBackward => (VOCABULARY + ROWS) * HIDDEN,
        }
    }
}

impl Repeated for RowWise {
    fn prepared<B: Kernels>(&self, device: &B::Device) -> impl FnMut() {
        const EPSILON: f64 = 1e-5;
        let kind = *self;
        let [x, grad] = [0; 2].map(|_| random::<B, 2>([ROWS, HIDDEN], device));
        let [gate, up, grad_gated] = [0; 3].map(|_| random::<B, 2>([ROWS, INTERMEDIATE], device));
        let weight = random::<B, 1>([HIDDEN], device);
        let heads = random::<B, 4>([1, HEADS, ROWS, HEAD_DIM], device);
        let [cos, sin] = [0; 2].map(|_| random::<B, 3>([1, ROWS, HEAD_DIM / 2], device));
        let table = random::<B, 2>([VOCABULARY, HIDDEN], device);
        let rows = ids::<B, 2>([1, ROWS], device);
        move || {
            let (x, grad, weight) = (x.clone(), grad.clone(), weight.clone());
            let (gate, up, grad_gated) = (gate.clone(), up.clone(), grad_gated.clone());
            match kind {
                Self::LayerNorm => drop(Kernels::layer_norm(x, weight, None, EPSILON)),
                Self::LayerNormBackward => drop(B::layer_norm_backward(x, weight, grad, EPSILON)),
                Self::RmsNorm => drop(B::rms_norm(x, weight, EPSILON)),
                Self::RmsNormBackward => drop(B::rms_norm_backward(x, weight, grad, EPSILON)),
                Self::Gelu => drop(B::activation(gate, Activation::GeluTanh)),
                Self::GeluBackward => drop(B::activation_backward(gate, grad_gated, Activation::GeluTanh)),
                Self::SwiGlu => drop(B::gated(gate, up, Activation::Silu)),
                Self::SwiGluBackward => drop(B::gated_backward(gate, up, grad_gated, Activation::Silu)),
                Self::Rotary => drop(B::rotary(heads.clone(), cos.clone(), sin.clone(), RotaryStyle::Half)),
                Self::Embedding => drop(Kernels::embedding(table.clone(), rows.clone())),
                Self::EmbeddingBackward => {
                    drop(<B as Kernels>::embedding_backward(table.clone(), rows.clone(), grad.unsqueeze()));
                }
            }
        }
    }
}

#[divan::bench(args = on_each(RowWise::ALL))]
fn row_wise(bencher: Bencher<'_, '_>, on: &On<RowWise>) {
    on.time_numbers(bencher, on.what.numbers());
}

#[derive(Debug, Clone)]
struct AdamW;

impl Repeated for AdamW {
    fn prepared<B: Kernels>(&self, device: &B::Device) -> impl FnMut() {
        let step = AdamWStep {
            learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.1,
            number: 1,
            gradient_scale: 1.0,
        };
        let primitive = || match random::<B, 2>([INTERMEDIATE, HIDDEN], device).into_primitive() {
            TensorPrimitive::Float(tensor) => tensor,
            TensorPrimitive::QFloat(_) => unreachable!("a tensor of floats"),
        };
        let gradient = primitive();
        let state = AdamWState { first_moment: primitive(), second_moment: primitive() };
        // Updated in place, as training does.
        let mut held = Some((primitive(), state));
        move || {
            let (parameter, state) = held.take().expect("put back by the step before");
            held = Some(B::adamw_step(parameter, gradient.clone(), state, &step));
        }
    }
}

#[divan::bench(args = on_each([AdamW]))]
fn adamw(bencher: Bencher<'_, '_>, on: &On<AdamW>) {
    // Four are read, three written.
    on.time_numbers(bencher, 7 * INTERMEDIATE * HIDDEN);
}
