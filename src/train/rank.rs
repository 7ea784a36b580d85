//! Where a process stands among those that train together, as `torchrun` or the user says it in the
//! environment.

use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};

/// A process's place among several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessRank {
    /// Its number, from 0.
    pub rank: usize,
    /// The number of processes; at least 2.
    pub size: usize,
    /// Its number among those of this machine.
    pub local_rank: usize,
    /// The number of processes of this machine.
    pub local_size: usize,
    /// Where they meet.
    pub host: String,
    /// The port there.
    pub port: u16,
    /// Whether `torchrun` has the store; else rank 0 has it.
    pub store_is_there: bool,
    /// What sets this start apart from earlier ones at the same store.
    pub prefix: String,
    /// The interfaces to use, with commas between; empty: that of the machine's name.
    pub interfaces: String,
}

const HINT: &str = "start it with `torchrun --no-python w2s train ...`, set RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT for each process, or unset them for a single one";

impl ProcessRank {
    /// Returns the place that variables give, or `None` for a process by itself.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when variables are missing or contradict each other.
    ///
    /// # Source
    /// The names are those of `torch.distributed` (`env://`).
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let get = |name: &str| get(name).filter(|text| !text.is_empty());
        let rank: Option<usize> = number(&get, "RANK")?;
        let size: Option<usize> = number(&get, "WORLD_SIZE")?;
        let Some(size) = size else {
            return match rank {
                None => Ok(None),
                Some(rank) => Err(usage(format!("RANK is {rank}, but WORLD_SIZE is not set"))),
            };
        };
        if size == 0 || rank.is_some_and(|rank| rank >= size) {
            let rank = rank.map_or_else(|| "not set".to_owned(), |rank| rank.to_string());
            return Err(usage(format!(
                "RANK is {rank} and WORLD_SIZE is {size}, expected a rank from 0 to WORLD_SIZE - 1"
            )));
        }
        if size == 1 {
            return Ok(None);
        }
        let rank =
            rank.ok_or_else(|| usage(format!("WORLD_SIZE is {size}, but RANK is not set")))?;
        let needed = |name: &str| {
            get(name).ok_or_else(|| usage(format!("WORLD_SIZE is {size}, but {name} is not set")))
        };
        let host = needed("MASTER_ADDR")?;
        needed("MASTER_PORT")?;
        let port = number::<u16>(&get, "MASTER_PORT")?.filter(|port| *port > 0);
        let port = port.ok_or_else(|| usage("MASTER_PORT is 0, expected a port from 1".into()))?;
        // Without a word on it, processes that meet on the loopback are all of this machine.
        let is_local = host == "localhost" || host.starts_with("127.") || host == "::1";
        let local = if is_local { (rank, size) } else { (0, 1) };
        let local_size = number(&get, "LOCAL_WORLD_SIZE")?.unwrap_or(local.1);
        let local_rank = number(&get, "LOCAL_RANK")?.unwrap_or(local.0);
        if local_rank >= local_size {
            return Err(usage(format!(
                "LOCAL_RANK is {local_rank} and LOCAL_WORLD_SIZE is {local_size}, expected a smaller rank"
            )));
        }
        Ok(Some(Self {
            rank,
            size,
            local_rank,
            local_size,
            host,
            port,
            store_is_there: get("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|is| is == "True"),
            prefix: format!(
                "w2s/{}",
                get("TORCHELASTIC_RESTART_COUNT").unwrap_or_else(|| "0".into())
            ),
            interfaces: get("GLOO_SOCKET_IFNAME").unwrap_or_default(),
        }))
    }

    /// Returns the place that the process's environment gives.
    ///
    /// # Errors
    /// As [`from_variables`](Self::from_variables).
    pub fn from_environment() -> Result<Option<Self>> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// The addresses of the place where the processes meet.
    pub(super) fn addresses(&self) -> Result<Vec<SocketAddr>> {
        let found = (self.host.as_str(), self.port).to_socket_addrs().map(Iterator::collect);
        let found: Vec<SocketAddr> = found.map_err(|e| {
            group(format!("the address of MASTER_ADDR `{}` cannot be found: {e}", self.host))
        })?;
        if found.is_empty() {
            return Err(group(format!("MASTER_ADDR `{}` has no address", self.host)));
        }
        Ok(found)
    }

    /// Listens where the processes meet, on the loopback only if they meet there.
    pub(super) fn listen(&self, addresses: &[SocketAddr]) -> Result<TcpListener> {
        let listener = if addresses[0].ip().is_loopback() {
            TcpListener::bind(addresses[0])
        } else {
            // The address by which others know this machine need not be one of its own.
            TcpListener::bind(("::", self.port))
                .or_else(|_| TcpListener::bind(("0.0.0.0", self.port)))
        };
        listener.map_err(|e| {
            group(format!("rank 0 cannot listen on port {} (MASTER_PORT): {e}", self.port))
                .hint("choose a free port, the same for all processes")
        })
    }

