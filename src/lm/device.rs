//! Which device and number type a model runs in; opens the CUDA half of libtorch where there is one.

use std::ffi::CStr;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use serde::{Serialize, Serializer};
use tch::{Device, Kind};

use super::native::forbid_tf32;
use crate::error::{Error, ErrorKind, Result};

/// The device a user asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA where it works, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// One CUDA device.
    Cuda(usize),
    /// All CUDA devices of the machine, the layers spread over them.
    All,
    /// These devices in this order, the layers spread over them.
    Spread(Vec<Device>),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = |text: &str| match text.trim() {
            "cpu" => Some(Device::Cpu),
            "cuda" => Some(Device::Cuda(0)),
            text => text.strip_prefix("cuda:")?.parse().ok().map(Device::Cuda),
        };
        let devices: Option<Vec<Device>> = text.split(',').map(one).collect();
        match (text, devices.as_deref()) {
            ("auto", _) => Ok(Self::Auto),
            ("all", _) => Ok(Self::All),
            (_, Some([Device::Cuda(n)])) => Ok(Self::Cuda(*n)),
            (_, Some([_])) => Ok(Self::Cpu),
            (_, Some(several)) => Ok(Self::Spread(several.to_vec())),
            (_, None) => Err("expected `auto`, `cpu`, `cuda`, `cuda:N`, `all`, or a list such as `cuda:0,cuda:1`".to_owned()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
            Self::All => f.write_str("all"),
            Self::Spread(devices) => {
                let names: Vec<String> = devices.iter().copied().map(name).collect();
                f.write_str(&names.join(","))
            }
        }
    }
}

impl Serialize for DeviceChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where a model runs: a device, or several over which its layers are spread in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Devices {
    first: Device,
    all: Vec<Device>,
}

impl Devices {
    /// Returns the device of the first layers.
    pub fn first(&self) -> Device {
        self.first
    }

    /// Returns all of them; never none.
    pub fn all(&self) -> &[Device] {
        &self.all
    }

    /// Returns whether there are several.
    pub fn are_several(&self) -> bool {
        self.all.len() > 1
    }
}

impl From<Device> for Devices {
    fn from(device: Device) -> Self {
        Self { first: device, all: vec![device] }
    }
}

/// The number type a user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DtypeChoice {
    /// bf16 on CUDA and on processors that multiply it ([`cpu_has_bf16`]), else f32.
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
            "f32" | "fp32" | "float32" => Ok(Self::F32),
            "bf16" | "bfloat16" => Ok(Self::Bf16),
            "f16" | "fp16" | "float16" => Ok(Self::F16),
            _ => Err("expected `auto`, `f32` (fp32, float32), `bf16` (bfloat16) or `f16` (fp16, float16)"
                .to_owned()),
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

impl Serialize for DtypeChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Returns the devices and number type that the choices come to on this machine.
///
/// Must run before any other use of libtorch in the process: libtorch remembers for good whether it
/// found its CUDA half.
///
/// # Errors
/// [`ErrorKind::Device`] when CUDA is asked for and cannot be used; says why.
/// [`ErrorKind::Usage`] for a list of CPU and GPU.
pub fn resolve(device: &DeviceChoice, dtype: DtypeChoice) -> Result<(Devices, Kind)> {
    let devices = match device {
        DeviceChoice::Cpu => Device::Cpu.into(),
        DeviceChoice::Auto => match open_cuda() {
            Ok(()) if tch::Cuda::is_available() => Device::Cuda(0).into(),
            _ => Device::Cpu.into(),
        },
        DeviceChoice::Cuda(n) => cuda(*n)?.into(),
        DeviceChoice::All => {
            let first = cuda(0)?;
            let all = (0..tch::Cuda::device_count() as usize).map(Device::Cuda).collect();
            Devices { first, all }
        }
        DeviceChoice::Spread(list) => {
            let num_gpus = list.iter().filter(|device| device.is_cuda()).count();
            if (1..list.len()).contains(&num_gpus) {
                return Err(Error::new(
                    ErrorKind::Usage,
                    format!("`--device {device}` spreads a model over CPU and GPU"),
                )
                .hint("most of the time would go to the layers on the CPU; name GPUs only, or use a smaller `--dtype`"));
            }
            for device in list {
                if let Device::Cuda(n) = device {
                    cuda(*n)?;
                }
            }
            let first = list.first().copied().unwrap_or(Device::Cpu);
            Devices { first, all: list.clone() }
        }
    };
    if devices.first().is_cuda() {
        // Products in f32 are asked for where they must be exact.
        forbid_tf32()?;
    }
    let kind = match (dtype, devices.first()) {
        (DtypeChoice::Auto, Device::Cpu) if !cpu_has_bf16() => Kind::Float,
        (DtypeChoice::F32, _) => Kind::Float,
        (DtypeChoice::Bf16 | DtypeChoice::Auto, _) => Kind::BFloat16,
        (DtypeChoice::F16, _) => Kind::Half,
    };
    Ok((devices, kind))
}

