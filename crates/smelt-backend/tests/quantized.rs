//! Quantized weights: the layout and the rounding against MLX, every kernel on every backend of the build against
//! products of the values in f64, and every instruction set of the machine.

#![allow(clippy::print_stderr, reason = "a failure should say on which backend")]

mod support;

use burn::tensor::{DType, Tensor};
use burn_autodiff::Autodiff;
use bytes::Bytes;
use half::{bf16, f16};
use smelt_backend::kernels::quantized::{dequantize, plain, quantize};
use smelt_backend::kernels::{
    CrossEntropyOptions, Head, HeadWeight, QuantizationError, QuantizationFormat, QuantizedBytes,
    QuantizedWeight,
};
use smelt_backend::{Job, Kernels, float_tensor, int_tensor, to_host};
#[cfg(feature = "cpu")]
use smelt_backend::{Name, dispatch};
use smelt_testkit::{Golden, numbers};

use support::{on_each_backend, random};

const DTYPES: [(DType, &str); 3] =
    [(DType::F32, "float32"), (DType::F16, "float16"), (DType::BF16, "bfloat16")];

fn formats() -> impl Iterator<Item = QuantizationFormat> {
    QuantizationFormat::BITS.into_iter().flat_map(|bits| {
        let format = move |group| QuantizationFormat::new(bits.into(), group as u64).expect("a known format");
        QuantizationFormat::GROUP_SIZES.into_iter().map(format)
    })
}

fn bytes_of(values: &[f32], dtype: DType) -> Bytes {
    let bytes: Vec<u8> = match dtype {
        DType::F16 => values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
        DType::BF16 => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    };
    bytes.into()
}

/// Two weights of the same codes, one of them for values that are not rounded, each with its values.
fn weights<B: Kernels>(
    shape: [usize; 2],
    format: QuantizationFormat,
    dtype: DType,
    device: &B::Device,
) -> [(QuantizedWeight<B>, Vec<f32>); 2] {
    let (rounded, values) = weight::<B>(shape, format, dtype, device);
    let bytes = rounded.to_bytes();
    let wide = |scales: &Bytes| match dtype {
        DType::F16 => bytes_of(&halves(scales, f16::from_le_bytes, f16::to_f32), DType::F32),
        DType::BF16 => bytes_of(&halves(scales, bf16::from_le_bytes, bf16::to_f32), DType::F32),
        _ => scales.clone(),
    };
    let (scales, biases) = (wide(&bytes.scales), wide(&bytes.biases));
    let wide = QuantizedBytes { scales, biases, dtype: DType::F32, ..bytes };
    let unrounded = dequantize(&wide, shape, format).expect("the same shape");
    [(rounded.clone(), values), (rounded.unrounded(), unrounded)]
}

fn halves<T>(bytes: &Bytes, number: impl Fn([u8; 2]) -> T, wide: impl Fn(T) -> f32) -> Vec<f32> {
    bytes.as_chunks::<2>().0.iter().map(|bytes| wide(number(*bytes))).collect()
}

/// A weight, and its values.
fn weight<B: Kernels>(
    shape: [usize; 2],
    format: QuantizationFormat,
    dtype: DType,
    device: &B::Device,
) -> (QuantizedWeight<B>, Vec<f32>) {
    let values = numbers(shape[0] * shape[1], 11 + format.bits());
    let bytes = quantize(&values, shape, format, dtype).expect("a shape of whole groups");
    let values = dequantize(&bytes, shape, format).expect("just made");
    (QuantizedWeight::from_bytes(bytes, shape, format, device).expect("just made"), values)
}

/// `a b^T` in f64: `a` `[rows, inner]`, `b` `[columns, inner]`.
fn product(a: &[f32], b: &[f32], inner: usize) -> Vec<f32> {
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    let rows = a.chunks_exact(inner);
    rows.flat_map(|a| b.chunks_exact(inner).map(move |b| dot(a, b) as f32)).collect()
}

fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| values.iter().skip(column).step_by(columns).copied()).collect()
}

/// Within `tolerance` of the largest number.
fn close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}: lengths differ");
    let magnitude = expected.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs() / magnitude;
        assert!(error <= tolerance, "{what}: element {index} is {found}, expected {expected}");
    }
}

