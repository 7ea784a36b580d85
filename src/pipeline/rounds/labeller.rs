//! `--labeller`: a server that labels in a loop, first by the base model, then by what was trained.
//!
//! Training is local. Before a step that asks the model of a round, the server takes the adapter of that
//! round, under a name made from the round and the digest of its weights: another adapter never has that
//! name, so no answer of one is taken for the other's, whatever was killed in between.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::lm::ADAPTER_WEIGHTS;
use crate::pipeline::server::ServerOptions;
use crate::server::{ServerAddress, Service};

/// Hexadecimal digits of a digest that stand in an adapter's name.
const NUM_DIGITS: usize = 12;

/// The server that labels.
#[derive(Clone, Debug)]
pub(super) struct Labeller {
    pub(super) address: ServerAddress,
    /// The loop's folder as the server sees it.
    pub(super) folder: Option<PathBuf>,
    pub(super) options: ServerOptions,
    /// Whether nothing is asked: all rounds are counted for the base model.
    pub(super) counts: bool,
}

impl Labeller {
    /// Returns the server of an address.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for what is no address, and for one that names no model.
    pub(super) fn new(text: &str, folder: Option<PathBuf>, options: ServerOptions) -> Result<Self> {
        if !ServerAddress::is_meant(text) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("`--labeller {text}` is not the address of a server"),
            )
            .hint("expected an address such as `http://localhost:8000/v1#NAME`"));
        }
        let address = ServerAddress::parse(text)?;
        if address.model.is_none() {
            return Err(Error::new(ErrorKind::Usage, "`--labeller` names no model")
                .hint("name the base model: `http://localhost:8000/v1#NAME`"));
        }
        if options.prices.is_some() {
            return Err(Error::new(
                ErrorKind::Usage,
                "a price table has no effect with `--labeller`: its adapters have names of their own",
            )
            .hint("leave `prices` out"));
        }
        Ok(Self { address, folder, options, counts: false })
    }

    /// Refuses a server that does not serve the model, or takes no adapters.
    pub(super) fn check(&self) -> Result<()> {
        self.service(&self.address)?.check_adapters()
    }

    pub(super) fn service(&self, address: &ServerAddress) -> Result<Service> {
        self.options.connect(address)
    }

    /// The address of the model of a training, whose folder is `None` for the base model.
    pub(super) fn model(&self, trained: Option<&Path>) -> PathBuf {
        match trained.filter(|_| !self.counts) {
            None => self.address.to_string().into(),
            Some(folder) => self.address.with_model(&name(folder)).to_string().into(),
        }
    }
}

/// What the server calls the adapter in a folder. One that was not trained yet has no digest.
pub(super) fn name(folder: &Path) -> String {
    let part = |path: &Path| {
        path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let round = folder.parent().map(part).unwrap_or_default();
    let head = format!("w2s-{round}-{}", part(folder));
    match std::fs::read(folder.join(ADAPTER_WEIGHTS)) {
        Err(_) => head,
        Ok(bytes) => {
            let digest = format!("{:x}", Sha256::digest(bytes));
            format!("{head}-{}", &digest[..NUM_DIGITS])
        }
    }
}
