//! AdamW, its schedule, and the norm of gradients.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::error::{Error, ErrorKind, Result};

/// A tensor that trains.
#[derive(Debug)]
pub struct Parameter {
    /// Its name in files.
    pub name: String,
    /// The tensor the model computes with.
    pub tensor: Tensor,
    /// Whether weight decay pulls at it; biases and norms are left alone.
    pub decays: bool,
}

/// AdamW with decoupled weight decay; what it remembers is its own, so that it can be written down.
///
/// # Source
/// Loshchilov and Hutter 2019, algorithm 2; rounding as `torch.optim.AdamW`.
#[derive(Debug)]
pub struct AdamW {
    parameters: Vec<Parameter>,
    means: Vec<Tensor>,
    squares: Vec<Tensor>,
    num_steps: u64,
    weight_decay: f64,
}

const BETAS: (f64, f64) = (0.9, 0.999);
const EPS: f64 = 1e-8;

impl AdamW {
    /// Returns an optimizer that has made no step.
    pub fn new(parameters: Vec<Parameter>, weight_decay: f64) -> Self {
        let zeros = || parameters.iter().map(|p| p.tensor.detach().zeros_like()).collect();
        Self { means: zeros(), squares: zeros(), parameters, num_steps: 0, weight_decay }
    }

    /// Returns the tensors that train.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Returns how many numbers train.
    pub fn num_trained(&self) -> usize {
        self.parameters.iter().map(|p| p.tensor.numel()).sum()
    }

    /// Forgets the gradients.
    pub fn zero_grad(&self) {
        let _no_grad = tch::no_grad_guard();
        for parameter in &self.parameters {
            let mut grad = parameter.tensor.grad();
            if grad.defined() {
                let _ = grad.zero_();
            }
        }
    }

    /// Returns the Euclidean norm of all gradients together; NaN or infinity if one holds such.
    pub fn grad_norm(&self) -> f64 {
        let _no_grad = tch::no_grad_guard();
        let norms: Vec<Tensor> = self
            .parameters
            .iter()
            .map(|parameter| parameter.tensor.grad())
            .filter(Tensor::defined)
            .map(|grad| grad.norm())
            .collect();
        if norms.is_empty() {
            return 0.0;
        }
        Tensor::stack(&norms, 0).norm().double_value(&[])
    }

    /// Makes a step at the learning rate `lr` with the gradients times `scale`.
    pub fn step(&mut self, lr: f64, scale: f64) {
        let _no_grad = tch::no_grad_guard();
        self.num_steps += 1;
        let (beta1, beta2) = BETAS;
        let correction = |beta: f64| 1.0 - beta.powi(self.num_steps as i32);
        let step_size = lr / correction(beta1);
        let root = correction(beta2).sqrt();
        for ((parameter, mean), square) in
            self.parameters.iter().zip(&mut self.means).zip(&mut self.squares)
        {
            let mut grad = parameter.tensor.grad();
            if !grad.defined() {
                continue;
            }
            if scale != 1.0 {
                let _ = grad.g_mul_scalar_(scale);
            }
            let mut tensor = parameter.tensor.detach();
            if parameter.decays && self.weight_decay != 0.0 {
                let _ = tensor.g_mul_scalar_(1.0 - lr * self.weight_decay);
            }
            let _ = mean.lerp_(&grad, 1.0 - beta1);
            let _ = square.g_mul_scalar_(beta2).addcmul_(&grad, &(&grad * (1.0 - beta2)));
            let mut change = square.sqrt();
            let _ = change.g_div_scalar_(root).g_add_scalar_(EPS);
            let _ = tensor.addcdiv_(&(&*mean * -step_size), &change);
        }
    }

    /// Returns what the optimizer remembers by name, and the number of steps.
    pub(super) fn state(&self) -> (Vec<(String, Tensor)>, u64) {
        let named = self.parameters.iter().zip(self.means.iter().zip(&self.squares)).flat_map(
            |(parameter, (mean, square))| {
                let name = &parameter.name;
                [
                    (format!("{name}.mean"), mean.shallow_clone()),
                    (format!("{name}.square"), square.shallow_clone()),
                ]
            },
        );
        (named.collect(), self.num_steps)
    }

    pub(super) fn set_num_steps(&mut self, num_steps: u64) {
        self.num_steps = num_steps;
    }

    /// Takes up what was written down of the tensors and of what the optimizer remembers.
    ///
    /// # Errors
    /// [`ErrorKind::Run`] when a tensor is missing or has another shape.
    pub(super) fn restore(
        &mut self,
        num_steps: u64,
        mut take: impl FnMut(&str) -> Option<Tensor>,
    ) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        let mut put = |name: &str, to: &Tensor| {
            let from = take(name).filter(|from| from.size() == to.size()).ok_or_else(|| {
                Error::new(ErrorKind::Run, format!("the checkpoint has no fitting tensor `{name}`"))
            })?;
            to.detach().f_copy_(&from.f_to_kind(Kind::Float)?)?;
            Ok::<_, Error>(())
        };
        for ((parameter, mean), square) in
            self.parameters.iter().zip(&self.means).zip(&self.squares)
        {
            put(&parameter.name, &parameter.tensor)?;
            put(&format!("{}.mean", parameter.name), mean)?;
            put(&format!("{}.square", parameter.name), square)?;
        }
        self.num_steps = num_steps;
        Ok(())
    }
}

/// How the learning rate moves after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// To zero, on a straight line.
    #[default]
    Linear,
    /// Not at all.
    Constant,
}

/// Linear warm-up, then a decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// How it moves after the warm-up.
    pub decay: Decay,
    /// The highest rate.
    pub lr: f64,
    /// Steps of the warm-up.
    pub num_warmup: usize,
    /// All steps.
    pub num_steps: usize,
}

impl Schedule {
    /// Returns the learning rate of a zero-based step.
    ///
    /// # Source
    /// transformers, `get_linear_schedule_with_warmup` and `get_constant_schedule_with_warmup`.
    pub fn at(&self, step: usize) -> f64 {
        let (step, warmup, num) = (step as f64, self.num_warmup as f64, self.num_steps as f64);
        if step < warmup {
            return self.lr * step / warmup.max(1.0);
        }
        if self.decay == Decay::Constant {
            return self.lr;
        }
        self.lr * ((num - step) / (num - warmup).max(1.0)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand, from the formula.
    #[test]
    fn the_rate_rises_and_falls_on_straight_lines() {
        let schedule = Schedule { decay: Decay::Linear, lr: 1.0, num_warmup: 2, num_steps: 6 };
        let rates: Vec<f64> = (0..7).map(|step| schedule.at(step)).collect();
        assert_eq!(rates, [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(Schedule { num_warmup: 0, ..schedule }.at(0), 1.0);
        let constant = Schedule { decay: Decay::Constant, ..schedule };
        assert_eq!([0, 1, 2, 5].map(|step| constant.at(step)), [0.0, 0.5, 1.0, 1.0]);
    }
}
