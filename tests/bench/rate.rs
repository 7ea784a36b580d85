//! The machine's rate of matrix products, for shares of it.

use std::time::Instant;

use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use w2s::lm::LmConfig;

/// Products of one measurement.
const NUM_PRODUCTS: usize = 50;

/// Returns the rate at the shapes of the model's MLP: up and down in turns, nothing between them.
pub(crate) fn matmul(config: &LmConfig, rows: i64) -> Value {
    let _no_grad = tch::no_grad_guard();
    let (d, f) = (config.hidden_size as i64, config.intermediate_size as i64);
    let random = |shape: [i64; 2]| Tensor::randn(shape, (Kind::Float, Device::Cpu)) * 0.02;
    let (x_ld, up_fd, down_df) = (random([rows, d]), random([f, d]), random([d, f]));
    let pair = || {
        let wide_lf = x_ld.linear(&up_fd, None::<&Tensor>);
        wide_lf.linear(&down_df, None::<&Tensor>)
    };
    drop(pair());
    let began = Instant::now();
    for _ in 0..NUM_PRODUCTS {
        drop(pair());
    }
    let seconds = began.elapsed().as_secs_f64();
    let flops = (NUM_PRODUCTS as i64 * 4 * rows * d * f) as f64;
    json!({ "seconds": seconds, "gflops": flops / seconds / 1e9 })
}
