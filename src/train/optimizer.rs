//! AdamW, its schedule, and the norm of gradients.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::fused::{Lists, Settings};
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
    /// Whether steps are made in one pass over memory where tensors allow it.
    fuses: bool,
}

const BETAS: (f64, f64) = (0.9, 0.999);
const EPS: f64 = 1e-8;

impl AdamW {
    /// Returns an optimizer that has made no step.
    pub fn new(parameters: Vec<Parameter>, weight_decay: f64) -> Self {
        let zeros = || parameters.iter().map(|p| p.tensor.detach().zeros_like()).collect();
        Self {
            means: zeros(),
            squares: zeros(),
            parameters,
            num_steps: 0,
            weight_decay,
            fuses: true,
        }
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
        // Numbers of a device stay there until they are one vector.
        let mut norms: Vec<(Device, Vec<Tensor>)> = Vec::new();
        let grads = self.parameters.iter().map(|parameter| parameter.tensor.grad());
        for grad in grads.filter(Tensor::defined) {
            match norms.iter_mut().find(|(device, _)| *device == grad.device()) {
                Some((_, of_device)) => of_device.push(grad.norm()),
                None => norms.push((grad.device(), vec![grad.norm()])),
            }
        }
        let Some(&(first, _)) = norms.first() else { return 0.0 };
        let norms: Vec<Tensor> =
            norms.iter().map(|(_, norms)| Tensor::stack(norms, 0).to_device(first)).collect();
        Tensor::cat(&norms, 0).norm().double_value(&[])
    }

