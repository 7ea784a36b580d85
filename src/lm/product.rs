//! Products with weights, in the form in which the library reads the weights fastest.

use std::ops::RangeInclusive;

use tch::{Device, Kind, Tensor};

use super::own_tensor::in_kind;

/// Rows of a product for which MKL reads a wide weight slowly unless it is given in parts.
const ROWS_IN_PARTS: RangeInclusive<i64> = 3..=14;
/// Outputs of such a part for each thread.
const PART_PER_THREAD: i64 = 192;
/// Returns `x_ld` times the transpose of `weight`, `[out, in]`, plus `bias`.
///
/// A step of decoding multiplies few rows with every weight, and its time is that of reading them.
/// How fast MKL reads depends on the shape: the head of SmolLM2 (49,152 x 576) behind 8 rows takes
/// 9.7 ms at once and 5.8 ms in parts of 384 outputs (2 threads).
pub(super) fn product(x_ld: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    if weight.kind() != x_ld.kind() {
        let bias = bias.map(|bias| in_kind(bias, x_ld.kind()));
        return x_ld.linear(&in_kind(weight, x_ld.kind()), bias.as_ref());
    }
    let (num_rows, num_out) = (x_ld.size()[0], weight.size()[0]);
    let part = PART_PER_THREAD * i64::from(tch::get_num_threads());
    if weight.device() != Device::Cpu
        || weight.kind() != Kind::Float
        || x_ld.requires_grad()
        || weight.requires_grad()
        || !ROWS_IN_PARTS.contains(&num_rows)
        || num_out <= 2 * part
    {
        return x_ld.linear(weight, bias);
    }
    let mut y = Tensor::empty([num_rows, num_out], (Kind::Float, Device::Cpu));
    for first in (0..num_out).step_by(part as usize) {
        let num = part.min(num_out - first);
        let _ = x_ld.mm_out(&y.narrow(1, first, num), &weight.narrow(0, first, num).tr());
    }
    if let Some(bias) = bias {
        y += bias;
    }
    y
}
