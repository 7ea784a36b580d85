//! Which kernel computes attention.
//!
//! | device | number type | head size | kernel |
//! |---|---|---|---|
//! | CPU | all | all | libtorch's own for the CPU, over slices of what is seen ([`super::pieces`]) |
//! | GPU of compute capability 8.0 and later | bf16, f16 | multiples of 8 up to 256 | FlashAttention 2 |
//! | GPU | f32; bf16 and f16 elsewhere | all | products by parts, in f32 |
//!
//! FlashAttention is called with lengths in place of masks ([`super::calls`]) and takes grouped heads and
//! windows as they are. Memory-efficient attention would take f32, but neither grouped heads nor the
//! windows' calls as they are; f32 is for parity on a GPU, where products by parts are exact and held to
//! the same tests on the CPU.

use tch::{Device, Kind};

use super::native::compute_capability;

/// A kernel of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    /// libtorch's for the CPU, over slices of what is seen.
    Slices,
    /// FlashAttention on a GPU.
    Flash,
    /// libtorch's flash attention for the CPU, called as FlashAttention is: for what has no slices, and
    /// for tests of those calls.
    FlashForCpu,
    /// Products by parts in f32, on every device.
    Math,
}

/// Returns the name of the kernel that computes attention of a model on `device`: `slices` on the CPU,
/// `flash` or `math` on a GPU.
pub fn attention_kernel(device: Device, kind: Kind, head_dim: usize) -> &'static str {
    Kernel::of(device, kind, head_dim).name()
}

/// The least compute capability of FlashAttention.
const LEAST_CAPABILITY: (i32, i32) = (8, 0);
/// Its largest head.
const LARGEST_HEAD: usize = 256;
/// What its heads must be multiples of.
const HEAD_MULTIPLE: usize = 8;

impl Kernel {
    /// Returns the kernel for a model on `device`.
    pub(super) fn of(device: Device, kind: Kind, head_dim: usize) -> Self {
        match device {
            Device::Cuda(index) => Self::of_gpu(compute_capability(index), kind, head_dim),
            _ => Self::Slices,
        }
    }

    /// Returns the kernel of a GPU; one that does not tell its compute capability is taken for a new one,
    /// and says so itself if it is not.
    fn of_gpu(capability: Option<(i32, i32)>, kind: Kind, head_dim: usize) -> Self {
        let is_new = capability.is_none_or(|capability| capability >= LEAST_CAPABILITY);
        let is_half = matches!(kind, Kind::BFloat16 | Kind::Half);
        let fits = head_dim <= LARGEST_HEAD && head_dim.is_multiple_of(HEAD_MULTIPLE);
        if is_new && is_half && fits { Self::Flash } else { Self::Math }
    }

    /// Returns its name for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Slices => "slices",
            Self::Flash => "flash",
            Self::FlashForCpu => "flash for the CPU",
            Self::Math => "math",
        }
    }

    /// Returns whether it takes calls; otherwise what is seen is cut into slices.
    pub(super) fn takes_calls(self) -> bool {
        self != Self::Slices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flash_is_for_half_precision_on_new_gpus() {
        let (h200, ada, turing, volta) = ((9, 0), (8, 9), (7, 5), (7, 0));
        for (capability, kind, head, expected) in [
            (h200, Kind::BFloat16, 128, Kernel::Flash),
            (h200, Kind::BFloat16, 256, Kernel::Flash),
            (h200, Kind::Half, 64, Kernel::Flash),
            (ada, Kind::BFloat16, 80, Kernel::Flash),
            (ada, Kind::BFloat16, 256, Kernel::Flash),
            (h200, Kind::BFloat16, 264, Kernel::Math),
            (h200, Kind::BFloat16, 100, Kernel::Math),
            (h200, Kind::Float, 128, Kernel::Math),
            (turing, Kind::Half, 64, Kernel::Math),
            (volta, Kind::Half, 64, Kernel::Math),
        ] {
            let chosen = Kernel::of_gpu(Some(capability), kind, head);
            assert_eq!(chosen, expected, "{capability:?} {kind:?} {head}");
        }
        assert_eq!(Kernel::of_gpu(None, Kind::BFloat16, 128), Kernel::Flash);
        assert_eq!(Kernel::of(Device::Cpu, Kind::BFloat16, 128), Kernel::Slices);
    }
}
