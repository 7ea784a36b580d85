//! Several processes that make one training: sums over all of them, and one end for all.
//!
//! Every process makes the same steps in the same order; it runs its share of the units of a batch,
//! and loss and gradient are summed, not averaged, because each term is divided by what belongs to
//! the whole batch. A failure of one becomes a failure of all at the next sum.

use std::time::Duration;

use tch::{Device, Tensor};

use super::c10d::{Joining, ProcessGroup};
use super::optimizer::Parameter;
use super::seat::{Seat, group};
use crate::error::{Error, ErrorKind, Result};

/// Most numbers of gradients that are summed at once; as much memory is taken for them once more.
const BUCKET_ELEMENTS: usize = 1 << 24;

/// How long a process waits for others.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until all have joined.
    pub join: Duration,
    /// Until all have come to a sum.
    pub peer: Duration,
}

/// The processes of a training; of one process it does nothing.
#[derive(Debug)]
pub struct Group {
    rank: usize,
    size: usize,
    patience: Duration,
    members: Option<ProcessGroup>,
}

/// What a rank says of itself beside its part of a sum.
const NUMERIC: f64 = 2.0;
const OTHER: f64 = 1.0;

impl Group {
    /// Returns the group of a process by itself.
    pub fn alone() -> Self {
        Self { rank: 0, size: 1, patience: Duration::ZERO, members: None }
    }

    /// Returns the group that has a seat for this process, when all have joined.
    ///
    /// Must not run before [`resolve_device`](crate::lm::resolve_device), as any use of libtorch.
    ///
    /// # Errors
    /// [`ErrorKind::Group`] when the others are not found in time.
    pub fn join(seat: &Seat, patience: Patience) -> Result<Self> {
        let addresses = seat.addresses()?;
        let meets_on_loopback = addresses[0].ip().is_loopback();
        let listener = if seat.rank == 0 && !seat.store_is_there {
            Some(seat.listen(&addresses)?)
        } else {
            seat.reach(&addresses, patience.join)?;
            None
        };
        let devices = if !seat.interfaces.is_empty() {
            let names = seat.interfaces.split(',').map(|name| format!("if:{}", name.trim()));
            names.collect::<Vec<_>>().join(",")
        } else if meets_on_loopback {
            addresses[0].ip().to_string()
        } else {
            String::new()
        };
        let host =
            if meets_on_loopback { addresses[0].ip().to_string() } else { seat.host.clone() };
        let members = ProcessGroup::join(Joining {
            rank: seat.rank,
            size: seat.size,
            host: &host,
            port: seat.port,
            listener,
            prefix: &seat.prefix,
            devices: &devices,
            join: patience.join,
            peer: patience.peer,
        })
        .map_err(|reason| {
            group(format!(
                "the {} processes did not find each other within {:.0} s: {reason}",
                seat.size,
                patience.join.as_secs_f64()
            ))
            .hint("start all of them with the same WORLD_SIZE, MASTER_ADDR and MASTER_PORT and each with its own RANK; GLOO_SOCKET_IFNAME names the network to use")
        })?;
        let (rank, size) = (seat.rank, seat.size);
        Ok(Self { rank, size, patience: patience.peer, members: Some(members) })
    }

    /// Returns this process's number.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Returns the number of processes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Returns whether this process writes the run's files and messages.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// Returns what `local` is, unless another process failed.
    ///
    /// # Errors
    /// The own failure, or one of [`ErrorKind::Numeric`] or [`ErrorKind::Group`] that says what
    /// another's was.
    pub fn agree<T>(&self, local: Result<T>) -> Result<T> {
        match local {
            Ok(value) => self.sum(Ok(Vec::new()), 0).map(|_| value),
            Err(error) => match self.sum(Err(error), 0) {
                Err(error) => Err(error),
                Ok(_) => Err(Error::new(ErrorKind::Internal, "a failure was not seen")),
            },
        }
    }

