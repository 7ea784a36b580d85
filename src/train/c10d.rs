//! PyTorch's c10d and NCCL by `src/native`: the one place where Rust calls them.

#![expect(unsafe_code, reason = "calls of C++ through a C interface")]

use std::ffi::{CStr, CString, c_char};
use std::net::TcpListener;
use std::os::fd::IntoRawFd;
use std::time::Duration;

use tch::{Device, Tensor};

/// Most bytes of a message of C++.
const MESSAGE_BYTES: usize = 2048;

/// As `W2sSeat` of the C++ file.
#[repr(C)]
struct CProcess {
    rank: i32,
    size: i32,
    host: *const c_char,
    port: u16,
    listener: i32,
    prefix: *const c_char,
    devices: *const c_char,
    join_ms: i64,
    peer_ms: i64,
}

#[repr(C)]
struct CGroup {
    _opaque: [u8; 0],
}

#[repr(C)]
struct CNccl {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn w2s_group_join(process: *const CProcess, text: *mut c_char, size: usize) -> *mut CGroup;
    fn w2s_group_sum(
        group: *mut CGroup,
        tensor: *mut torch_sys::C_tensor,
        text: *mut c_char,
        size: usize,
    ) -> i32;
    fn w2s_group_broadcast(
        group: *mut CGroup,
        tensor: *mut torch_sys::C_tensor,
        root: i32,
        text: *mut c_char,
        size: usize,
    ) -> i32;
    fn w2s_group_leave(group: *mut CGroup);
    fn w2s_nccl_open(name: *const c_char, text: *mut c_char, size: usize) -> *mut CNccl;
    fn w2s_nccl_id(nccl: *mut CNccl, id: *mut u8, text: *mut c_char, size: usize) -> i32;
    fn w2s_nccl_join(
        nccl: *mut CNccl,
        id: *const u8,
        rank: i32,
        num: i32,
        device: i32,
        timeout_ms: i64,
        text: *mut c_char,
        size: usize,
    ) -> i32;
    fn w2s_nccl_sum(
        nccl: *mut CNccl,
        tensor: *mut torch_sys::C_tensor,
        text: *mut c_char,
        size: usize,
    ) -> i32;
    fn w2s_nccl_leave(nccl: *mut CNccl);
}

/// Where a process joins a group.
pub(super) struct Joining<'a> {
    pub(super) rank: usize,
    pub(super) size: usize,
    pub(super) host: &'a str,
    pub(super) port: u16,
    /// The socket of the store, in the process that has it.
    pub(super) listener: Option<TcpListener>,
    pub(super) prefix: &'a str,
    pub(super) devices: &'a str,
    pub(super) join: Duration,
    pub(super) peer: Duration,
}

/// A group of processes on Gloo. Its calls are collective: every rank makes them in one order.
#[derive(Debug)]
pub(super) struct ProcessGroup(*mut CGroup);

impl ProcessGroup {
    /// Waits for the others and returns the group.
    pub(super) fn join(joining: Joining<'_>) -> Result<Self, String> {
        let c_string = |text: &str| CString::new(text).map_err(|_| "a NUL in a name".to_owned());
        let host = c_string(joining.host)?;
        let prefix = c_string(joining.prefix)?;
        let devices = c_string(joining.devices)?;
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let process = CProcess {
            rank: joining.rank as i32,
            size: joining.size as i32,
            host: host.as_ptr(),
            port: joining.port,
            listener: joining.listener.map_or(-1, IntoRawFd::into_raw_fd),
            prefix: prefix.as_ptr(),
            devices: devices.as_ptr(),
            join_ms: millis(joining.join),
            peer_ms: millis(joining.peer),
        };
        let mut text = [0; MESSAGE_BYTES];
        // SAFETY: the process and its strings live through the call, which copies what it keeps; the
        // buffer has the size that is said. The socket belongs to the callee from here on.
        let group = unsafe { w2s_group_join(&process, text.as_mut_ptr(), text.len()) };
        if group.is_null() { Err(message(&text)) } else { Ok(Self(group)) }
    }

    /// Puts the sum over all ranks in the tensor's place.
    pub(super) fn sum(&self, tensor: &mut Tensor) -> Result<(), String> {
        check(tensor)?;
        let mut text = [0; MESSAGE_BYTES];
        // SAFETY: the group is alive until `drop`; the tensor is borrowed for the whole call, which
        // waits for the work to end or fail; the buffer has the size that is said.
        let status =
            unsafe { w2s_group_sum(self.0, tensor.as_mut_ptr(), text.as_mut_ptr(), text.len()) };
        if status == 0 { Ok(()) } else { Err(message(&text)) }
    }

