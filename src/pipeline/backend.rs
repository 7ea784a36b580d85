//! A model that a command asks: a local one, or one behind a server.

use serde_json::{Map, Value, json};

use super::model::ModelOptions;
use super::note::{Note, ServedRoute};
use super::observer::Event;
use super::server::ServerOptions;
use super::session::Session;
use super::voice::Voice;
use super::warning::Warning;
use crate::error::Result;
use crate::lm::Moment;
use crate::run::files::SERVER;
use crate::run::{Input, RunDir};
use crate::score::{
    Generator, HttpScorer, LabelScores, LmScorer, PromptTree, RouteKind, Scorer, Usage, Written,
};
use crate::server::ServerAddress;

/// A model that is open.
pub enum Backend {
    Local(Box<LmScorer>),
    Server(Box<Served>),
}

/// A model behind a server.
pub(super) struct Served {
    pub(super) scorer: HttpScorer,
    max_misses: f64,
    max_context: Option<usize>,
}

/// The setting with the date that a chat template was told; a run that goes on tells it the same.
pub(super) const CHAT_DATE: &str = "chat_date";

/// What a command wants of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Log-probabilities after plain prompts.
    Scores,
    /// Those of a chat's answers.
    Chat,
    /// Texts.
    Writing,
}

impl Backend {
    /// Opens the model that the arguments name.
    pub(super) fn open(
        args: &ModelOptions,
        server: &ServerOptions,
        need: Need,
        session: &mut Session,
    ) -> Result<Self> {
        let Some(address) = args.server()? else {
            server.forbid()?;
            let scorer = session.open(args)?;
            if need == Need::Chat {
                // A model without a chat template is refused before a folder is made.
                scorer.chat("Hello")?;
            }
            return Ok(Self::Local(Box::new(scorer)));
        };
        args.forbid_local()?;
        if session.counts() {
            let service = server.connect_or_suppose(&address)?;
            let mut scorer = server.scorer(service, args.max_context())?;
            if need != Need::Writing {
                scorer.count_only(need == Need::Chat)?;
            } else {
                scorer.count_written_only()?;
            }
            let max_misses = server.max_misses();
            let served = Served { scorer, max_misses, max_context: args.max_context() };
            return Ok(Self::Server(Box::new(served)));
        }
        let scorer = served(args, server, &address)?;
        match need {
            Need::Scores => {
                scorer.route()?;
            }
            Need::Chat => {
                scorer.chat("Hello")?;
            }
            Need::Writing => {}
        }
        let max_misses = server.max_misses();
        let served = Served { scorer, max_misses, max_context: args.max_context() };
        served.tell_route(&session.voice);
        if let Some(change) = served.scorer.service().change()? {
            let address = served.scorer.service().address().to_string();
            session.voice.warn(&Warning::OtherModel { address, change });
        }
        Ok(Self::Server(Box::new(served)))
    }

    /// Tells the chat template this date, if it asks for one.
    pub(super) fn set_chat_date(&mut self, date: Moment) {
        match self {
            Self::Local(scorer) => scorer.set_moment(date),
            Self::Server(served) => served.scorer.set_moment(date),
        }
    }

    /// The date that the chat template is told.
    fn chat_date(&self) -> Result<Option<Moment>> {
        match self {
            Self::Local(scorer) => scorer.chat_moment(),
            Self::Server(served) => Ok(served.scorer.local().and_then(|local| local.chat_moment())),
        }
    }

    /// The chat template's part of the settings and of the inputs.
    pub(super) fn record_chat(
        &self,
        args: &ModelOptions,
        session: &Session,
        (settings, inputs): (&mut Map<String, Value>, &mut Vec<Input>),
    ) -> Result<()> {
        if let Some(date) = self.chat_date()? {
            settings.insert(CHAT_DATE.into(), date.to_string().into());
        }
        inputs.extend(self.chat_inputs(args, session)?);
        Ok(())
    }

    /// The model's part of the resolved settings.
    pub(super) fn settings(&self, args: &ModelOptions, settings: &mut Map<String, Value>) {
        match self {
            Self::Local(scorer) => args.settings(scorer, settings),
            Self::Server(served) => served.settings(settings),
        }
    }

    /// What else the last bits of results depend on.
    pub(super) fn versions(&self, args: &ModelOptions) -> Map<String, Value> {
        let Self::Server(served) = self else { return args.versions() };
        let mut versions = Map::new();
        versions.insert("w2s".into(), env!("CARGO_PKG_VERSION").into());
        let software = served.scorer.service().software();
        let name = software.map_or_else(|| "unknown".to_owned(), |software| software.name.clone());
        versions.insert("server".into(), name.into());
        versions
    }

    /// The files that the model comes from.
    pub(super) fn inputs(&self, args: &ModelOptions, session: &Session) -> Result<Vec<Input>> {
        match self {
            Self::Local(_) => args.inputs(&session.digests),
            Self::Server(served) => {
                let local =
                    served.scorer.local().map(|l| session.digests.input("tokenizer", l.path()));
                Ok(local.transpose()?.into_iter().collect())
            }
        }
    }