#[test]
fn rounding_and_layout_are_those_of_mlx() {
    let golden = Golden::open("quantize");
    let values = golden.tensor("values");
    let shape: [usize; 2] = values.dims();
    for ((dtype, name), format) in DTYPES.into_iter().flat_map(|dtype| formats().map(move |f| (dtype, f))) {
        let name = format!("{name}.{}.{}", format.bits(), format.group_size());
        let tensor = |part: &str| golden.tensor(&format!("{name}.{part}"));
        // As MLX is given them.
        let rounded = values.floats().iter().map(|value| match dtype {
            DType::F16 => f16::from_f32(*value).to_f32(),
            DType::BF16 => bf16::from_f32(*value).to_f32(),
            _ => *value,
        });
        let found = quantize(&rounded.collect::<Vec<_>>(), shape, format, dtype).expect("whole groups");
        let packed = tensor("packed").ids().into_iter().flat_map(u32::to_le_bytes).collect::<Vec<u8>>();
        let expected = QuantizedBytes {
            packed: packed.into(),
            scales: bytes_of(tensor("scales").floats(), dtype),
            biases: bytes_of(tensor("biases").floats(), dtype),
            dtype,
        };
        assert!(found == expected, "{name} differs from MLX");
        if golden.contains(&format!("{name}.dequantized")) {
            let wide = dequantize(&found, shape, format).expect("just made");
            assert!(wide == tensor("dequantized").floats(), "{name}: values differ from MLX");
        }
    }
}

#[test]
fn formats_and_shapes_that_do_not_exist_are_refused() {
    assert_eq!(QuantizationFormat::new(7, 64), Err(QuantizationError::Bits { found: 7 }));
    assert_eq!(QuantizationFormat::new(u64::MAX, 64), Err(QuantizationError::Bits { found: u64::MAX }));
    assert_eq!(QuantizationFormat::new(4, 0), Err(QuantizationError::GroupSize { found: 0 }));
    let format = QuantizationFormat::new(4, 64).expect("a known format");
    let error =
        |values: &[f32], shape, dtype| quantize(values, shape, format, dtype).expect_err("not possible");
    assert!(matches!(error(&[0.0; 96], [1, 96], DType::F16), QuantizationError::Features { .. }));
    assert!(matches!(error(&[0.0; 96], [2, 64], DType::F16), QuantizationError::Values { .. }));
    assert!(matches!(error(&[], [usize::MAX, 64], DType::F16), QuantizationError::Values { .. }));
    assert!(matches!(error(&[0.0; 64], [1, 64], DType::I32), QuantizationError::ScaleDtype { .. }));
    assert!(matches!(error(&[f32::NAN; 64], [1, 64], DType::F32), QuantizationError::NotFinite { .. }));
    assert!(matches!(error(&[1e6; 64], [1, 64], DType::F16), QuantizationError::NotFinite { .. }));
}

/// Bytes go in and come out the same; those that do not fit are refused.
#[derive(Clone)]
struct HostBytes;

impl Job for HostBytes {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        let shape = [5, 128];
        let values = numbers(5 * 128, 3);
        for ((dtype, _), format) in DTYPES.into_iter().flat_map(|dtype| formats().map(move |f| (dtype, f))) {
            let bytes = quantize(&values, shape, format, dtype).expect("whole groups");
            let from = |bytes: &QuantizedBytes, shape| {
                QuantizedWeight::<B>::from_bytes(bytes.clone(), shape, format, &device)
            };
            let weight = from(&bytes, shape).expect("just made");
            assert_eq!(weight.dims(), shape);
            assert!(weight.to_bytes() == bytes, "{format:?}, {dtype:?}");
            let rows = weight.rows(1, 3).to_bytes();
            let expected = quantize(&values[128..4 * 128], [3, 128], format, dtype).expect("whole groups");
            assert!(rows == expected, "rows of {format:?}, {dtype:?}");
            let short = QuantizedBytes { scales: bytes.scales.slice(1..), ..bytes.clone() };
            for (bytes, shape) in [(&short, shape), (&bytes, [4, 128]), (&bytes, [usize::MAX, 128])] {
                assert!(matches!(from(bytes, shape), Err(QuantizationError::Bytes { .. })));
            }
            assert!(from(&bytes, [5, 96]).is_err());
        }
    }
}

