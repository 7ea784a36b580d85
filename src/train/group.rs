//! Several processes that make one training: sums over all of them, and one end for all.
//!
//! Every process makes the same steps in the same order; it runs its share of the units of a batch,
//! and loss and gradient are summed, not averaged, because each term is divided by what belongs to
//! the whole batch. A failure of one becomes a failure of all at the next sum.

use std::time::Duration;

use tch::{Device, Tensor};

use super::c10d::{Joining, Nccl, NcclId, ProcessGroup};
use super::optimizer::Parameter;
use super::rank::{ProcessRank, group};
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
    /// Sums gradients where they are, on GPUs that it connects.
    nccl: Option<Nccl>,
}

/// What a rank says of itself beside its part of a sum.
const NUMERIC: f64 = 2.0;
const OTHER: f64 = 1.0;

impl Group {
    /// Returns the group of a process by itself.
    pub fn alone() -> Self {
        Self { rank: 0, size: 1, patience: Duration::ZERO, members: None, nccl: None }
    }

    /// Returns the group that this process is of, when all have joined.
    ///
    /// Must not run before [`resolve_device`](crate::lm::resolve_device), as any use of libtorch.
    ///
    /// # Errors
    /// [`ErrorKind::Group`] when the others are not found in time.
    pub fn join(process: &ProcessRank, patience: Patience) -> Result<Self> {
        let addresses = process.addresses()?;
        let meets_on_loopback = addresses[0].ip().is_loopback();
        let listener = if process.rank == 0 && !process.store_is_there {
            Some(process.listen(&addresses)?)
        } else {
            process.reach(&addresses, patience.join)?;
            None
        };
        let devices = if !process.interfaces.is_empty() {
            let names = process.interfaces.split(',').map(|name| format!("if:{}", name.trim()));
            names.collect::<Vec<_>>().join(",")
        } else if meets_on_loopback {
            addresses[0].ip().to_string()
        } else {
            String::new()
        };
        let host =
            if meets_on_loopback { addresses[0].ip().to_string() } else { process.host.clone() };
        let members = ProcessGroup::join(Joining {
            rank: process.rank,
            size: process.size,
            host: &host,
            port: process.port,
            listener,
            prefix: &process.prefix,
            devices: &devices,
            join: patience.join,
            peer: patience.peer,
        })
        .map_err(|reason| {
            group(format!(
                "the {} processes did not find each other within {:.0} s: {reason}",
                process.size,
                patience.join.as_secs_f64()
            ))
            .hint("start all of them with the same WORLD_SIZE, MASTER_ADDR and MASTER_PORT and each with its own RANK; GLOO_SOCKET_IFNAME names the network to use")
        })?;
        let (rank, size) = (process.rank, process.size);
        Ok(Self { rank, size, patience: patience.peer, members: Some(members), nccl: None })
    }

    /// Lets the group sum gradients by NCCL if all processes compute on GPUs and have it. Returns
    /// why they do not though this one computes on a GPU; then gradients are summed on the CPU.
    ///
    /// # Errors
    /// As [`agree`](Self::agree).
    pub fn use_gpus(&mut self, device: Device) -> Result<Option<String>> {
        if self.members.is_none() {
            return Ok(None);
        }
        let on_cpu = || Err("a process computes on the CPU".to_owned());
        let mut own = match device {
            // The same file that libtorch_cuda.so has loaded.
            Device::Cuda(gpu) => Nccl::open(c"libnccl.so.2").map(|nccl| (nccl, gpu)),
            _ => on_cpu(),
        };
        if self.all(own.is_ok())? {
            let mut id: NcclId = [0; 128];
            if self.is_first() {
                own = own.and_then(|(nccl, gpu)| {
                    id = nccl.id()?;
                    Ok((nccl, gpu))
                });
            }
            // The others add zeros.
            let summed = self.sum(Ok(id.map(f64::from).to_vec()), id.len())?;
            for (byte, value) in id.iter_mut().zip(summed) {
                *byte = value as u8;
            }
            if id == [0; 128] {
                own = own.and_then(|_| Err("rank 0 cannot use it".to_owned()));
            }
            own = own.and_then(|(nccl, gpu)| {
                nccl.join(&id, (self.rank, self.size), gpu, self.patience)?;
                Ok((nccl, gpu))
            });
            if self.all(own.is_ok())? {
                self.nccl = own.ok().map(|(nccl, _)| nccl);
                return Ok(None);
            }
        }
        let reason = own.err().unwrap_or_else(|| "another process cannot use it".to_owned());
        Ok(device.is_cuda().then_some(reason))
    }