    /// The files of the model's chat template.
    fn chat_inputs(&self, args: &ModelOptions, session: &Session) -> Result<Vec<Input>> {
        match self {
            Self::Local(_) => args.chat_inputs(&session.digests),
            Self::Server(_) => Ok(Vec::new()),
        }
    }

    /// Writes what a server's answers cost and missed to the run's folder, before the run ends.
    pub(super) fn write_cost(&self, folder: &RunDir) -> Result<()> {
        match self {
            Self::Server(served) => folder.write_json(SERVER, &served.report()),
            Self::Local(_) => Ok(()),
        }
    }

    /// Tells what was asked of a server, what it cost and what was missed.
    pub(super) fn tell_cost(&self, voice: &Voice<'_>) {
        let Self::Server(served) = self else { return };
        voice.tell(&Event::Spent(&served.scorer.service().meter().spent()));
        let misses = served.scorer.misses();
        if misses.num_missed > 0 {
            voice.warn(&Warning::Missed(misses));
        }
    }

    /// Gives a local model back to the session, or what was counted for a server.
    pub(super) fn give_back(self, session: &mut Session) {
        match self {
            Self::Local(scorer) => {
                if let Some(halved) = scorer.halved() {
                    session.voice.warn(&Warning::PassHalved(halved));
                }
                session.give_back(*scorer);
            }
            Self::Server(mut served) => {
                if let Some(counted) = served.scorer.take_counted() {
                    session.count_served(counted);
                }
            }
        }
    }
}

/// Connects to a served model.
pub(super) fn served(
    args: &ModelOptions,
    server: &ServerOptions,
    address: &ServerAddress,
) -> Result<HttpScorer> {
    server.scorer(server.connect(address)?, args.max_context())
}

impl Served {
    fn tell_route(&self, voice: &Voice<'_>) {
        let service = self.scorer.service();
        let found = self.scorer.found();
        let route = self.scorer.route_taken();
        voice.note(&Note::Route(ServedRoute {
            address: service.address().to_string(),
            software: service.software().map(|software| software.name.clone()),
            route,
            named_by: found.named_by,
            num_most_likely: match route {
                Some(RouteKind::Chat) => found.chat_top_k_given,
                _ => found.top_k_given,
            },
        }));
    }

    fn settings(&self, settings: &mut Map<String, Value>) {
        let service = self.scorer.service();
        settings.insert("model".into(), service.address().to_string().into());
        settings.insert("adapter".into(), Value::Null);
        let mut server = json!({ "model": service.model() });
        if let Some(route) = self.scorer.route_taken() {
            server["route"] = route.name().into();
            let found = self.scorer.found();
            if route == RouteKind::Chat {
                server["top_k"] = found.chat_top_k.into();
                let begins = found.prefill == Some(crate::server::Verdict::Yes);
                server["prefill"] = begins.into();
            } else if !route.is_exact() {
                server["top_k"] = found.top_k.into();
            }
            if !route.is_exact() {
                server["max_misses"] = self.max_misses.into();
            }
        }
        settings.insert("server".into(), server);
        settings.insert("max_context".into(), self.max_context.into());
    }

    fn report(&self) -> Value {
        let scorer = &self.scorer;
        let service = scorer.service();
        json!({
            "url": service.address().url,
            "model": service.model(),
            "server": service.software().map(|software| &software.name),
            "route": scorer.route_taken(),
            "misses": scorer.misses(),
            "spent": service.meter().spent(),
        })
    }
}

impl Scorer for Backend {
    fn score(&mut self, tree: &PromptTree) -> Result<(Vec<LabelScores>, Usage)> {
        match self {
            Self::Local(scorer) => scorer.score(tree),
            Self::Server(served) => served.scorer.score(tree),
        }
    }

    fn count_tokens(&self, text: &str) -> Result<usize> {
        match self {
            Self::Local(scorer) => scorer.count_tokens(text),
            Self::Server(served) => served.scorer.count_tokens(text),
        }
    }

    fn max_tokens(&self) -> usize {
        match self {
            Self::Local(scorer) => scorer.max_tokens(),
            Self::Server(served) => served.scorer.max_tokens(),
        }
    }

    fn chat(&self, message: &str) -> Result<String> {
        match self {
            Self::Local(scorer) => scorer.chat(message),
            Self::Server(served) => served.scorer.chat(message),
        }
    }
}

impl Generator for Backend {
    fn check_room(&self, prompt: &str) -> Result<()> {
        match self {
            Self::Local(scorer) => scorer.check_room(prompt),
            Self::Server(served) => served.scorer.check_room(prompt),
        }
    }

    fn write(&mut self, prompts: &[String], max_new_tokens: usize) -> Result<Vec<Written>> {
        match self {
            Self::Local(scorer) => scorer.write(prompts, max_new_tokens),
            Self::Server(served) => served.scorer.write(prompts, max_new_tokens),
        }
    }
}
