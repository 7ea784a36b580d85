//! How one task spells its examples: the question that a label word follows, and a demonstration.

use std::collections::BTreeMap;

use std::borrow::Cow;

use super::{Template, Variant};
use crate::data::{Example, PromptCase, Task, option_letter};
use crate::error::{Error, ErrorKind, Result};

/// Texts that stand for an item without content.
///
/// Source: Zhao et al. 2021, "Calibrate Before Use", section 5.
const CONTENT_FREE: [&str; 3] = ["N/A", "", "[MASK]"];

/// A task's spelling of questions and demonstrations.
#[derive(Clone, Debug)]
pub struct PromptFormat<'t> {
    task: &'t Task,
    template: Template,
    /// The templates of the prompt's cases, in their order.
    cases: Vec<Template>,
    /// The task's further wordings.
    others: Vec<Template>,
    option: Template,
    chat_request: Template,
}

/// A variant of a question, ready to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wording<'t> {
    /// The text that ends right before the answer.
    pub text: String,
    /// The words that may follow it.
    pub words: Vec<&'t str>,
    /// The label that each word stands for, by its place in the task's labels.
    pub labels: Vec<usize>,
}

impl<'t> PromptFormat<'t> {
    /// Returns the spelling that `task` asks for.
    ///
    /// # Errors
    /// [`ErrorKind::Task`] if the template does not parse; a loaded task's template does.
    pub fn new(task: &'t Task) -> Result<Self> {
        let cases = task.prompt.cases.iter().map(|case| Template::parse(&case.template));
        Ok(Self {
            task,
            template: Template::parse(&task.prompt.template)?,
            cases: cases.collect::<Result<_>>()?,
            others: task
                .answers
                .templates
                .iter()
                .map(|template| Template::parse(template))
                .collect::<Result<_>>()?,
            option: Template::parse(&task.prompt.option)?,
            chat_request: Template::parse(&task.prompt.chat_request)?,
        })
    }

