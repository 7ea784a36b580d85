//! What becomes of labels, weights and tokens on the way to another trainer, in words.

use super::formats::Format;
use super::preferences::Preferences;
use crate::pipeline::audit::Covered;
use crate::run::GoldUse;

/// Whether gold has a part in what is exported: in the run, or by an auditor's answers.
pub(super) fn gold_used(of_run: &GoldUse, covered: Option<&Covered>) -> GoldUse {
    match (of_run, covered) {
        (GoldUse::No(_), Some(covered)) if covered.num_audited > 0 => GoldUse::Because(format!(
            "{} labels are those that an auditor gave",
            covered.num_audited
        )),
        (used, _) => used.clone(),
    }
}

/// Sentences for the terminal, the README and the configuration.
#[derive(Debug, Default)]
pub(super) struct Notes(pub(super) Vec<String>);

impl Notes {
    /// What an audit says of the labels.
    pub(super) fn of_guarantee(&mut self, covered: &Covered) {
        let Covered { statement, num_left_out, num_audited } = covered;
        self.0.push(statement.clone());
        self.0.push(format!(
            "{num_left_out} labels of the run are not covered and left out; {num_audited} labels are the auditor's own"
        ));
    }

    /// What is lost where weights differ.
    pub(super) fn of_weights(&mut self, format: Format, left_out: usize) {
        self.0.push(format!(
            "lost: the weights became sampling weights, because {} cannot weigh the loss of an example ({left_out} examples were not drawn)",
            format.name()
        ));
    }

    /// What is lost where prompt and answer are cut in tokens one by one; `num` rows are, by the model's
    /// tokenizer.
    pub(super) fn of_tokens(&mut self, format: Format, num: Option<usize>, of: usize) {
        let name = format.name();
        self.0.push(match num {
            None => format!(
                "may be lost: {name} tokenises prompt and answer apart, so where a token would join them other tokens are learnt than were scored (how many rows have such a token is counted where `--base-model` is a folder)"
            ),
            Some(0) => format!(
                "{name} tokenises prompt and answer apart; by the model's tokenizer that makes the same tokens in all {} rows",
                of
            ),
            Some(num) => format!(
                "lost: {name} tokenises prompt and answer apart, so {} of {} rows have other tokens than were scored",
                num,
                of
            ),
        });
    }

    /// What became of claims.
    pub(super) fn of_preferences(&mut self, preferences: &Preferences, format: Format) {
        let Preferences { rows, num_joined, num_contradictory, num_equal } = preferences;
        let mut say = |num: usize, what: &str| {
            if num > 0 {
                self.0.push(format!("{what}: {}", num));
            }
        };
        say(*num_joined, "pairs with several claims, which agree (the margin is their mean)");
        say(
            *num_contradictory,
            "pairs left out, because the claims about them contradict each other",
        );
        say(*num_equal, "claims left out, because their two answers are the same");
        let has_margin = |row: &super::rows::Row| {
            matches!(row.learnt, super::rows::Learnt::Preference { margin: Some(_), .. })
        };
        if format == Format::Reward && !rows.iter().all(has_margin) {
            self.0.push(
                "there are no margins: the answers of the run are texts, without probabilities of the labels"
                    .to_owned(),
            );
        }
    }

    /// Whether something is lost that `w2s train` keeps.
    pub(super) fn loses(&self) -> bool {
        self.0.iter().any(|note| note.starts_with("lost") || note.starts_with("may be lost"))
    }

    /// The notes as comment lines of YAML.
    pub(super) fn as_comment(&self) -> String {
        self.0.iter().map(|note| format!("# {note}\n")).collect()
    }
}
