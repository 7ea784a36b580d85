//! The model's own tensors: made to train, and handed out as a file has them.

use tch::{Kind, Tensor};

use super::decoder::Decoder;
use super::linear::Linear;
use super::own_tensor::{OwnTensor, in_kind};
use crate::error::{Error, ErrorKind, Result};

impl Decoder {
    /// Makes every weight of the model train, and returns them.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] in f16, whose gradients would vanish.
    ///
    /// # Cost
    /// A copy of all weights in f32; in bf16 passes cast it, so that small steps are not rounded away.
    pub fn train_all(&mut self) -> Result<Vec<OwnTensor>> {
        if !matches!(self.kind(), Kind::Float | Kind::BFloat16) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("all weights train in f32 or bf16, not in {:?}", self.kind()),
            )
            .hint("use `--dtype bf16` or `--dtype f32`, or train an adapter"));
        }
        let mut trained = Vec::new();
        self.train_tables(&mut trained);
        for linear in self.linears_mut() {
            linear.train_all(&mut trained);
        }
        for norm in self.norms_mut() {
            norm.train_all(&mut trained);
        }
        Ok(trained)
    }

    /// Returns how much memory the model's weights take, in bytes.
    pub fn num_weight_bytes(&self) -> u64 {
        let bytes =
            |(_, t): &(String, Tensor)| t.numel() as u64 * t.kind().elt_size_in_bytes() as u64;
        let linears = self.linears().map(|l| l.num_in() as u64 * l.num_out() as u64).sum::<u64>();
        let tables: u64 = self.export_tables().iter().map(bytes).sum();
        tables + linears * self.kind().elt_size_in_bytes() as u64
    }

    /// Returns the inputs of all modules that have an adapter, counted.
    pub fn num_adapted_inputs(&self) -> usize {
        let of_linear = |linear: &Linear| linear.num_adapted() * linear.num_in();
        self.linears().map(of_linear).sum()
    }

    /// Returns the model's tensors as its file has them, with what was trained or merged, in the number
    /// type of its passes.
    pub fn export(&self) -> Vec<(String, Tensor)> {
        let _no_grad = tch::no_grad_guard();
        let mut all = self.export_tables();
        all.extend(self.linears().flat_map(Linear::export));
        all.extend(self.norms().flat_map(|norm| norm.export(self.kind())));
        for (_, tensor) in &mut all {
            *tensor = in_kind(tensor, self.kind());
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}