/// Every format, width of scales and number of rows, forward and backward.
#[derive(Clone)]
struct Products;

impl Job for Products {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        for (dtype, format) in DTYPES.into_iter().flat_map(|dtype| formats().map(move |f| (dtype, f))) {
            for (weight, values) in weights::<B>(Self::SHAPE, format, dtype.0, &device) {
                Self::check(&format!("{format:?}, scales in {}", dtype.1), weight, &values, &device);
            }
        }
    }
}

impl Products {
    const SHAPE: [usize; 2] = [37, 384];

    fn check<B: Kernels>(format: &str, weight: QuantizedWeight<B>, values: &[f32], device: &B::Device) {
        let [out, features] = Self::SHAPE;
        assert!(to_host(B::dequantized(weight.clone())) == values, "{format}");
        assert!(to_host(plain::dequantized(weight.clone())) == values, "plain, {format}");
        let bias = random::<B, 1>([out], 5, device);
        for rows in [1, 2, 7, 33] {
            let what = format!("{rows} rows, {format}");
            let x = random::<B, 2>([rows, features], 6, device);
            let expected = product(&to_host(x.clone()), values, features);
            let y = Kernels::quantized_linear(x.clone(), weight.clone(), None);
            close(&what, &to_host(y), &expected, 2e-6);
            let y = plain::linear(x.clone(), weight.clone(), None);
            close(&format!("plain, {what}"), &to_host(y), &expected, 2e-6);
            let biases = to_host(bias.clone()).into_iter().cycle();
            let expected: Vec<f32> = expected.iter().zip(biases).map(|(y, bias)| y + bias).collect();
            let y = Kernels::quantized_linear(x, weight.clone(), Some(bias.clone()));
            close(&format!("with a bias, {what}"), &to_host(y), &expected, 2e-6);
            let grad = random::<B, 2>([rows, out], 7, device);
            let expected = product(&to_host(grad.clone()), &transposed(values, features), out);
            let x = B::quantized_linear_backward(weight.clone(), grad.clone());
            close(&format!("backward, {what}"), &to_host(x), &expected, 2e-6);
            let x = plain::linear_backward(weight.clone(), grad);
            close(&format!("plain backward, {what}"), &to_host(x), &expected, 2e-6);
        }
    }
}

/// Several blocks of the default, and pieces of threads.
#[derive(Clone)]
struct LargeProducts;

impl Job for LargeProducts {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        let [out, features] = [1100, 2048];
        for (bits, group_size) in [(4, 64), (8, 32), (3, 128)] {
            let format = QuantizationFormat::new(bits, group_size).expect("a known format");
            let both = weights::<B>([out, features], format, DType::BF16, &device);
            for (rows, (weight, values)) in
                [1, 20].into_iter().flat_map(|rows| both.clone().map(|of| (rows, of)))
            {
                // One feature is much larger than all others, as in real models.
                let mut x = numbers(rows * features, 6);
                x.iter_mut().step_by(features).for_each(|x| *x *= 100.0);
                let expected = product(&x, &values, features);
                let x = float_tensor::<B, 2>(x, [rows, features], &device);
                let y = Kernels::quantized_linear(x.clone(), weight.clone(), None);
                close(&format!("{rows} rows, {format:?}"), &to_host(y), &expected, 2e-6);
                let y = plain::linear(x, weight.clone(), None);
                close(&format!("plain, {rows} rows, {format:?}"), &to_host(y), &expected, 2e-6);
                let grad = random::<B, 2>([rows, out], 7, &device);
                let expected = product(&to_host(grad.clone()), &transposed(&values, features), out);
                let x = B::quantized_linear_backward(weight.clone(), grad.clone());
                close(&format!("backward, {rows} rows, {format:?}"), &to_host(x), &expected, 2e-6);
                let x = plain::linear_backward(weight.clone(), grad);
                close(&format!("plain backward, {rows} rows, {format:?}"), &to_host(x), &expected, 2e-6);
            }
        }
    }
}

