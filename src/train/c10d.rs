//! PyTorch's c10d by `src/native/group.cpp`: the one place where Rust calls it.

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
struct CSeat {
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

unsafe extern "C" {
    fn w2s_group_join(seat: *const CSeat, text: *mut c_char, size: usize) -> *mut CGroup;
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
        let seat = CSeat {
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
        // SAFETY: the seat and its strings live through the call, which copies what it keeps; the
        // buffer has the size that is said. The socket belongs to the callee from here on.
        let group = unsafe { w2s_group_join(&seat, text.as_mut_ptr(), text.len()) };
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