    /// Puts rank `root`'s numbers in the tensor's place.
    pub(super) fn broadcast(&self, tensor: &mut Tensor, root: usize) -> Result<(), String> {
        check(tensor)?;
        let mut text = [0; MESSAGE_BYTES];
        // SAFETY: as in `sum`.
        let status = unsafe {
            w2s_group_broadcast(
                self.0,
                tensor.as_mut_ptr(),
                root as i32,
                text.as_mut_ptr(),
                text.len(),
            )
        };
        if status == 0 { Ok(()) } else { Err(message(&text)) }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // SAFETY: the pointer is from `w2s_group_join` and is not used again.
        unsafe { w2s_group_leave(self.0) }
    }
}

/// By which the processes of a group of GPUs know each other.
pub(super) type NcclId = [u8; 128];

/// Sums on GPUs. Joining and summing are collective, as those of [`ProcessGroup`].
#[derive(Debug)]
pub(super) struct Nccl(*mut CNccl);

impl Nccl {
    /// Returns NCCL from a shared library, in no group yet.
    pub(super) fn open(library: &CStr) -> Result<Self, String> {
        let mut text = [0; MESSAGE_BYTES];
        // SAFETY: the name is a C string and the buffer has the size that is said. What is loaded is
        // NCCL, whose initialisers are meant to be run by a plain load.
        let nccl = unsafe { w2s_nccl_open(library.as_ptr(), text.as_mut_ptr(), text.len()) };
        if nccl.is_null() { Err(message(&text)) } else { Ok(Self(nccl)) }
    }

    /// Returns the name of a new group.
    pub(super) fn id(&self) -> Result<NcclId, String> {
        let (mut id, mut text) = ([0; 128], [0; MESSAGE_BYTES]);
        // SAFETY: NCCL is alive until `drop`, the callee writes 128 bytes of id, and the buffer has
        // the size that is said.
        let status = unsafe { w2s_nccl_id(self.0, id.as_mut_ptr(), text.as_mut_ptr(), text.len()) };
        if status == 0 { Ok(id) } else { Err(message(&text)) }
    }

    /// Joins the group `id` as `rank` of `size` with a GPU of this machine.
    pub(super) fn join(
        &self,
        id: &NcclId,
        (rank, size): (usize, usize),
        gpu: usize,
        timeout: Duration,
    ) -> Result<(), String> {
        let mut text = [0; MESSAGE_BYTES];
        let millis = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        // SAFETY: as in `id`; the callee reads 128 bytes of id.
        let status = unsafe {
            w2s_nccl_join(
                self.0,
                id.as_ptr(),
                rank as i32,
                size as i32,
                gpu as i32,
                millis,
                text.as_mut_ptr(),
                text.len(),
            )
        };
        if status == 0 { Ok(()) } else { Err(message(&text)) }
    }

    /// Puts the sum over all ranks in the tensor's place, f32 on the group's GPU.
    pub(super) fn sum(&self, tensor: &mut Tensor) -> Result<(), String> {
        let mut text = [0; MESSAGE_BYTES];
        // SAFETY: NCCL is alive until `drop`; the tensor is borrowed for the whole call, which waits
        // for the sum or stops it; the buffer has the size that is said.
        let status =
            unsafe { w2s_nccl_sum(self.0, tensor.as_mut_ptr(), text.as_mut_ptr(), text.len()) };
        if status == 0 { Ok(()) } else { Err(message(&text)) }
    }
}

impl Drop for Nccl {
    fn drop(&mut self) {
        // SAFETY: the pointer is from `w2s_nccl_open` and is not used again.
        unsafe { w2s_nccl_leave(self.0) }
    }
}

/// Gloo takes raw memory, so other strides or another place would give wrong numbers or none.
fn check(tensor: &Tensor) -> Result<(), String> {
    if tensor.device() == Device::Cpu && tensor.is_contiguous() {
        return Ok(());
    }
    Err("expected a contiguous tensor on the CPU".to_owned())
}

/// The first line of a message of C++, which ends in a NUL.
fn message(text: &[c_char]) -> String {
    // SAFETY: the callee ends its message with a NUL within the buffer.
    let text = unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy();
    text.lines().next().unwrap_or("unknown failure").to_owned()
}
