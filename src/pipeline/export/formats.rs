//! The forms that other trainers read: rows, configurations, and what is lost on the way.

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use super::rows::{Learnt, Row};
use super::settings::{TrainingSettings, TrlMethod};
use crate::error::Result;

/// Folder of the rows for TRL: `datasets` reads the splits of a folder by their names.
const TRL_DATA: &str = "data";

/// Whose format it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// TRL's SFTTrainer, `trl sft`
    Trl,
    /// TRL's DPOTrainer, `trl dpo`: preference tasks only
    Dpo,
    /// TRL's RewardTrainer, `trl reward`: preference tasks only
    Reward,
    /// axolotl
    Axolotl,
    /// LLaMA-Factory
    LlamaFactory,
    /// The data's own columns and label, probability, margin, kept and weight, as CSV
    Csv,
    /// The same as JSON lines
    Jsonl,
    /// The same as Parquet
    Parquet,
}

impl Format {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Trl => "TRL",
            Self::Dpo => "TRL's DPOTrainer",
            Self::Reward => "TRL's RewardTrainer",
            Self::Axolotl => "axolotl",
            Self::LlamaFactory => "LLaMA-Factory",
            Self::Csv => "CSV",
            Self::Jsonl => "JSON lines",
            Self::Parquet => "Parquet",
        }
    }

    /// The word of the command line.
    pub(super) fn word(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether it is the user's own table with the labels, and no trainer's set.
    pub fn is_table(self) -> bool {
        matches!(self, Self::Csv | Self::Jsonl | Self::Parquet)
    }

    /// Whether it takes preferences, not completions.
    pub fn is_of_preferences(self) -> bool {
        matches!(self, Self::Dpo | Self::Reward)
    }

    /// Whether the trainer cuts prompt and answer in tokens one by one, and joins the tokens. TRL cuts
    /// them as one text, as `w2s` does.
    pub(super) fn tokenises_apart(self) -> bool {
        matches!(self, Self::Axolotl | Self::LlamaFactory)
    }

    /// Where rows stand.
    pub(super) fn place(self, name: &str) -> String {
        match self {
            Self::Trl | Self::Dpo | Self::Reward => format!("{TRL_DATA}/{name}"),
            _ => name.to_owned(),
        }
    }

    pub(super) fn row(self, row: &Row) -> Value {
        match (&row.learnt, self) {
            (Learnt::Completion(completion), Self::LlamaFactory) => {
                json!({ "instruction": row.prompt, "input": "", "output": completion })
            }
            (Learnt::Completion(completion), _) => {
                json!({ "prompt": row.prompt, "completion": completion })
            }
            (Learnt::Preference { chosen, rejected, margin, claims }, _) => {
                let mut value = json!({ "id": row.id, "prompt": row.prompt, "chosen": chosen,
                    "rejected": rejected, "claims": claims });
                if let Some(margin) = margin {
                    value["margin"] = json!(margin);
                }
                value
            }
        }
    }

    pub(super) fn usage(self) -> &'static str {
        match self {
            Self::Trl => {
                "    trl sft --config config.yaml\n\nThe loss is on completions only. TRL adds the end token to them.\n"
            }
            Self::Dpo => {
                "    trl dpo --config config.yaml\n\nTRL adds the end token to both answers.\n"
            }
            Self::Reward => {
                "    trl reward --config config.yaml\n\nTRL adds the end token to both answers. Where rows have a margin, the reward of the chosen answer is to\nlie above that of the rejected one by it (its loss is -log sigmoid(chosen - rejected - margin)). Take the\ncolumn `margin` out for a loss without.\n"
            }
            Self::Axolotl => {
                "    axolotl train config.yaml\n\nThe loss is on completions only (`train_on_inputs: false`). axolotl adds the end token to them.\n"
            }
            // A table says itself what it is.
            Self::Csv | Self::Jsonl | Self::Parquet => "",
            Self::LlamaFactory => {
                "    llamafactory-cli train config.yaml\n\nThe template `empty` leaves prompts as they are; it adds no begin token and no end token. A model whose\ntokenizer has a begin token was labelled with it and is trained without.\n"
            }
        }
    }

    /// The configuration and what it needs beside it, by their names.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::error::ErrorKind::Usage) for settings that the trainer cannot be told.
    pub(super) fn files(
        self,
        model: &str,
        validates: bool,
        training: &TrainingSettings,
    ) -> Result<Vec<(String, String)>> {
        let model = Value::from(model).to_string();
        let one = |text: String| Ok(vec![("config.yaml".to_owned(), text)]);
        // Without it transformers looks at no validation rows.
        let evaluates = if validates { "eval_strategy: epoch\n" } else { "" };
        let trl = |method: TrlMethod| {
            let test = if validates { "dataset_test_split: validation\n" } else { "" };
            one(format!(
                "model_name_or_path: {model}\ndataset_name: {TRL_DATA}\n{test}{evaluates}{}",
                training.trl(method)
            ))
        };
        match self {
            Self::Trl => trl(TrlMethod::Sft),
            Self::Dpo => trl(TrlMethod::Dpo),
            Self::Reward => trl(TrlMethod::Reward),
            Self::Axolotl => {
                let set = |file: &str| {
                    format!(
                        "  - path: {file}\n    ds_type: json\n    type:\n      field_instruction: prompt\n      field_output: completion\n      format: \"{{instruction}}\"\n      no_input_format: \"{{instruction}}\"\n"
                    )
                };
                let test = match validates {
                    true => {
                        format!(
                            "test_datasets:\n{}    split: train\n{evaluates}",
                            set("validation.jsonl")
                        )
                    }
                    false => String::new(),
                };
                one(format!(
                    "base_model: {model}\ndatasets:\n{}{test}{}",
                    set("train.jsonl"),
                    training.axolotl()
                ))
            }
            Self::Csv | Self::Jsonl | Self::Parquet => Ok(Vec::new()),
            Self::LlamaFactory => {
                let columns =
                    json!({ "prompt": "instruction", "query": "input", "response": "output" });
                let set = |file: &str| json!({ "file_name": file, "columns": columns });
                let mut info = json!({ "w2s": set("train.jsonl") });
                let mut evaluation = String::new();
                if validates {
                    info["w2s_validation"] = set("validation.jsonl");
                    evaluation = format!("eval_dataset: w2s_validation\n{evaluates}");
                }
                let (adapter, steps) = training.llama_factory()?;
                Ok(vec![
                    ("dataset_info.json".to_owned(), format!("{info:#}\n")),
                    (
                        "config.yaml".to_owned(),
                        format!(
                            "model_name_or_path: {model}\nstage: sft\ndo_train: true\n{adapter}dataset_dir: .\ndataset: w2s\n{evaluation}template: empty\n{steps}"
                        ),
                    ),
                ])
            }
        }
    }
}
