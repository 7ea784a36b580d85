//! One of a model's own tensors, made to train.

use tch::{Kind, Tensor};

/// One of the model's own tensors, training.
#[derive(Debug)]
pub struct OwnTensor {
    /// A name that no other has; maps that are computed in one are one.
    pub name: String,
    /// The tensor the model computes with.
    pub tensor: Tensor,
    /// Whether it is a matrix; biases and norms are left alone by weight decay.
    pub decays: bool,
}

impl OwnTensor {
    pub(super) fn new(name: String, tensor: &Tensor, decays: bool) -> Self {
        Self { name, tensor: tensor.shallow_clone(), decays }
    }
}

/// Returns a copy in f32 that trains; the original may be a file that is mapped read-only.
pub(super) fn leaf(tensor: &Tensor) -> Tensor {
    tensor.detach().to_dtype(Kind::Float, false, true).set_requires_grad(true)
}

/// Returns a weight in the number type that a pass computes in; one that trains is held in f32.
pub(super) fn in_kind(weight: &Tensor, kind: Kind) -> Tensor {
    match weight.kind() == kind {
        true => weight.shallow_clone(),
        false => weight.to_kind(kind),
    }
}
