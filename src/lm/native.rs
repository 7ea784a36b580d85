//! What tch does not tell or do about a device, by `src/native/device.cpp`.

#![expect(unsafe_code, reason = "calls of C++ through a C interface")]

use std::ffi::{CStr, c_char};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use tch::{Device, Tensor};
use torch_sys::C_tensor;

use crate::error::{Error, ErrorKind, Result};

/// Bytes of a message of C++.
pub(super) const TEXT: usize = 1024;

unsafe extern "C" {
    fn w2s_free_memory(device: i32, free: *mut u64, text: *mut c_char, size: usize) -> i32;
    fn w2s_empty_cache(text: *mut c_char, size: usize) -> i32;
    fn w2s_capability(
        device: i32,
        major: *mut i32,
        minor: *mut i32,
        text: *mut c_char,
        size: usize,
    ) -> i32;
    fn w2s_copied(
        from: *const C_tensor,
        device: i32,
        out: *mut *mut C_tensor,
        text: *mut c_char,
        size: usize,
    ) -> i32;
    fn w2s_set_deterministic(on: i32, text: *mut c_char, size: usize) -> i32;
    fn w2s_forbid_tf32(text: *mut c_char, size: usize) -> i32;
}

/// Returns the error of a status that is not 0: what failed, and the first line of the message.
pub(super) fn checked(status: i32, text: &[c_char; TEXT], what: &str) -> Result<()> {
    if status == 0 {
        return Ok(());
    }
    let bytes: Vec<u8> = text.iter().map(|&c| c as u8).collect();
    let message = CStr::from_bytes_until_nul(&bytes).map(CStr::to_string_lossy);
    let message = message.unwrap_or_default();
    let reason = message.lines().next().filter(|line| !line.is_empty());
    let reason = reason.unwrap_or("unknown failure");
    Err(Error::new(ErrorKind::Device, format!("{what}: {reason}")))
}

/// Returns what memory there is for new tensors of a GPU, in bytes; `None` of the CPU.
///
/// # Errors
/// [`ErrorKind::Device`] when it does not tell.
pub(super) fn free_memory(device: Device) -> Result<Option<u64>> {
    let Device::Cuda(n) = device else { return Ok(None) };
    let (mut free, mut text) = (0, [0; TEXT]);
    // SAFETY: the callee writes one number, and a text that ends with a NUL into a buffer of the size
    // that is said.
    let status = unsafe { w2s_free_memory(n as i32, &mut free, text.as_mut_ptr(), TEXT) };
    checked(status, &text, &format!("device `cuda:{n}` does not tell its memory"))?;
    Ok(Some(free))
}

/// Returns the memory that the fullest of several GPUs has for new tensors, in bytes; `None` of the
/// CPU, or where they do not tell.
pub(crate) fn working_memory(devices: impl Iterator<Item = Device>) -> Option<u64> {
    devices.filter_map(|device| free_memory(device).ok().flatten()).min()
}

/// Gives memory that is held and not used back to the GPU; nothing on the CPU.
///
/// # Errors
/// [`ErrorKind::Device`] when the device fails.
fn empty_cache(device: Device) -> Result<()> {
    if !device.is_cuda() {
        return Ok(());
    }
    let mut text = [0; TEXT];
    // SAFETY: the callee writes a text that ends with a NUL into a buffer of the size that is said.
    let status = unsafe { w2s_empty_cache(text.as_mut_ptr(), TEXT) };
    checked(status, &text, "the device does not give memory back")
}

/// Makes what memory there is whole, after it ran out in pieces.
///
/// # Errors
/// [`ErrorKind::Device`] when a device fails.
pub(crate) fn gather_memory(devices: impl Iterator<Item = Device>) -> Result<()> {
    devices.filter(|device| device.is_cuda()).try_for_each(empty_cache)
}

/// Returns major and minor compute capability of a GPU; `None` if it does not tell.
pub(super) fn compute_capability(index: usize) -> Option<(i32, i32)> {
    let (mut major, mut minor, mut text) = (0, 0, [0; TEXT]);
    // SAFETY: the callee writes two numbers, and a text that ends with a NUL into a buffer of the size
    // that is said.
    let status =
        unsafe { w2s_capability(index as i32, &mut major, &mut minor, text.as_mut_ptr(), TEXT) };
    (status == 0).then_some((major, minor))
}

/// Bytes from which a copy counts as large.
pub(super) const LARGE_COPY: usize = 64 << 10;
static COPIES: AtomicU64 = AtomicU64::new(0);
static LARGE_COPIES: AtomicU64 = AtomicU64::new(0);

/// Returns how many copies to the devices of models this process has made, and how many of these were
/// larger than 64 KiB.
pub fn host_copies() -> (u64, u64) {
    (COPIES.load(Ordering::Relaxed), LARGE_COPIES.load(Ordering::Relaxed))
}