    /// Returns the text put once before everything else; often empty.
    pub fn instruction(&self) -> &'t str {
        &self.task.prompt.instruction
    }

    /// Returns the text that ends right before the label word.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] if the example lacks a field; one read with this task does not.
    pub fn question(&self, example: &Example) -> Result<String> {
        self.render(example, &Variant::default())
    }

    /// Returns a variant of the question with the words that may follow it.
    ///
    /// # Errors
    /// As [`question`](Self::question), and [`ErrorKind::Internal`] for a variant that is not one of
    /// this task and example.
    pub fn wording(&self, example: &Example, variant: &Variant) -> Result<Wording<'t>> {
        let words = self.words_of(example);
        let labels: Vec<usize> = match variant.option_order.as_slice() {
            [] => (0..words.len()).collect(),
            // The first letter stands for the option that is shown first.
            order => order.to_vec(),
        };
        let text = self.render(example, variant)?;
        Ok(Wording { text, words, labels })
    }

    fn render(&self, example: &Example, variant: &Variant) -> Result<String> {
        let wrong = || {
            let message = format!("a variant that question `{}` does not have", example.id);
            Error::new(ErrorKind::Internal, message)
        };
        let template = match variant.template {
            None => self.case(example).map_or(&self.template, |(_, template)| template),
            Some(place) => self.others.get(place).ok_or_else(wrong)?,
        };
        let mut fields = Cow::Borrowed(&example.fields);
        if let Some(place) = variant.paraphrase {
            let text = example.paraphrases.get(place).ok_or_else(wrong)?;
            let name = self.task.answers.paraphrased.clone().ok_or_else(wrong)?;
            fields.to_mut().insert(name, text.clone());
        }
        let wanted = template.fields();
        if wanted.contains(&"words") && !self.task.labels.is_empty() {
            let words = self.words_of(example);
            let order = in_order(&words, &variant.word_order).ok_or_else(wrong)?;
            fields.to_mut().insert("words".to_owned(), listed(&order));
        }
        if wanted.contains(&"options") && self.task.has_options() {
            let options: Vec<&str> = example.options.iter().map(String::as_str).collect();
            let shown = in_order(&options, &variant.option_order).ok_or_else(wrong)?;
            fields.to_mut().insert("options".to_owned(), self.options(&shown)?);
        }
        template.render(&fields).map_err(|error| {
            Error::new(ErrorKind::Data, format!("{} (`{}`)", error.message(), example.id))
                .hint("read the example with the task that writes the prompt")
        })
    }

    /// Spells options in the order shown.
    fn options(&self, shown: &[&str]) -> Result<String> {
        let spell = |(place, option): (usize, &&str)| {
            self.option.render(&BTreeMap::from([
                ("letter".to_owned(), option_letter(place).to_string()),
                ("option".to_owned(), (*option).to_owned()),
            ]))
        };
        let spelled: Result<Vec<String>> = shown.iter().enumerate().map(spell).collect();
        Ok(spelled?.join(&self.task.prompt.option_separator))
    }

    /// Returns the question, the word of `label` and the separator.
    ///
    /// # Errors
    /// As [`question`](Self::question), and [`ErrorKind::Internal`] if the task has no such label.
    pub fn demonstration(&self, example: &Example, label: usize) -> Result<String> {
        let Some(word) = self.words_of(example).get(label).copied() else {
            return Err(Error::new(
                ErrorKind::Internal,
                format!("label {label} of {} asked for", self.task.num_labels()),
            ));
        };
        let mut text = self.question(example)?;
        text.push_str(word);
        text.push_str(&self.task.prompt.separator);
        Ok(text)
    }

    /// Returns the message that asks a chat model: instruction and question without blanks round
    /// them, and after an empty line the request to answer with a label word.
    ///
    /// # Errors
    /// As [`question`](Self::question).
    pub fn chat_message(&self, example: &Example) -> Result<String> {
        self.requested(&self.question(example)?, &self.words_of(example))
    }

    /// Returns the messages that ask about [`content_free`](Self::content_free) items.
    ///
    /// # Errors
    /// [`ErrorKind::Data`] if the request names another field than the words; a loaded task's does
    /// not.
    pub fn chat_content_free(&self) -> Result<Vec<String>> {
        let words = self.label_words();
        self.content_free().iter().map(|question| self.requested(question, &words)).collect()
    }

    fn requested(&self, question: &str, words: &[&str]) -> Result<String> {
        let words = BTreeMap::from([("words".to_owned(), listed(words))]);
        let request = self.chat_request.render(&words)?;
        let text = [self.instruction(), question].concat();
        Ok(format!("{}\n\n{request}", text.trim()))
    }

    /// Returns the words that follow a question, in the order of the task's labels.
    ///
    /// An example of one of the prompt's cases has other words: [`words_of`](Self::words_of).
    pub fn label_words(&self) -> Vec<&'t str> {
        self.task.prompt.words.iter().map(String::as_str).collect()
    }

    /// Returns the words that follow the question of `example`, in the order of the task's labels.
    pub fn words_of(&self, example: &Example) -> Vec<&'t str> {
        let words = self.case(example).map_or(&self.task.prompt.words, |(case, _)| &case.words);
        let num = if self.task.has_options() { example.options.len() } else { words.len() };
        words.iter().take(num).map(String::as_str).collect()
    }

    fn case(&self, example: &Example) -> Option<(&'t PromptCase, &Template)> {
        let case = self.task.prompt.case(&example.fields)?;
        let place = self.task.prompt.cases.iter().position(|known| std::ptr::eq(known, case))?;
        Some((case, &self.cases[place]))
    }

    /// Returns questions without content: every field is `N/A`, empty, or `[MASK]`.
    ///
    /// # Source
    /// Zhao et al. 2021, section 5; the label distributions after them are averaged to calibrate.
    pub fn content_free(&self) -> Vec<String> {
        let names = self.template.fields();
        let empty = |stand_in: &&str| {
            let fill = |name: &&str| ((*name).to_owned(), (*stand_in).to_owned());
            let example = Example {
                id: "content-free".to_owned(),
                fields: names.iter().map(fill).collect(),
                options: match self.task.has_options() {
                    true => vec![(*stand_in).to_owned(); self.task.num_labels()],
                    false => Vec::new(),
                },
                paraphrases: Vec::new(),
                group: None,
                key: None,
                line: 0,
            };
            self.render(&example, &Variant::default()).ok()
        };
        // Every field the template names is in the map, so no question is lost here.
        CONTENT_FREE.iter().filter_map(empty).collect()
    }
}

/// Returns words as a question lists them: `yes or no`, `red, green or blue`.
fn listed(words: &[&str]) -> String {
    match words {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => words.concat(),
    }
}