#[derive(Clone)]
struct Embeddings;

impl Job for Embeddings {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        let [count, features] = [19, 256];
        let ids = [3, 18, 0, 3, 7, 1];
        for ((dtype, name), format) in DTYPES.into_iter().flat_map(|dtype| formats().map(move |f| (dtype, f)))
        {
            for (weight, values) in weights::<B>([count, features], format, dtype, &device) {
                let rows = ids.iter().flat_map(|id| &values[*id as usize * features..][..features]);
                let expected: Vec<f32> = rows.copied().collect();
                let found = B::quantized_embedding(weight.clone(), int_tensor(&ids, [2, 3], &device));
                assert_eq!(found.dims(), [2, 3, features]);
                assert!(to_host(found) == expected, "{format:?}, scales in {name}");
                let found = plain::embedding(weight, int_tensor::<B, 2>(&ids, [2, 3], &device));
                assert!(to_host(found) == expected, "plain, {format:?}, scales in {name}");
            }
        }
    }
}

/// Under autodiff: a linear map and a head give the gradients of the same with the values.
#[derive(Clone)]
struct Gradients;

impl Job for Gradients {
    type Output = ();

    fn run<B: Kernels>(self, device: B::Device) {
        let [rows, out, features] = [9, 24, 128];
        let format = QuantizationFormat::new(4, 64).expect("a known format");
        let (weight, values) = weight::<Autodiff<B>>([out, features], format, DType::F16, &device);
        let wide = float_tensor::<Autodiff<B>, 2>(values, [out, features], &device);
        let leaves = || {
            let x = Tensor::<Autodiff<B>, 2>::from_inner(random::<B, 2>([rows, features], 1, &device));
            let bias = Tensor::<Autodiff<B>, 1>::from_inner(random::<B, 1>([out], 2, &device));
            (x.require_grad(), bias.require_grad())
        };
        let targets = || int_tensor::<Autodiff<B>, 1>(&[3, 0, 23, 7, 7, 1, 2, 9, 11], [rows], &device);
        let weights = || Tensor::from_inner(random::<B, 1>([rows], 3, &device) + 1.5);
        let loss = |weight: HeadWeight<Autodiff<B>>, with_bias: bool| {
            let (x, bias) = leaves();
            let head = Head { weight, bias: with_bias.then(|| bias.clone()) };
            let options = CrossEntropyOptions {
                chunk_tokens: 4,
                softcap: Some(3.0),
                z_loss: 0.01,
                ..Default::default()
            };
            let loss = Kernels::linear_cross_entropy(x.clone(), head, targets(), weights(), options);
            let grads = loss.objective.clone().backward();
            let bias = with_bias.then(|| to_host(bias.grad(&grads).expect("a gradient")));
            (to_host(loss.objective.inner()), to_host(x.grad(&grads).expect("a gradient")), bias)
        };
        for with_bias in [false, true] {
            let found = loss(HeadWeight::Quantized(weight.clone()), with_bias);
            let expected = loss(HeadWeight::Float(wide.clone()), with_bias);
            close("loss", &found.0, &expected.0, 2e-6);
            close("gradient of the hidden states", &found.1, &expected.1, 2e-6);
            if let (Some(found), Some(expected)) = (found.2, expected.2) {
                close("gradient of the bias", &found, &expected, 2e-6);
            }
        }
        let product = |quantized: bool| {
            let (x, bias) = leaves();
            let y = if quantized {
                Kernels::quantized_linear(x.clone(), weight.clone(), Some(bias.clone()))
            } else {
                Kernels::linear(x.clone(), wide.clone(), Some(bias.clone()))
            };
            let seed = Tensor::from_inner(random::<B, 2>([rows, out], 4, &device));
            let grads = (y.clone() * seed).reshape([rows * out]).sum_dim(0).backward();
            let [dx, dbias] = [x.grad(&grads).map(to_host), bias.grad(&grads).map(to_host)];
            [to_host(y.inner()), dx.expect("a gradient"), dbias.expect("a gradient")]
        };
        let (found, expected) = (product(true), product(false));
        for (found, expected) in found.iter().zip(&expected) {
            close("a linear map under autodiff", found, expected, 2e-6);
        }
    }
}

