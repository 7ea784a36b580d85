//! PyTorch's fused AdamW by `src/native`: the one place where Rust calls it.

#![expect(unsafe_code, reason = "calls of C++ through a C interface")]

use std::ffi::{CStr, c_char};

use tch::Tensor;

use crate::error::{Error, ErrorKind, Result};

/// As `W2sAdamW` of the C++ file.
#[repr(C)]
pub(super) struct Settings {
    pub(super) lr: f64,
    pub(super) beta1: f64,
    pub(super) beta2: f64,
    pub(super) weight_decay: f64,
    pub(super) eps: f64,
    pub(super) step: f64,
    pub(super) scale: f64,
}

type List = *const *mut torch_sys::C_tensor;

unsafe extern "C" {
    fn w2s_adamw(
        settings: *const Settings,
        parameters: List,
        grads: List,
        means: List,
        squares: List,
        num: usize,
        text: *mut c_char,
        size: usize,
    ) -> i32;
}

/// Tensors that are stepped together: parameters, gradients, means and squares, on one device.
#[derive(Default)]
pub(super) struct Lists {
    pub(super) lists: [Vec<Tensor>; 4],
}

impl Lists {
    /// Adds a parameter with its gradient, mean and square.
    pub(super) fn push(&mut self, tensors: [Tensor; 4]) {
        for (list, tensor) in self.lists.iter_mut().zip(tensors) {
            list.push(tensor);
        }
    }

    /// Makes the step.
    pub(super) fn step(mut self, settings: &Settings) -> Result<()> {
        let num = self.lists[0].len();
        if num == 0 {
            return Ok(());
        }
        let pointers =
            self.lists.each_mut().map(|list| list.iter_mut().map(Tensor::as_mut_ptr).collect());
        let [parameters, grads, means, squares]: [Vec<*mut torch_sys::C_tensor>; 4] = pointers;
        let mut text = [0; 1024];
        // SAFETY: the four lists have `num` tensors each (`push` adds to all), which `self` keeps
        // through the call; the callee checks what the kernel demands of them, and ends its text with
        // a NUL within the buffer of the size that is said.
        let (status, text) = unsafe {
            let status = w2s_adamw(
                settings,
                parameters.as_ptr(),
                grads.as_ptr(),
                means.as_ptr(),
                squares.as_ptr(),
                num,
                text.as_mut_ptr(),
                text.len(),
            );
            (status, CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned())
        };
        if status == 0 {
            return Ok(());
        }
        let reason = text.lines().next().unwrap_or("unknown failure").to_owned();
        Err(Error::new(ErrorKind::Internal, format!("the optimizer's step failed: {reason}")))
    }
}
