//! Adapters that the server of a loop takes and gives up again.

use std::collections::BTreeSet;
use std::path::Path;

use super::labeller::name;
use super::settings::LoopSettings;
use crate::error::{Error, Result};
use crate::pipeline::note::Note;
use crate::pipeline::session::Session;
use crate::pipeline::warning::Warning;

/// Adapters that the server was told of by this process.
#[derive(Debug, Default)]
pub(super) struct Loaded(BTreeSet<String>);

impl LoopSettings {
    /// Has the server take the adapter of a training, unless it has it.
    pub(super) fn load(
        &self,
        trained: &Path,
        loaded: &mut Loaded,
        session: &Session<'_>,
    ) -> Result<()> {
        let Some(labeller) = self.labeller.as_ref().filter(|_| !session.counts()) else {
            return Ok(());
        };
        let name = name(trained);
        if !loaded.0.insert(name.clone()) {
            return Ok(());
        }
        let inside = trained.strip_prefix(&self.out).unwrap_or(trained);
        let folder = match &labeller.folder {
            Some(folder) => folder.join(inside),
            None => std::path::absolute(trained)
                .map_err(|e| Error::io("find the folder", trained, &e))?,
        };
        labeller.service(&labeller.address)?.load_adapter(&name, &folder.display().to_string())?;
        session.voice.note(&Note::AdapterLoaded { server: labeller.address.url.clone(), name });
        Ok(())
    }

    /// Has the server give up all adapters but that of a training.
    pub(super) fn unload_but(
        &self,
        trained: Option<&Path>,
        loaded: &mut Loaded,
        session: &Session<'_>,
    ) {
        let Some(labeller) = &self.labeller else { return };
        let kept = trained.map(name);
        let (kept, others): (BTreeSet<String>, BTreeSet<String>) =
            std::mem::take(&mut loaded.0).into_iter().partition(|own| kept.as_ref() == Some(own));
        loaded.0 = kept;
        for name in others {
            let given_up = labeller
                .service(&labeller.address)
                .and_then(|service| service.unload_adapter(&name));
            if let Err(why) = given_up {
                session.voice.warn(&Warning::AdapterStays { name, reason: why.to_string() });
            }
        }
    }
}
