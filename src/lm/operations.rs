//! Operations of libtorch, counted while they run: what a GPU would launch, as far as the same operations
//! run on the CPU.

#![expect(unsafe_code, reason = "calls of C++ through a C interface")]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char};

unsafe extern "C" {
    fn w2s_operations_begin() -> u64;
    fn w2s_operations_end(handle: u64, allocations: *mut u64, text: *mut c_char, size: usize);
}

/// Bytes for the names of all operations.
const TEXT: usize = 1 << 16;

/// Operations that ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// How often each that computes ran, by its name in libtorch; those made of others not counted.
    pub by_name: BTreeMap<String, u64>,
    /// Tensors that memory was asked for.
    pub num_allocations: u64,
}

impl Operations {
    /// Returns what `work` returns, and the operations of this thread that it ran.
    pub fn of<T>(work: impl FnOnce() -> T) -> (T, Self) {
        struct Counting(u64);
        impl Drop for Counting {
            fn drop(&mut self) {
                finish(self.0);
            }
        }
        // SAFETY: no more than a call; it is ended once, below, whatever `work` does.
        let counting = Counting(unsafe { w2s_operations_begin() });
        let result = work();
        let handle = counting.0;
        std::mem::forget(counting);
        (result, finish(handle))
    }

    /// Returns how many ran.
    pub fn total(&self) -> u64 {
        self.by_name.values().sum()
    }
}

fn finish(handle: u64) -> Operations {
    let (mut num_allocations, mut text) = (0, vec![0; TEXT]);
    // SAFETY: the handle is of a count that was begun on this thread; the callee writes a number, and a
    // text that ends with a NUL into a buffer of the size that is said.
    let text = unsafe {
        w2s_operations_end(handle, &mut num_allocations, text.as_mut_ptr(), TEXT);
        CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned()
    };
    let by_name = text.lines().filter_map(|line| {
        let (name, num) = line.rsplit_once(' ')?;
        Some((name.to_owned(), num.parse().ok()?))
    });
    Operations { by_name: by_name.collect(), num_allocations }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;

    #[test]
    fn views_and_wrappers_are_not_counted() {
        let x = Tensor::ones([4, 6], (Kind::Float, Device::Cpu));
        let weight = Tensor::ones([2, 6], (Kind::Float, Device::Cpu));
        let (y, counted) = Operations::of(|| {
            let y = x.linear(&weight, None::<&Tensor>);
            y.view([2, 4]).transpose(0, 1).contiguous() + 1.0
        });
        assert_eq!(y.double_value(&[0, 0]), 7.0);
        let expected = [("aten::add", 1), ("aten::copy_", 1), ("aten::mm", 1)];
        let expected = expected.map(|(name, num)| (name.to_owned(), num)).into_iter().collect();
        assert_eq!(counted.by_name, expected);
        assert!(counted.num_allocations >= 1);
        // Nothing of what runs afterwards, nor of a count that was left by a panic.
        let left = std::panic::catch_unwind(|| Operations::of(|| panic!("left")));
        assert!(left.is_err());
        let _ = &x + 1.0;
        assert_eq!(Operations::of(|| ()).1, Operations::default());
    }
}
