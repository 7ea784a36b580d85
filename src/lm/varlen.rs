//! The calls of a pass ([`super::calls`]) on a device, run by `src/native/attention.cpp`.

#![expect(unsafe_code, reason = "calls of C++ through a C interface")]

use std::ffi::c_char;
use std::ptr::{self, NonNull};

use tch::Tensor;
use torch_sys::C_tensor;

use super::calls::{Call, Keys};
use super::inputs::{Inputs, Sent, Slot, Stretches};
use super::kernel::Kernel;
use super::native::{TEXT, checked};
use crate::error::{Error, ErrorKind, Result};

/// As `W2sCall` of the C++ file.
#[repr(C)]
struct NativeCall {
    queries: *const C_tensor,
    keys: *const C_tensor,
    first_key: i64,
    num_keys: i64,
    query_bounds: *const C_tensor,
    key_bounds: *const C_tensor,
    query_bounds_here: *const i64,
    key_bounds_here: *const i64,
    num: i64,
    causal: i32,
    left: i64,
}

/// `W2sAttention` of the C++ file.
#[repr(C)]
struct NativeAttention {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn w2s_attention_new(
        calls: *const NativeCall,
        num: usize,
        kernel: i32,
        text: *mut c_char,
        size: usize,
    ) -> *mut NativeAttention;
    fn w2s_attention_drop(attention: *mut NativeAttention);
    fn w2s_attention_run(
        attention: *const NativeAttention,
        q: *const C_tensor,
        k: *const C_tensor,
        v: *const C_tensor,
        scale: f64,
        out: *mut *mut C_tensor,
        text: *mut c_char,
        size: usize,
    ) -> i32;
}

/// Calls whose numbers stand among the inputs of a pass.
#[derive(Debug)]
pub(super) struct PlacedCalls {
    calls: Vec<(Call, PlacedCall)>,
}

/// Where the numbers of a call stand.
#[derive(Debug)]
struct PlacedCall {
    queries: Option<Stretches>,
    keys: Option<Stretches>,
    query_bounds: Slot,
    key_bounds: Slot,
}

impl PlacedCalls {
    /// Returns the calls with their numbers among the inputs.
    pub(super) fn new(calls: Vec<Call>, inputs: &mut Inputs) -> Self {
        let place = |call: Call| {
            let queries =
                call.queries.as_ref().map(|rows| inputs.push_stretches(rows.iter().copied()));
            let keys = match &call.keys {
                Keys::Run { .. } => None,
                Keys::Slots(slots) => Some(inputs.push_stretches(slots.iter().copied())),
            };
            let query_bounds = inputs.push(call.query_bounds.iter().copied());
            let key_bounds = inputs.push(call.key_bounds.iter().copied());
            (call, PlacedCall { queries, keys, query_bounds, key_bounds })
        };
        Self { calls: calls.into_iter().map(place).collect() }
    }

    /// Returns attention by these calls on the device that the inputs were sent to.
    ///
    /// # Errors
    /// When the device has no room.
    pub(super) fn on(&self, sent: &Sent, kernel: Kernel) -> Result<Varlen> {
        let kernel = match kernel {
            Kernel::Flash => 0,
            Kernel::FlashForCpu | Kernel::Slices => 1,
            Kernel::Math => 2,
        };
        let i64s = |numbers: &[usize]| numbers.iter().map(|&n| n as i64).collect::<Vec<i64>>();
        let held: Vec<_> = self
            .calls
            .iter()
            .map(|(call, at)| {
                (
                    at.queries.as_ref().map(|rows| sent.stretched(rows)),
                    at.keys.as_ref().map(|slots| sent.stretched(slots)),
                    [sent.get_i32(&at.query_bounds), sent.get_i32(&at.key_bounds)],
                    [i64s(&call.query_bounds), i64s(&call.key_bounds)],
                )
            })
            .collect();
        let calls: Vec<NativeCall> = self
            .calls
            .iter()
            .zip(&held)
            .map(|((call, _), (queries, keys, bounds, bounds_here))| NativeCall {
                queries: queries.as_ref().map_or(ptr::null(), Tensor::as_ptr),
                keys: keys.as_ref().map_or(ptr::null(), Tensor::as_ptr),
                first_key: match call.keys {
                    Keys::Run { first, .. } => first as i64,
                    Keys::Slots(_) => 0,
                },
                num_keys: call.keys.len() as i64,
                query_bounds: bounds[0].as_ptr(),
                key_bounds: bounds[1].as_ptr(),
                query_bounds_here: bounds_here[0].as_ptr(),
                key_bounds_here: bounds_here[1].as_ptr(),
                num: call.query_bounds.len() as i64 - 1,
                causal: i32::from(call.causal),
                left: call.left.map_or(-1, |left| left as i64),
            })
            .collect();
        let mut text = [0; TEXT];
        // SAFETY: `calls` has as many calls as are said, whose tensors and numbers `held` keeps through
        // the call, `num + 1` numbers in each list of bounds; the callee copies what it keeps, and ends
        // its text with a NUL within the buffer of the size that is said.
        let made = unsafe {
            w2s_attention_new(calls.as_ptr(), calls.len(), kernel, text.as_mut_ptr(), TEXT)
        };
        match NonNull::new(made) {
            Some(attention) => Ok(Varlen { attention }),
            None => Err(checked(1, &text, "attention is not set up")
                .err()
                .unwrap_or_else(|| Error::new(ErrorKind::Internal, "attention is not set up"))),
        }
    }
}

/// Attention by calls, on a device.
#[derive(Debug)]
pub(super) struct Varlen {
    attention: NonNull<NativeAttention>,
}

impl Varlen {
    /// Returns attention of the pass, scores multiplied by `scale`; differentiable.
    ///
    /// # Shapes
    /// Queries and result `[L, N, H]`, keys and values `[S, K, H]`.
    ///
    /// # Panics
    /// When a kernel refuses or has no memory, as the operations of tch do.
    pub(super) fn attend(
        &self,
        scale: f64,
        q_lnh: &Tensor,
        k_skh: &Tensor,
        v_skh: &Tensor,
    ) -> Tensor {
        let (mut out, mut text) = (ptr::null_mut(), [0; TEXT]);
        // SAFETY: the tensors live through the call and `attention` until `self` is dropped; the callee
        // writes a tensor of its own if it returns 0, and otherwise a text that ends with a NUL within
        // the buffer of the size that is said.
        let status = unsafe {
            w2s_attention_run(
                self.attention.as_ptr(),
                q_lnh.as_ptr(),
                k_skh.as_ptr(),
                v_skh.as_ptr(),
                scale,
                &mut out,
                text.as_mut_ptr(),
                TEXT,
            )
        };
        if let Err(error) = checked(status, &text, "attention failed") {
            panic!("{error}");
        }
        // SAFETY: the callee gave a new tensor that nobody else owns.
        unsafe { Tensor::from_ptr(out) }
    }
}

impl Drop for Varlen {
    fn drop(&mut self) {
        // SAFETY: it came from `w2s_attention_new` and is dropped once. A graph that needs its calls
        // holds them itself.
        unsafe { w2s_attention_drop(self.attention.as_ptr()) }
    }
}