    /// Returns the sums of the `num` values that each process has.
    ///
    /// # Errors
    /// As [`agree`](Self::agree).
    pub fn sum(&self, local: Result<Vec<f64>>, num: usize) -> Result<Vec<f64>> {
        let Some(members) = &self.members else { return local };
        let mut row = vec![0.0; num + self.size];
        match &local {
            Ok(values) => row[..num].copy_from_slice(values),
            Err(error) => {
                let is_numeric = error.kind() == ErrorKind::Numeric;
                row[num + self.rank] = if is_numeric { NUMERIC } else { OTHER };
            }
        }
        let mut sums = Tensor::from_slice(&row);
        if let Err(reason) = members.sum(&mut sums) {
            // What went wrong here first is the better news.
            return Err(local.err().unwrap_or_else(|| self.lost(&reason)));
        }
        let row = Vec::<f64>::try_from(&sums)?;
        let Some(failed) = row[num..].iter().position(|status| *status > 0.0) else {
            return Ok(row[..num].to_vec());
        };
        let own = local.as_ref().err().map(|error| error.message().to_owned());
        let text = self.text(failed, own.as_deref().unwrap_or_default());
        let kind = if row[num + failed] == NUMERIC { ErrorKind::Numeric } else { ErrorKind::Group };
        Err(match local {
            Err(own) => own,
            Ok(_) => Error::new(kind, format!("ended by rank {failed}: {}", text?)),
        })
    }

    /// Returns the text that rank `from` has.
    ///
    /// # Errors
    /// [`ErrorKind::Group`] when a process is gone.
    pub fn text(&self, from: usize, own: &str) -> Result<String> {
        let Some(members) = &self.members else { return Ok(own.to_owned()) };
        let mut length = Tensor::from(own.len() as i64).view([1]);
        members.broadcast(&mut length, from).map_err(|reason| self.lost(&reason))?;
        let length = length.int64_value(&[0]) as usize;
        let mut bytes = own.as_bytes().to_vec();
        bytes.resize(length, 0);
        // Gloo has no use for nothing.
        bytes.push(0);
        let mut bytes = Tensor::from_slice(&bytes);
        members.broadcast(&mut bytes, from).map_err(|reason| self.lost(&reason))?;
        let bytes = Vec::<u8>::try_from(&bytes)?;
        Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    /// Puts rank 0's numbers in the tensors' place.
    pub(super) fn take_first<'t>(&self, tensors: impl Iterator<Item = &'t Tensor>) -> Result<()> {
        let Some(members) = &self.members else { return Ok(()) };
        let _no_grad = tch::no_grad_guard();
        for tensor in tensors {
            let mut copy = tensor.detach().f_to_device(Device::Cpu)?.f_contiguous()?;
            members.broadcast(&mut copy, 0).map_err(|reason| self.lost(&reason))?;
            if self.rank > 0 {
                tensor.detach().f_copy_(&copy)?;
            }
        }
        Ok(())
    }

    /// Puts the sum over all processes in the place of each gradient.
    pub(super) fn sum_gradients(&self, parameters: &[Parameter]) -> Result<()> {
        let Some(members) = &self.members else { return Ok(()) };
        for parameter in parameters {
            // A process that had nothing to run in its first step has none.
            if !parameter.tensor.grad().defined() {
                (&parameter.tensor * 0.0).f_sum(parameter.tensor.kind())?.f_backward()?;
            }
        }
        let _no_grad = tch::no_grad_guard();
        let mut left = parameters;
        while !left.is_empty() {
            let mut num_elements = 0;
            let fits = left.iter().take_while(|parameter| {
                num_elements += parameter.tensor.numel();
                num_elements <= BUCKET_ELEMENTS
            });
            let (bucket, rest) = left.split_at(fits.count().max(1));
            left = rest;
            let grads: Vec<Tensor> = bucket.iter().map(|p| p.tensor.grad()).collect();
            let flat: Vec<Tensor> = grads.iter().map(|grad| grad.reshape([-1])).collect();
            let mut all = Tensor::f_cat(&flat, 0)?.f_to_device(Device::Cpu)?;
            members.sum(&mut all).map_err(|reason| self.lost(&reason))?;
            let mut at = 0;
            for mut grad in grads {
                let num = grad.numel() as i64;
                grad.f_copy_(&all.f_narrow(0, at, num)?.f_view_as(&grad)?)?;
                at += num;
            }
        }
        Ok(())
    }

    fn lost(&self, reason: &str) -> Error {
        group(format!(
            "another process of the training is gone, or did not come within {:.0} s: {reason}",
            self.patience.as_secs_f64()
        ))
        .hint("its own message says why; continue from the last checkpoint with `--resume`, with as many processes as you like")
    }
}
