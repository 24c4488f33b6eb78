//! Products with packed weights, whose values never exist as a whole.
//!
//! Where values are computed in f32, codes are multiplied as integers. `x` is written in integers, too: three bytes for
//! each number, and a step for each group (`digits`). So the sum over a group is exact, and comes out the same in any
//! order: bytes of codes times bytes of digits, four at a time, as machines do fastest (`kernel`). One scale and one
//! bias then make it a number, groups one after the other, whatever the number of rows, outputs and threads, and
//! whatever the instruction set.
//!
//! Three bytes keep as much of the largest number of a group as f32 does; rounding `x` to one, as is common, would
//! leave an error of 2^-8.
//!
//! Values that are rounded to 16 bits (see [`GroupScale`]) are no longer a scale times a sum of codes: some rows of them
//! are expanded at a time (`expand`), and multiplied as any matrix is.
//!
//! [`GroupScale`]: crate::kernels::quantized::GroupScale

mod digits;
mod expand;
#[cfg(target_arch = "x86_64")]
mod in_place;
mod kernel;
mod lanes;
mod leaves;
mod panel;
mod scales;
mod sixteen;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod squares;
mod turned;
mod unpack;
mod values;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
mod x86_sixteen;

use burn::tensor::{AllocationProperty, DType, Int, Tensor};
use burn_flex::{Flex, FlexTensor};
use half::{bf16, f16};

use self::panel::{Packed, Target};
use self::scales::Scale;
use super::fill::zeros;
use super::linear::start;
use super::matrix::{BLOCK_K, Destination, Threads, View, product};
use super::{contiguous, flex, from_vec, values};
use crate::kernels::quantized::Prepared;
use crate::kernels::{QuantizationFormat, QuantizedWeight};

/// `x W^T + bias` of each weight and its bias.
pub(super) fn forward<const N: usize>(
    x: Tensor<Flex, 2>,
    weights: [(QuantizedWeight<Flex>, Option<Tensor<Flex, 1>>); N],
) -> [Tensor<Flex, 2>; N] {
    let [rows, inner] = x.dims();
    let x = contiguous(x);
    let x = View::dense(values(&x), rows, inner);
    let mut products = weights.map(|(weight, bias)| {
        let [outer, columns] = weight.dims();
        assert_eq!(columns, inner, "columns of a [{outer}, {columns}] weight, and of x");
        let y = start(bias, rows).unwrap_or_else(|| zeros(rows * outer));
        assert_eq!(y.len(), rows * outer, "a bias for {outer} outputs");
        Product { prepared: weight.prepared.clone(), weight: Held::of(weight), y }
    });
    for alike in products.chunk_by_mut(|a, b| a.weight.kind() == b.weight.kind()) {
        Product::add(alike, x);
    }
    products.map(|Product { weight, y, .. }| from_vec(y, [rows, weight.shape[0]]))
}

/// What `x W^T` is added to, and `W`.
struct Product {
    weight: Held,
    prepared: Prepared,
    y: Vec<f32>,
}

impl Product {
    /// Adds the products of `x` with weights of one kind.
    fn add(products: &mut [Self], x: View<'_>) {
        match products.first().map(|first| first.weight.kind()) {
            Some((DType::F32, DType::F32, _)) => Self::add_unrounded::<f32>(products, x),
            Some((DType::F32, DType::F16, _)) => Self::add_unrounded::<f16>(products, x),
            Some((DType::F32, _, _)) => Self::add_unrounded::<bf16>(products, x),
            _ => products.iter_mut().for_each(|product| product.add_rounded(x)),
        }
    }

    fn add_rounded(&mut self, x: View<'_>) {
        let outer = self.weight.shape[0];
        self.weight.blocks(|first, block| {
            let y = &mut self.y[first..];
            product(y, outer, Destination::Add, 1.0, x, block.transposed(), Threads::All);
        });
    }

    fn add_unrounded<T: Scale>(products: &mut [Self], x: View<'_>) {
        let targets = products.iter_mut().map(|Self { weight, prepared, y }| {
            let in_file = [&weight.scales, &weight.biases]
                .iter()
                .all(|numbers| numbers.data_arc().property() == AllocationProperty::File);
            Target { y, weight: weight.packed::<T>(), in_file, prepared }
        });
        panel::add_products(x, targets.collect());
    }
}

/// Values that exist in f32 at a time, about: few enough for the second cache.
const EXPANDED_VALUES: usize = 1 << 18;