    /// Waits until somebody listens where the processes meet: c10d would, but tells it to stderr
    /// once a second.
    pub(super) fn reach(&self, addresses: &[SocketAddr], patience: Duration) -> Result<()> {
        let began = Instant::now();
        loop {
            let mut reason = String::new();
            for address in addresses {
                let left = patience.saturating_sub(began.elapsed()).max(Duration::from_millis(1));
                match TcpStream::connect_timeout(address, left) {
                    Ok(_) => return Ok(()),
                    Err(e) => reason = e.to_string(),
                }
            }
            if began.elapsed() >= patience {
                return Err(group(format!(
                    "nobody answers at {}:{} (MASTER_ADDR, MASTER_PORT) within {:.0} s: {reason}",
                    self.host,
                    self.port,
                    patience.as_secs_f64()
                ))
                .hint("start rank 0 there, check the two variables and firewalls, or wait longer with `--join-timeout`"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn number<T: FromStr>(get: &impl Fn(&str) -> Option<String>, name: &str) -> Result<Option<T>> {
    let Some(text) = get(name) else { return Ok(None) };
    let number = text.trim().parse();
    number.map(Some).map_err(|_| usage(format!("{name} is `{text}`, expected a whole number")))
}

fn usage(message: String) -> Error {
    Error::new(ErrorKind::Usage, message).hint(HINT)
}

pub(super) fn group(message: String) -> Error {
    Error::new(ErrorKind::Group, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(variables: &[(&str, &str)]) -> Result<Option<ProcessRank>> {
        ProcessRank::from_variables(|name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        })
    }

    const MASTER: [(&str, &str); 2] = [("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "29500")];

    #[test]
    fn a_process_by_itself_has_no_rank() {
        for alone in [&[][..], &[("WORLD_SIZE", "1")], &[("WORLD_SIZE", "1"), ("RANK", "0")]] {
            assert_eq!(process(alone).unwrap(), None);
        }
        assert_eq!(process(&MASTER).unwrap(), None);
    }

    #[test]
    fn torchrun_variables_give_a_rank() {
        let rank = [("RANK", "3"), ("WORLD_SIZE", "4")];
        let found = process(&[rank, MASTER].concat()).unwrap().unwrap();
        assert_eq!((found.rank, found.size, found.port), (3, 4, 29500));
        assert_eq!((found.local_rank, found.local_size), (3, 4));
        let far = [("MASTER_ADDR", "node0"), ("MASTER_PORT", "29500")];
        let local = [("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "2")];
        let elastic =
            [("TORCHELASTIC_USE_AGENT_STORE", "True"), ("TORCHELASTIC_RESTART_COUNT", "2")];
        let found = process(&[rank, far, local, elastic].concat()).unwrap().unwrap();
        assert_eq!((found.local_rank, found.local_size, found.store_is_there), (1, 2, true));
        assert_eq!(found.prefix, "w2s/2");
        let found = process(&[rank, far].concat()).unwrap().unwrap();
        assert_eq!((found.local_rank, found.local_size), (0, 1));
    }

    #[test]
    fn contradictions_are_named() {
        let two = [("RANK", "0"), ("WORLD_SIZE", "2")];
        for (variables, says) in [
            (&[("RANK", "0")][..], "RANK is 0, but WORLD_SIZE is not set"),
            (&[("WORLD_SIZE", "2")], "WORLD_SIZE is 2, but RANK is not set"),
            (&[("WORLD_SIZE", "0")], "WORLD_SIZE is 0"),
            (&[("RANK", "2"), ("WORLD_SIZE", "2")], "RANK is 2 and WORLD_SIZE is 2"),
            (&[("RANK", "1"), ("WORLD_SIZE", "1")], "RANK is 1 and WORLD_SIZE is 1"),
            (&[("RANK", "-1"), ("WORLD_SIZE", "2")], "RANK is `-1`, expected a whole number"),
            (&two, "MASTER_ADDR is not set"),
            (&[two[0], two[1], MASTER[0]], "MASTER_PORT is not set"),
            (&[two[0], two[1], MASTER[0], ("MASTER_PORT", "0")], "MASTER_PORT is 0"),
            (&[two[0], two[1], MASTER[0], ("MASTER_PORT", "70000")], "MASTER_PORT is `70000`"),
        ] {
            let error = process(variables).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(error.message().contains(says), "{error}");
        }
    }
}