    /// Makes a step at the learning rate `lr` with the gradients times `scale`.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when libtorch cannot make it.
    pub fn step(&mut self, lr: f64, scale: f64) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        self.num_steps += 1;
        // Those that are stepped in one pass over memory, by device and weight decay.
        let mut fused: Vec<((Device, bool), Lists)> = Vec::new();
        for (i, parameter) in self.parameters.iter().enumerate() {
            let grad = parameter.tensor.grad();
            if !grad.defined() {
                continue;
            }
            let tensor = parameter.tensor.detach();
            let [mean, square] = [&self.means, &self.squares].map(|all| all[i].shallow_clone());
            let all = [tensor, grad, mean, square];
            let is_plain = |t: &Tensor| t.is_contiguous() && t.kind() == Kind::Float;
            if self.fuses && all.iter().all(is_plain) {
                let group = (all[0].device(), parameter.decays);
                let at = fused.iter().position(|(other, _)| *other == group).unwrap_or_else(|| {
                    fused.push((group, Lists::default()));
                    fused.len() - 1
                });
                fused[at].1.push(all);
            } else {
                self.step_of(all, parameter.decays, lr, scale);
            }
        }
        for ((_, decays), lists) in fused {
            lists.step(&Settings {
                lr,
                beta1: BETAS.0,
                beta2: BETAS.1,
                weight_decay: if decays { self.weight_decay } else { 0.0 },
                eps: EPS,
                step: self.num_steps as f64,
                scale,
            })?;
        }
        Ok(())
    }

    /// The step of a tensor by plain operations, whatever its strides.
    fn step_of(&self, tensors: [Tensor; 4], decays: bool, lr: f64, scale: f64) {
        let [mut tensor, mut grad, mut mean, mut square] = tensors;
        let (beta1, beta2) = BETAS;
        let correction = |beta: f64| 1.0 - beta.powi(self.num_steps as i32);
        let step_size = lr / correction(beta1);
        let root = correction(beta2).sqrt();
        if scale != 1.0 {
            let _ = grad.g_mul_scalar_(scale);
        }
        if decays && self.weight_decay != 0.0 {
            let _ = tensor.g_mul_scalar_(1.0 - lr * self.weight_decay);
        }
        let _ = mean.lerp_(&grad, 1.0 - beta1);
        let _ = square.g_mul_scalar_(beta2).addcmul_(&grad, &(&grad * (1.0 - beta2)));
        let mut change = square.sqrt();
        let _ = change.g_div_scalar_(root).g_add_scalar_(EPS);
        let _ = tensor.addcdiv_(&(&mean * -step_size), &change);
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

    /// Tensors of these shapes, with gradients, under both ways of stepping.
    fn both(shapes: &[[i64; 2]]) -> [AdamW; 2] {
        [false, true].map(|fuses| {
            tch::manual_seed(3);
            let parameters = shapes.iter().enumerate().map(|(i, shape)| {
                let place = (Kind::Float, Device::Cpu);
                let tensor = Tensor::randn(shape, place).set_requires_grad(true);
                (&tensor * Tensor::randn(shape, place)).sum(Kind::Float).backward();
                Parameter { name: i.to_string(), tensor, decays: i % 3 > 0 }
            });
            let optimizer = AdamW::new(parameters.collect(), 0.01);
            AdamW { fuses, ..optimizer }
        })
    }

    fn apart(a: &AdamW, b: &AdamW) -> f64 {
        let pairs = a.parameters.iter().zip(&b.parameters);
        let most = pairs.map(|(a, b)| (&a.tensor - &b.tensor).abs().max().double_value(&[]));
        most.fold(0.0, f64::max)
    }

    /// One pass over memory is what the plain operations are, clipped or not, with weight decay for
    /// some, for tensors that lie otherwise in memory too; and the same again.
    #[test]
    fn a_fused_step_is_a_plain_one() {
        let shapes = [[5, 7], [64, 16], [1, 1], [33, 3]];
        let [mut plain, mut fused] = both(&shapes);
        let [_, mut again] = both(&shapes);
        let turned = |optimizer: &mut AdamW| {
            let own = &mut optimizer.parameters[1].tensor;
            let other = own.detach().tr().contiguous().tr().set_requires_grad(true);
            (&other * own.grad()).sum(Kind::Float).backward();
            *own = other;
        };
        [&mut plain, &mut fused, &mut again].into_iter().for_each(turned);
        for (lr, scale) in [(1e-2, 1.0), (2e-2, 0.3), (3e-2, 1.0), (4e-2, 0.01)] {
            for optimizer in [&mut plain, &mut fused, &mut again] {
                optimizer.step(lr, scale).unwrap();
            }
            let most = apart(&plain, &fused);
            assert!(most < 1e-6, "{most:e}");
        }
        assert_eq!(apart(&fused, &again), 0.0);
    }

    /// `cargo test --release --lib -- --ignored --nocapture time_of_a_step`
    #[test]
    #[ignore = "a measurement"]
    #[expect(clippy::print_stdout, reason = "a measurement")]
    fn time_of_a_step() {
        let lora: Vec<[i64; 2]> =
            (0..30).flat_map(|_| [[16, 576], [576, 16], [16, 576], [192, 16]]).collect();
        let all: Vec<[i64; 2]> = (0..30)
            .flat_map(|_| [[960, 576], [576, 576], [3072, 576], [576, 1536]])
            .chain([[49_152, 576]])
            .collect();
        for (name, shapes) in [("LoRA r 16 on q, v of 135M", lora), ("all of 135M", all)] {
            let mut optimizers = both(&shapes);
            let mut times = [Vec::new(), Vec::new()];
            for _ in 0..9 {
                for (optimizer, times) in optimizers.iter_mut().zip(&mut times) {
                    let began = std::time::Instant::now();
                    optimizer.step(1e-4, 0.5).unwrap();
                    times.push(began.elapsed().as_secs_f64() * 1e3);
                }
            }
            let [plain, fused] = times.map(|mut times| {
                times.sort_by(f64::total_cmp);
                times[times.len() / 2]
            });
            println!("{name}: plain {plain:.2} ms, fused {fused:.2} ms, {:.2}x", plain / fused);
        }
    }

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