/// `grad W`, where `W` is expanded some rows at a time.
pub(super) fn backward(weight: QuantizedWeight<Flex>, grad: Tensor<Flex, 2>) -> Tensor<Flex, 2> {
    let ([rows, outer], [_, inner]) = (grad.dims(), weight.dims());
    let grad = contiguous(grad);
    let mut x = zeros(rows * inner);
    Held::of(weight).blocks(|first, block| {
        let upstream = View::new(&values(&grad)[first..], [rows, block.rows], [outer, 1]);
        product(&mut x, inner, Destination::Add, 1.0, upstream, block, Threads::All);
    });
    from_vec(x, [rows, inner])
}

pub(super) fn embedding(weight: QuantizedWeight<Flex>, ids: Tensor<Flex, 2, Int>) -> Tensor<Flex, 3> {
    let ([batch, seq], [_, features]) = (ids.dims(), weight.dims());
    let held = Held::of(weight);
    let mut vectors = vec![0.0; batch * seq * features];
    for (id, vector) in ids.into_data().iter::<i64>().zip(vectors.chunks_exact_mut(features)) {
        held.expand(usize::try_from(id).expect("ids are rows of the table"), vector);
    }
    from_vec(vectors, [batch, seq, features])
}

pub(super) fn dequantized(weight: QuantizedWeight<Flex>) -> Tensor<Flex, 2> {
    let shape = weight.dims();
    let mut expanded = vec![0.0; shape.iter().product()];
    Held::of(weight).expand(0, &mut expanded);
    from_vec(expanded, shape)
}

/// The tensors of a weight, row-major.
struct Held {
    packed: FlexTensor,
    scales: FlexTensor,
    biases: FlexTensor,
    format: QuantizationFormat,
    /// What values are rounded to.
    rounding: DType,
    shape: [usize; 2],
}

impl Held {
    fn of(weight: QuantizedWeight<Flex>) -> Self {
        let row_major = |tensor: FlexTensor| match tensor.layout().contiguous_offsets() {
            Some(_) => tensor,
            None => tensor.to_contiguous(),
        };
        let (format, rounding, shape) = (weight.format(), weight.rounding(), weight.dims());
        Self {
            packed: row_major(weight.packed.into_primitive()),
            scales: row_major(flex(weight.scales)),
            biases: row_major(flex(weight.biases)),
            format,
            rounding,
            shape,
        }
    }

    /// What decides how it is multiplied: what values are rounded to, and the formats of scales and codes.
    fn kind(&self) -> (DType, DType, QuantizationFormat) {
        (self.rounding, self.scales.dtype(), self.format)
    }

    fn packed<T: Scale>(&self) -> Packed<'_, T> {
        Packed::new(
            self.packed.as_slice().expect("packed weights are row-major u32"),
            self.scales.as_slice().expect("scales are row-major and of their dtype"),
            self.biases.as_slice().expect("biases are row-major and of the scales' dtype"),
            self.shape,
            self.format,
        )
    }

    /// Calls `work` with the values of some rows after the other, and the first of these rows.
    fn blocks(&self, mut work: impl FnMut(usize, View<'_>)) {
        let [outer, inner] = self.shape;
        // Products along rows have whole chains.
        let count = (EXPANDED_VALUES / inner).next_multiple_of(BLOCK_K).clamp(1, outer.max(1));
        let mut expanded = vec![0.0; count * inner];
        for start in (0..outer).step_by(count) {
            let count = count.min(outer - start);
            let expanded = &mut expanded[..count * inner];
            self.expand(start, expanded);
            work(start, View::dense(expanded, count, inner));
        }
    }

    /// Values of the rows from `start` on, as many as there is room for.
    fn expand(&self, start: usize, to: &mut [f32]) {
        match self.rounding {
            DType::F16 => self.expand_rounded::<f16>(start, to),
            DType::BF16 => self.expand_rounded::<bf16>(start, to),
            _ => self.expand_rounded::<f32>(start, to),
        }
    }

    fn expand_rounded<R: Scale>(&self, start: usize, to: &mut [f32]) {
        match self.scales.dtype() {
            DType::F16 => expand::rows::<R, _>(self.packed::<f16>(), start, to),
            DType::BF16 => expand::rows::<R, _>(self.packed::<bf16>(), start, to),
            _ => expand::rows::<R, _>(self.packed::<f32>(), start, to),
        }
    }
}
