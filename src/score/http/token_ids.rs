//! The route `token-ids`: the prompt goes as tokens, and the label's tokens are named. The server reads
//! its prefix cache, and there is no question of borders: the tokens are cut here, or by the server,
//! from prompt and label as one text.

use super::HttpScorer;
use super::request::{Ask, Part, Use};
use super::way::Way;
use crate::error::{Error, ErrorKind, Result};
use crate::lm::first_difference;
use crate::score::Question;
use crate::server::{MOST_NAMED, NamedBy, Probe};

/// Named tokens, in the way that the server has.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenIds;

/// A question's tokens.
struct Cut {
    /// The prompt's with each label's, the special ones before them included.
    joint: Vec<Vec<u32>>,
    /// Which of them is the first that is scored.
    begin: usize,
}

impl Way for TokenIds {
    fn works(&self, probe: &mut Probe<'_>) -> Result<bool> {
        probe.named()
    }

    fn asks(
        &self,
        scorer: &HttpScorer,
        (index, question): (usize, &Question),
        prompt: &str,
    ) -> Result<Vec<Ask>> {
        let way = scorer.found.borrow().named_by;
        let way = way.ok_or_else(|| {
            Error::new(ErrorKind::Internal, "named tokens are asked for before a way is known")
        })?;
        let cut = scorer.cut(prompt, &question.labels)?;
        if cut.begin == 0 {
            return Err(super::route::empty_prompt());
        }
        Ok(cut.asks(way, index, (prompt, &question.labels)))
    }
}

impl Cut {
    fn asks(&self, way: NamedBy, index: usize, (prompt, labels): (&str, &[String])) -> Vec<Ask> {
        // What is sent, and what it names: for which label, at which place of the answer, which token.
        type Named = (Vec<u32>, Vec<(usize, usize, u32)>);
        let mut requests: Vec<Named> = Vec::new();
        for (label, joint) in self.joint.iter().enumerate() {
            if way.follows_on() {
                let own = joint[self.begin..].iter().enumerate();
                let named = own.map(|(at, &id)| (label, at, id)).collect();
                requests.push((joint[..self.begin].to_vec(), named));
                continue;
            }
            for at in self.begin..joint.len() {
                let (before, named) = (&joint[..at], (label, 0, joint[at]));
                let fits = |(known, names): &&mut Named| {
                    let is_named = names.iter().any(|(.., id)| *id == joint[at]);
                    let has_room = way.names_several() && names.len() < MOST_NAMED;
                    known == before && (is_named || has_room)
                };
                match requests.iter_mut().find(fits) {
                    Some((_, names)) => names.push(named),
                    None => requests.push((before.to_vec(), vec![named])),
                }
            }
        }
        let num_prompt = self.begin;
        let ask = |(before, named): Named| {
            let mut ids: Vec<u32> = Vec::new();
            for &(.., id) in &named {
                if way.follows_on() || !ids.contains(&id) {
                    ids.push(id);
                }
            }
            let use_of = |&(label, at, id): &(usize, usize, u32)| Use {
                label,
                part: Part::Named { way, at, id, num_prompt },
            };
            // Later tokens of a label stand behind its earlier ones.
            let is_later = before.len() > self.begin;
            let text = match (is_later, named.first()) {
                (true, Some((label, ..))) => [prompt, &labels[*label]].concat(),
                _ => prompt.to_owned(),
            };
            Ask {
                question: index,
                prompt: text,
                request: way.request(&before, &ids),
                uses: named.iter().map(use_of).collect(),
            }
        };
        requests.into_iter().map(ask).collect()
    }
}

impl HttpScorer {
    /// The tokens of the prompt with each label as one text, by the tokenizer here or by the server.
    fn cut(&self, prompt: &str, labels: &[String]) -> Result<Cut> {
        if let Some(local) = &self.local {
            let (joint, begin) = local.split(prompt, labels)?;
            let prefix = local.tokenizer().prefix();
            let joint = joint.iter().map(|tokens| [prefix, &tokens.ids].concat()).collect();
            return Ok(Cut { joint, begin: begin + prefix.len() });
        }
        let service = &self.service;
        let mut joint: Vec<Vec<u32>> = Vec::with_capacity(labels.len());
        for label in labels {
            let ids = service.prompt_tokens(&[prompt, label].concat())?;
            if let Some(twin) = joint.iter().position(|other| *other == ids) {
                return Err(Error::new(
                    ErrorKind::Task,
                    format!("label words `{}` and `{label}` have the same tokens", labels[twin]),
                )
                .hint(
                    "the served model's tokenizer does not tell them apart; choose other words",
                ));
            }
            joint.push(ids);
        }
        let rows: Vec<&[u32]> = joint.iter().map(Vec::as_slice).collect();
        let begin = match first_difference(&rows) {
            Some(begin) => begin,
            // One label: it begins where the prompt's own tokens end, or change.
            None => {
                let bare = service.prompt_tokens(prompt)?;
                let ids = rows.first().copied().unwrap_or_default();
                let begin = bare.iter().zip(ids).take_while(|(a, b)| a == b).count();
                if begin == ids.len() {
                    let word = labels.first().map_or("", String::as_str);
                    return Err(Error::new(
                        ErrorKind::Task,
                        format!("label word `{word}` has no token of its own"),
                    ));
                }
                begin
            }
        };
        Ok(Cut { joint, begin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Prompt;

    /// What is sent and what it names.
    fn sent(way: NamedBy, joint: &[&[u32]], begin: usize) -> Vec<(Vec<u32>, Vec<u32>, usize)> {
        let joint = joint.iter().map(|ids| ids.to_vec()).collect();
        let labels: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        let asks = Cut { joint, begin }.asks(way, 0, ("p", &labels));
        let of = |ask: Ask| {
            let Prompt::Ids(ids) = ask.request.prompt else { panic!("no tokens") };
            (ids, ask.request.wanted.ids, ask.uses.len())
        };
        asks.into_iter().map(of).collect()
    }

    #[test]
    fn one_request_for_each_place_or_token_or_label() {
        // Two labels that begin alike behind the border, and one that is one token.
        let joint: [&[u32]; 3] = [&[1, 2, 5, 6], &[1, 2, 5, 7], &[1, 2, 8]];
        let p = vec![1, 2];
        assert_eq!(
            sent(NamedBy::LogprobTokenIds, &joint, 2),
            [(p.clone(), vec![5, 8], 3), (vec![1, 2, 5], vec![6, 7], 2)]
        );
        assert_eq!(
            sent(NamedBy::LogitBias, &joint, 2),
            [
                (p.clone(), vec![5], 2),
                (vec![1, 2, 5], vec![6], 1),
                (vec![1, 2, 5], vec![7], 1),
                (p.clone(), vec![8], 1)
            ]
        );
        assert_eq!(
            sent(NamedBy::Grammar, &joint, 2),
            [(p.clone(), vec![5, 6], 2), (p.clone(), vec![5, 7], 2), (p, vec![8], 1)]
        );
    }

    #[test]
    fn no_request_names_too_many() {
        let rows: Vec<Vec<u32>> = (0..300).map(|id| vec![9, id]).collect();
        let labels: Vec<String> = (0..300).map(|id| id.to_string()).collect();
        let cut = Cut { joint: rows, begin: 1 };
        let asks = cut.asks(NamedBy::LogprobTokenIds, 0, ("p", &labels));
        let nums: Vec<usize> = asks.iter().map(|ask| ask.request.wanted.ids.len()).collect();
        assert_eq!(nums, [128, 128, 44]);
    }
}