/// Returns whether libtorch multiplies bfloat16 by instructions of this processor: AVX512_BF16, which
/// all that have AMX_BF16 have too. Elsewhere bf16 is converted on the way and slower than f32.
///
/// `ATEN_CPU_CAPABILITY` and `ONEDNN_MAX_CPU_ISA`, by which a user takes instructions from libtorch, are
/// heeded.
///
/// On two cores with AMX, products of 512 rows run 4.8 to 6.9 times as fast as in f32, of 8 rows 3.8
/// times.
pub fn cpu_has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    let has = false;
    let limit = |name: &str| std::env::var(name).unwrap_or_default();
    has && allow_bf16(&limit("ATEN_CPU_CAPABILITY"), &limit("ONEDNN_MAX_CPU_ISA"))
}

/// Whether the limits that a user sets libtorch leave it its products in bf16.
fn allow_bf16(aten: &str, onednn: &str) -> bool {
    let aten = matches!(aten.to_ascii_lowercase().as_str(), "" | "avx512");
    let onednn = onednn.to_ascii_lowercase();
    aten && (["", "default", "all"].contains(&onednn.as_str())
        || ["bf16", "fp16", "amx", "avx10"].iter().any(|part| onednn.contains(part)))
}

/// Returns the CUDA device of this number, if it can be used.
fn cuda(n: usize) -> Result<Device> {
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
        return Err(Error::new(ErrorKind::Device, format!("device `cuda:{n}` does not exist"))
            .hint(format!("this machine has {count}, numbered from 0")));
    }
    Ok(Device::Cuda(n))
}

/// The name by which a user asks for a device.
pub(super) fn name(device: Device) -> String {
    match device {
        Device::Cuda(n) => format!("cuda:{n}"),
        _ => "cpu".to_owned(),
    }
}

/// Opens `libtorch_cuda.so`, once. The program links the CPU part only, so that one binary serves
/// machines with and without CUDA.
fn open_cuda() -> Result<(), String> {
    static OPENED: OnceLock<Result<(), String>> = OnceLock::new();
    OPENED.get_or_init(|| dlopen(c"libtorch_cuda.so")).clone()
}

#[expect(unsafe_code, reason = "loading a shared library by name")]
fn dlopen(name: &CStr) -> Result<(), String> {
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
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    };
    Err(reason)
}

#[cfg(test)]
mod tests {
    use super::allow_bf16;

    #[test]
    fn limits_of_libtorch_are_heeded() {
        for (aten, onednn) in
            [("", ""), ("avx512", "ALL"), ("", "AVX512_CORE_BF16"), ("AVX512", "avx512_core_amx")]
        {
            assert!(allow_bf16(aten, onednn), "{aten} {onednn}");
        }
        for (aten, onednn) in
            [("avx2", ""), ("default", ""), ("", "AVX2"), ("", "AVX512_CORE"), ("avx512", "sse41")]
        {
            assert!(!allow_bf16(aten, onednn), "{aten} {onednn}");
        }
    }
}
