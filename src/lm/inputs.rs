//! The whole numbers of a pass: token ids, positions, rows, and what attention sees. They are gathered
//! on the host and go to a device in one copy, which nothing waits for.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::native::copied;
use crate::error::Result;

/// Numbers that are gathered.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    values: Vec<i64>,
}

/// Where numbers stand among those of a pass.
pub(super) type Slot = Range<usize>;

impl Inputs {
    /// Adds numbers and returns where they stand.
    pub(super) fn push(&mut self, values: impl IntoIterator<Item = usize>) -> Slot {
        let begin = self.values.len();
        self.values.extend(values.into_iter().map(|value| value as i64));
        begin..self.values.len()
    }

    /// Returns the numbers on a device.
    ///
    /// # Errors
    /// When the device has no room.
    pub(super) fn on(&self, device: Device) -> Result<Sent> {
        let here = Tensor::f_from_slice(&self.values)?;
        Ok(Sent(if device == Device::Cpu { here } else { copied(&here, device)? }))
    }
}

/// The numbers of a pass on a device, i64.
#[derive(Debug)]
pub(super) struct Sent(Tensor);

impl Sent {
    /// Returns the numbers that stand at `slot`, as a view.
    pub(super) fn get(&self, slot: &Slot) -> Tensor {
        self.0.narrow(0, slot.start as i64, slot.len() as i64)
    }

    /// Returns the numbers that stand at `slot`, as i32.
    pub(super) fn get_i32(&self, slot: &Slot) -> Tensor {
        self.get(slot).to_kind(Kind::Int)
    }
}
