//! Which device and number type a model runs in; opens the CUDA half of libtorch where there is one.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use tch::{Device, Kind};

use crate::error::{Error, ErrorKind, Result};

/// The device a user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA where it works, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// One CUDA device.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|n| n.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| "expected `auto`, `cpu`, `cuda` or `cuda:N`".to_owned()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

/// The number type a user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DtypeChoice {
    /// f32 on the CPU, bf16 on CUDA.
    #[default]
    Auto,
    /// 32-bit float.
    F32,
    /// bfloat16.
    Bf16,
    /// 16-bit float.
    F16,
}

impl FromStr for DtypeChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "f32" | "float32" => Ok(Self::F32),
            "bf16" | "bfloat16" => Ok(Self::Bf16),
            "f16" | "float16" => Ok(Self::F16),
            _ => Err("expected `auto`, `f32`, `bf16` or `f16`".to_owned()),
        }
    }
}

impl fmt::Display for DtypeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}

/// Returns the device and number type that the choices come to on this machine.
///
/// Must run before any other use of libtorch in the process: libtorch remembers for good whether it
/// found its CUDA half.
///
/// # Errors
/// [`ErrorKind::Device`] when CUDA is asked for and cannot be used; says why.
pub fn resolve(device: DeviceChoice, dtype: DtypeChoice) -> Result<(Device, Kind)> {
    let device = match device {
        DeviceChoice::Cpu => Device::Cpu,
        DeviceChoice::Auto => match open_cuda() {
            Ok(()) if tch::Cuda::is_available() => Device::Cuda(0),
            _ => Device::Cpu,
        },
        DeviceChoice::Cuda(n) => {
            open_cuda().map_err(|reason| {
                Error::new(ErrorKind::Device, format!("CUDA cannot be used: {reason}")).hint(
                    "the staged libtorch is the CPU part; set W2S_TORCH to a full torch 2.11 and run scripts/setup, or start with LD_LIBRARY_PATH=.../torch/lib",
                )
            })?;
            if !tch::Cuda::is_available() {
                return Err(Error::new(
                    ErrorKind::Device,
                    "CUDA cannot be used: its library is here, but no working driver or GPU",
                )
                .hint("check `nvidia-smi`, or use `--device cpu`"));
            }
            let count = tch::Cuda::device_count() as usize;
            if n >= count {
                return Err(Error::new(
                    ErrorKind::Device,
                    format!("device `cuda:{n}` does not exist"),
                )
                .hint(format!("this machine has {count}, numbered from 0")));
            }
            Device::Cuda(n)
        }
    };
    let kind = match (dtype, device) {
        (DtypeChoice::F32, _) | (DtypeChoice::Auto, Device::Cpu) => Kind::Float,
        (DtypeChoice::Bf16, _) | (DtypeChoice::Auto, _) => Kind::BFloat16,
        (DtypeChoice::F16, _) => Kind::Half,
    };
    Ok((device, kind))
}

/// Opens `libtorch_cuda.so`, once. The program links the CPU part only, so that one binary serves
/// machines with and without CUDA.
fn open_cuda() -> Result<(), String> {
    static OPENED: OnceLock<Result<(), String>> = OnceLock::new();
    OPENED.get_or_init(|| dlopen(c"libtorch_cuda.so")).clone()
}

#[expect(unsafe_code, reason = "loading a shared library by name")]
fn dlopen(name: &std::ffi::CStr) -> Result<(), String> {
    // SAFETY: the name is a valid C string; the library's initialisers are libtorch's own and are
    // meant to be run by a plain load. The handle is kept for the life of the process on purpose.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: after a failed dlopen, dlerror returns a valid C string or null.
    let reason = unsafe {
        let text = libc::dlerror();
        if text.is_null() {
            "unknown reason".to_owned()
        } else {
            std::ffi::CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    };
    Err(reason)
}