    /// Whether something holds in every process.
    fn all(&self, here: bool) -> Result<bool> {
        let num = self.sum(Ok(vec![f64::from(u8::from(here))]), 1)?[0];
        Ok(num as usize == self.size)
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
            let mut all = Tensor::f_cat(&flat, 0)?;
            let summed = match &self.nccl {
                Some(nccl) => nccl.sum(&mut all),
                None => {
                    all = all.f_to_device(Device::Cpu)?;
                    members.sum(&mut all)
                }
            };
            summed.map_err(|reason| self.lost(&reason))?;
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use tch::Kind;

    use super::*;

    /// Runs `work` as each of two ranks and returns what they come to.
    fn two<T: Send>(work: impl Fn(Group) -> T + Sync) -> Vec<T> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        drop(listener);
        let patience = Patience { join: Duration::from_secs(20), peer: Duration::from_secs(20) };
        let as_rank = |rank: &str| {
            let process = ProcessRank::from_variables(|name| match name {
                "RANK" => Some(rank.to_owned()),
                "WORLD_SIZE" => Some("2".to_owned()),
                "MASTER_ADDR" => Some("localhost".to_owned()),
                "MASTER_PORT" => Some(port.clone()),
                _ => None,
            });
            work(Group::join(&process.unwrap().unwrap(), patience).unwrap())
        };
        thread::scope(|scope| {
            let second = scope.spawn(|| as_rank("1"));
            vec![as_rank("0"), second.join().unwrap()]
        })
    }

    #[test]
    fn values_are_summed_and_texts_passed_on() {
        let sums = two(|group| {
            let own = group.rank() as f64;
            let sum = group.sum(Ok(vec![1.0 + own, 0.25, f64::NAN]), 3).unwrap();
            assert!(sum[2].is_nan());
            let text = group.text(1, ["first", "the second's, longer"][group.rank()]).unwrap();
            let empty = group.text(0, "").unwrap();
            (sum[..2].to_vec(), text, empty)
        });
        for (sum, text, empty) in sums {
            assert_eq!(sum, [3.0, 0.5]);
            assert_eq!((text.as_str(), empty.as_str()), ("the second's, longer", ""));
        }
    }

    #[test]
    fn a_failure_of_one_is_told_to_the_other_with_its_kind() {
        for kind in [ErrorKind::Numeric, ErrorKind::Internal] {
            let errors = two(|group| {
                let own = if group.rank() == 1 {
                    Err(Error::new(kind, "the loss is NaN"))
                } else {
                    Ok(())
                };
                let error = group.agree(own).unwrap_err();
                // The group lives on: the next word is heard.
                group.agree(Ok(())).unwrap();
                (error.kind(), error.message().to_owned())
            });
            let told = if kind == ErrorKind::Numeric { kind } else { ErrorKind::Group };
            assert_eq!(errors[0], (told, "ended by rank 1: the loss is NaN".to_owned()));
            assert_eq!(errors[1], (kind, "the loss is NaN".to_owned()));
        }
    }

    /// Gloo adds memory, not numbers: a gradient that lies otherwise in one process (Gloo
    /// alone gives `[0, 3, 6, 4, 7, 10]` for twice `0..6`) and one that is missing must not spoil the sum.
    #[test]
    fn gradients_are_summed_however_they_lie() {
        let gradients = two(|group| {
            let transposed = group.rank() == 1;
            let values = Tensor::arange(6, (Kind::Float, Device::Cpu)).view([2, 3]);
            let weight = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
            let weight = if transposed { weight.tr().contiguous().tr() } else { weight };
            let weight = weight.set_requires_grad(true);
            (&weight * &values).sum(Kind::Float).backward();
            assert_eq!(weight.grad().is_contiguous(), !transposed);
            let unused = Tensor::zeros([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
            if !transposed {
                (&unused * 7.0).sum(Kind::Float).backward();
            }
            let parameter = |tensor: &Tensor| Parameter {
                name: String::new(),
                tensor: tensor.shallow_clone(),
                decays: true,
            };
            group.sum_gradients(&[parameter(&weight), parameter(&unused)]).unwrap();
            [&weight, &unused].map(|t| Vec::<f32>::try_from(t.grad().reshape([-1])).unwrap())
        });
        for [weight, unused] in gradients {
            assert_eq!(weight, [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
            assert_eq!(unused, [7.0, 7.0]);
        }
    }

    #[test]
    fn memory_that_is_not_in_order_is_refused() {
        two(|group| {
            let members = group.members.as_ref().unwrap();
            let mut tensor = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)).tr();
            assert!(members.sum(&mut tensor).unwrap_err().contains("contiguous"));
            assert!(members.broadcast(&mut tensor, 0).unwrap_err().contains("contiguous"));
            group.agree(Ok(())).unwrap();
        });
    }

    #[test]
    fn nccl_is_used_only_where_it_is() {
        let error = Nccl::open(c"libw2s-no-such-library.so").unwrap_err();
        assert!(error.contains("libw2s-no-such-library.so"), "{error}");
        let error = Nccl::open(c"libm.so.6").unwrap_err();
        assert!(error.contains("NCCL has no `ncclGetUniqueId`"), "{error}");
        two(|mut group| {
            assert_eq!(group.use_gpus(Device::Cpu).unwrap(), None);
            assert!(group.nccl.is_none());
        });
    }
}
