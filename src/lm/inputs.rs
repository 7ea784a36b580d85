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

/// Where numbers stand that are mostly one more than the one before: as the stretches in which they are.
#[derive(Debug)]
pub(super) struct Stretches {
    /// Of each stretch its first number less its place among all.
    offsets: Slot,
    lens: Slot,
    num: usize,
}

impl Inputs {
    /// Adds numbers and returns where they stand.
    pub(super) fn push(&mut self, values: impl IntoIterator<Item = usize>) -> Slot {
        self.push_signed(values.into_iter().map(|value| value as i64))
    }

    fn push_signed(&mut self, values: impl IntoIterator<Item = i64>) -> Slot {
        let begin = self.values.len();
        self.values.extend(values);
        begin..self.values.len()
    }

    /// Adds numbers by their stretches, two numbers for each, and returns where these stand.
    pub(super) fn push_stretches(&mut self, values: impl IntoIterator<Item = usize>) -> Stretches {
        let (mut offsets, mut lens): (Vec<i64>, Vec<i64>) = (Vec::new(), Vec::new());
        let mut num = 0;
        for (place, value) in values.into_iter().enumerate() {
            let offset = value as i64 - place as i64;
            match (offsets.last(), lens.last_mut()) {
                (Some(last), Some(len)) if *last == offset => *len += 1,
                _ => {
                    offsets.push(offset);
                    lens.push(1);
                }
            }
            num = place + 1;
        }
        Stretches { offsets: self.push_signed(offsets), lens: self.push_signed(lens), num }
    }

    /// Returns the numbers on a device.
    ///
    /// # Errors
    /// When the device has no room.
    pub(super) fn on(&self, device: Device) -> Result<Sent> {
        Ok(Sent(copied(&Tensor::f_from_slice(&self.values)?, device)?))
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

    /// Returns the numbers of stretches, made on the device.
    pub(super) fn stretched(&self, stretches: &Stretches) -> Tensor {
        let Stretches { offsets, lens, num } = stretches;
        // The number is told, as reading it from the device would wait.
        let offsets =
            self.get(offsets).repeat_interleave_self_tensor(&self.get(lens), 0, Some(*num as i64));
        offsets + Tensor::arange(*num as i64, (Kind::Int64, self.0.device()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_give_what_they_were_made_of() {
        let mut inputs = Inputs::default();
        let plain = inputs.push([7, 9]);
        let values = [5, 6, 7, 2, 3, 3, 100, 0, 1];
        let stretches = inputs.push_stretches(values);
        let last = inputs.push([4]);
        // Five stretches of two numbers each.
        assert_eq!(inputs.values.len(), 2 + 2 * 5 + 1);
        let sent = inputs.on(Device::Cpu).unwrap();
        let found: Vec<i64> = Vec::try_from(sent.stretched(&stretches)).unwrap();
        assert_eq!(found, values.map(|value| value as i64));
        assert_eq!(Vec::<i64>::try_from(sent.get(&plain)).unwrap(), [7, 9]);
        assert_eq!(Vec::<i32>::try_from(sent.get_i32(&last)).unwrap(), [4]);
        let none = Inputs::default().push_stretches([]);
        assert_eq!((none.num, none.lens.len()), (0, 0));
    }
}