/// Returns `items` in `order`, or as they are for an empty order; `None` if it is no order of them.
fn in_order<'i>(items: &[&'i str], order: &[usize]) -> Option<Vec<&'i str>> {
    if order.is_empty() {
        return Some(items.to_vec());
    }
    let mut places = order.to_vec();
    places.sort_unstable();
    (places == (0..items.len()).collect::<Vec<_>>())
        .then(|| order.iter().map(|&place| items[place]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(pairs: &[(&str, &str)]) -> Example {
        Example {
            id: "row-1".to_owned(),
            fields: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            options: Vec::new(),
            paraphrases: Vec::new(),
            group: None,
            key: None,
            line: 1,
        }
    }

    /// The texts are those of the published prompts, written out.
    #[test]
    fn published_prompts_are_spelled_exactly() {
        let claim = example(&[("question", "Can pigs fly?"), ("choice", "No, they cannot.")]);
        let pair = example(&[
            ("question", "Say hello."),
            ("choice", "Hello!\nHow are you?"),
            ("choice_2", "Hi\r\n\r\nthere"),
        ]);
        let cases = [
            (
                "truthfulqa",
                &claim,
                "Question: Can pigs fly?\nClaim: No, they cannot.\nI think this claim is ",
            ),
            (
                "gsm8k-verification",
                &claim,
                "Question: Can pigs fly?\nClaim: No, they cannot.\nI think this claim is ",
            ),
            (
                "alpaca",
                &pair,
                "Human: Say hello.\nResponse 1: Hello!How are you?\nResponse 2: Hi\r\rthere\nClaim: \
                 Response 1 is more helpful and harmless than Response 2.\nI think this claim is ",
            ),
            (
                "truthfulqa-preference",
                &pair,
                "Question: Say hello.\nAnswer 1: Hello!\nHow are you?\nAnswer 2: Hi\r\n\r\nthere\n\
                 Claim: Answer 1 is more truthful than Answer 2.\nI think this claim is ",
            ),
        ];
        for (name, example, expected) in cases {
            let task = Task::load(name).unwrap();
            let format = PromptFormat::new(&task).unwrap();
            assert_eq!(format.question(example).unwrap(), expected, "task {name}");
            assert_eq!(format.label_words(), ["False", "True"]);
            assert_eq!(
                format.demonstration(example, 1).unwrap(),
                format!("{expected}True\n\n"),
                "task {name}"
            );
            assert_eq!(format.instruction(), "");
        }
    }

    #[test]
    fn a_chat_message_says_which_words_may_be_answered() {
        let claim = example(&[("question", "Can pigs fly?"), ("choice", "No.")]);
        let task = Task::load("truthfulqa").unwrap();
        let format = PromptFormat::new(&task).unwrap();
        assert_eq!(
            format.chat_message(&claim).unwrap(),
            "Question: Can pigs fly?\nClaim: No.\nI think this claim is\n\n\
             Answer with False or True only."
        );
        let free = format.chat_content_free().unwrap();
        assert!(free[1].starts_with("Question: \nClaim: \nI think") && free.len() == 3);
        let task = Task::load("sentiment").unwrap().with_variant("neutral").unwrap();
        let format = PromptFormat::new(&task).unwrap();
        assert_eq!(
            format.chat_message(&example(&[("text", "Good.")])).unwrap(),
            "Examine these examples and complete the pattern for the new one.\n\n\n\n\
             ## Candidate:\nGood.\n## Set:\n\nAnswer with B or A only."
        );
    }

    #[test]
    fn content_free_questions_keep_the_frame() {
        let task = Task::load("truthfulqa").unwrap();
        let format = PromptFormat::new(&task).unwrap();
        assert_eq!(
            format.content_free(),
            [
                "Question: N/A\nClaim: N/A\nI think this claim is ",
                "Question: \nClaim: \nI think this claim is ",
                "Question: [MASK]\nClaim: [MASK]\nI think this claim is ",
            ]
        );
    }

    #[test]
    fn a_label_the_task_lacks_is_an_error() {
        let task = Task::load("truthfulqa").unwrap();
        let format = PromptFormat::new(&task).unwrap();
        let claim = example(&[("question", "q"), ("choice", "c")]);
        assert_eq!(format.demonstration(&claim, 2).unwrap_err().kind(), ErrorKind::Internal);
        assert!(format.question(&example(&[("question", "q")])).is_err());
    }
}