/// Returns a tensor of the CPU on another device; the program does not wait for the copy.
///
/// # Errors
/// When the device has no room.
pub(super) fn copied(from: &Tensor, device: Device) -> Result<Tensor> {
    let num_bytes = from.numel() * from.kind().elt_size_in_bytes();
    COPIES.fetch_add(1, Ordering::Relaxed);
    LARGE_COPIES.fetch_add(u64::from(num_bytes > LARGE_COPY), Ordering::Relaxed);
    let Device::Cuda(n) = device else { return Ok(from.shallow_clone()) };
    let (mut out, mut text) = (ptr::null_mut(), [0; TEXT]);
    // SAFETY: the tensor lives through the call; the callee writes a tensor of its own if it returns 0,
    // and otherwise a text that ends with a NUL within the buffer of the size that is said.
    let status = unsafe { w2s_copied(from.as_ptr(), n as i32, &mut out, text.as_mut_ptr(), TEXT) };
    checked(status, &text, &format!("cannot copy to device `cuda:{n}`"))?;
    // SAFETY: the callee gave a new tensor that nobody else owns.
    Ok(unsafe { Tensor::from_ptr(out) })
}

/// While it lives, operations of a GPU give the same bytes whenever they are repeated, where they have
/// such a form; those of the CPU always do.
#[derive(Debug)]
pub(crate) struct Deterministic {
    is_on: bool,
}

impl Deterministic {
    /// Returns it for work on `device`: where CUDA's products can repeat, as [`repeats_to_the_byte`] says.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when libtorch refuses.
    pub(crate) fn on(device: Device) -> Result<Self> {
        let is_on = device.is_cuda() && repeats_to_the_byte();
        if is_on {
            set_deterministic(true)?;
        }
        Ok(Self { is_on })
    }
}

impl Drop for Deterministic {
    fn drop(&mut self) {
        if self.is_on {
            // Slower is all that work may be when it stays so.
            let _ = set_deterministic(false);
        }
    }
}

/// Returns whether a training on a GPU can be repeated to the byte: the environment must have told CUDA
/// so before it was loaded, as [`settle_environment`](super::settle_environment) sees to.
pub(crate) fn repeats_to_the_byte() -> bool {
    is_fixed(std::env::var("CUBLAS_WORKSPACE_CONFIG").as_deref().unwrap_or_default())
}

/// Whether products have workspaces of a size with which CUDA promises that they repeat.
fn is_fixed(workspaces: &str) -> bool {
    [":4096:8", ":16:8"].contains(&workspaces)
}

fn set_deterministic(on: bool) -> Result<()> {
    let mut text = [0; TEXT];
    // SAFETY: the callee writes a text that ends with a NUL into a buffer of the size that is said.
    let status = unsafe { w2s_set_deterministic(i32::from(on), text.as_mut_ptr(), TEXT) };
    checked(status, &text, "libtorch does not become deterministic")
}

/// Keeps products in f32 from being made in TF32.
///
/// # Errors
/// [`ErrorKind::Device`] when libtorch refuses.
pub(super) fn forbid_tf32() -> Result<()> {
    let mut text = [0; TEXT];
    // SAFETY: the callee writes a text that ends with a NUL into a buffer of the size that is said.
    let status = unsafe { w2s_forbid_tf32(text.as_mut_ptr(), TEXT) };
    checked(status, &text, "libtorch does not leave TF32")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_repeat_with_the_workspaces_that_cuda_names() {
        assert!(is_fixed(":4096:8") && is_fixed(":16:8"));
        assert!(!is_fixed("") && !is_fixed(":0:0"));
    }

    #[test]
    fn messages_of_the_native_part_become_errors() {
        let mut text = [0; TEXT];
        for (to, from) in text.iter_mut().zip(b"no driver\nstack trace") {
            *to = *from as c_char;
        }
        assert!(checked(0, &text, "it failed").is_ok());
        let error = checked(1, &text, "it failed").unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Device, "it failed: no driver"));
        // Without CUDA they say so and do not end the program.
        assert!(free_memory(Device::Cuda(0)).is_err());
        assert_eq!(working_memory([Device::Cuda(0), Device::Cpu].into_iter()), None);
        assert_eq!(free_memory(Device::Cpu).unwrap(), None);
        assert!(gather_memory([Device::Cpu].into_iter()).is_ok());
        let numbers = Tensor::from_slice(&[1_i64, 2]);
        assert!(copied(&numbers, Device::Cuda(0)).is_err());
        assert_eq!(copied(&numbers, Device::Cpu).unwrap(), numbers);
        // What they are anyway.
        forbid_tf32().unwrap();
        set_deterministic(false).unwrap();
    }
}