#[test]
fn bytes_come_back_as_they_were() {
    on_each_backend(HostBytes);
}

#[test]
fn products_are_those_of_the_values() {
    on_each_backend(Products);
}

#[test]
fn large_products_are_those_of_the_values() {
    on_each_backend(LargeProducts);
}

#[test]
fn vectors_are_those_of_the_values() {
    on_each_backend(Embeddings);
}

#[test]
fn gradients_are_those_of_the_values() {
    on_each_backend(Gradients);
}

/// The output of the tests called `names` in a process of their own, with `SMELT_CPU` set.
#[cfg(feature = "cpu")]
fn tests_with(smelt_cpu: &str, names: &[&str]) -> (bool, String) {
    let this = std::env::current_exe().expect("a test has a file");
    let child =
        std::process::Command::new(this).args(names).arg("--exact").env("SMELT_CPU", smelt_cpu).output();
    let child = child.expect("it runs once more");
    let output = [child.stdout, child.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (child.status.success(), output.concat())
}

#[cfg(all(feature = "cpu", target_arch = "x86_64"))]
#[test]
fn narrower_instruction_sets_pass_the_same_tests() {
    let sets =
        [("scalar", true), ("avx2", is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"))];
    for (set, _) in sets.into_iter().filter(|(_, detected)| *detected) {
        let names = ["products_are_those_of_the_values", "large_products_are_those_of_the_values"];
        let (passed, output) = tests_with(set, &names);
        assert!(passed && output.contains("2 passed"), "with {set}: {output}");
    }
}

/// Says what all bits of products in every format make, for [`every_instruction_set_gives_the_same_bits`].
#[cfg(feature = "cpu")]
#[derive(Clone)]
struct Checksum;

#[cfg(feature = "cpu")]
impl Job for Checksum {
    type Output = u64;

    fn run<B: Kernels>(self, device: B::Device) -> u64 {
        let [out, features] = [75, 384];
        let mut checksum = 0xcbf2_9ce4_8422_2325;
        for ((dtype, _), format) in DTYPES.into_iter().flat_map(|dtype| formats().map(move |f| (dtype, f))) {
            let (weight, _) = weight::<B>([out, features], format, dtype, &device);
            for rows in [1, 2, 9] {
                let x = random::<B, 2>([rows, features], 6, &device);
                for y in to_host(Kernels::quantized_linear(x, weight.clone(), None)) {
                    checksum = (checksum ^ u64::from(y.to_bits())).wrapping_mul(0x0100_0000_01b3);
                }
            }
        }
        checksum
    }
}

#[cfg(feature = "cpu")]
#[test]
fn checksum_of_products() {
    eprintln!("checksum {:x}", dispatch(Name::Cpu, Checksum));
}

#[cfg(all(feature = "cpu", target_arch = "x86_64"))]
#[test]
fn every_instruction_set_gives_the_same_bits() {
    // Without FMA, products are rounded before they are added.
    let sets = ["avx2", "avx512", "avx512bf16", "amx"];
    let detected = [
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512dq"),
    ];
    let checksums = sets.map(|set| {
        let (passed, output) = tests_with(set, &["checksum_of_products", "--nocapture"]);
        let line = output.lines().find(|line| line.starts_with("checksum ")).map(str::to_owned);
        line.filter(|_| passed)
    });
    for (set, (checksum, detected)) in sets.iter().zip(checksums.iter().zip(detected)) {
        assert!(checksum.is_some() || !detected, "no checksum with {set}");
    }
    let mut found = checksums.iter().flatten();
    if let Some(first) = found.next() {
        assert!(found.all(|checksum| checksum == first), "{checksums:?}");
    }
}

#[cfg(feature = "cpu")]
#[test]
fn an_instruction_set_that_does_not_exist_is_an_error() {
    let (passed, output) = tests_with("avx3", &["bytes_come_back_as_they_were"]);
    assert!(!passed && output.contains("`SMELT_CPU` is `avx3`, expected one of"), "{output}");
}
