//! The settings of the published codes, each number with its source.
//!
//! A preset is a set of defaults: an option that is given wins over it. It sets what the source says
//! and this program has a setting for; what it cannot set, or does otherwise on purpose because the
//! source is at fault there, stands with each preset.
//!
//! Common to all: no calibration, demonstrations in the order of the data, 8 seeds, batches of 256
//! (or what fits the model's context), at most 10 repairs after a change, temperatures from 10 to 0.01,
//! every iteration made even when no label can change any more.

use super::icm::{Block, IcmSettings, Init};
use super::objective::{Aggregate, Objective, ScoreForm};
use super::order::OrderOptions;
use super::schedule::{Schedule, ScheduleKind};
use crate::data::{Rule, Task};
use crate::score::{Calibration, Prior};

/// Demonstrations of a prompt of the neutral fork: its `n_shots`.
const NEUTRAL_NUM_DEMONSTRATIONS: usize = 6;

/// The settings of one published code.
#[derive(Clone, Debug, PartialEq)]
pub struct Preset {
    /// The name in commands and files.
    pub name: &'static str,
    /// Settings of the search.
    pub settings: IcmSettings,
    /// Consistency rules; none for those of the task.
    pub rules: Option<Vec<Rule>>,
    /// The prompt variant, for tasks that have it.
    pub prompt_variant: Option<&'static str>,
    /// Whether a task without that variant cannot be labelled so.
    pub needs_variant: bool,
}

impl Preset {
    /// Returns the settings of the paper, Wen et al. 2025 (arXiv 2506.10139).
    ///
    /// # Source
    /// Equation 1: log-probability. Appendix A.1: alpha 50 ("we always start with"; 20 or 30 where
    /// that is slow), T0 10, Tmin 0.01, beta 0.99. Section 2.3: 8 random seeds. Algorithm 1: T counts
    /// iterations. The paper gives no number of iterations and of repairs; those are its code's.
    ///
    /// P is the mean, as in the authors' code, although equation 1 is a sum: under a sum every new
    /// label lowers U by 50 times its own loss, which at T <= 10 is hardly ever accepted, and the search
    /// would end at its seeds. `--aggregate sum` is the formula as written. The paper's I counts a pair
    /// twice (i, j and j, i); here it counts once, as in the code.
    pub fn icm_paper() -> Self {
        Self {
            name: "icm-paper",
            settings: IcmSettings {
                form: ScoreForm {
                    objective: Objective::Logprob,
                    aggregate: Aggregate::Mean,
                    alpha: 50.0,
                },
                schedule: Schedule {
                    kind: ScheduleKind::Paper,
                    initial: 10.0,
                    last: 0.01,
                    beta: 0.99,
                    decay: 0.99,
                },
                ..published()
            },
            rules: None,
            prompt_variant: None,
            needs_variant: false,
        }
    }

    /// Returns the settings of the authors' code (Jiaxin-Wen/Unsupervised-Elicitation).
    ///
    /// # Source
    /// `ICM.py`: its score is the mean of log-odds; defaults `--alpha 30 --num_seed 8 --K 3000
    /// --consistency_fix_K 10 --decay 0.99 --initial_T 10 --final_T 0.01 --scheduler log
    /// --batch_size 256`; T = T0 / (1 + 2 ln(1 + accepted changes)).
    ///
    /// Its consistency keys of some tasks come from gold: not here, unless `--consistency
    /// leaky-reference` asks for it. It sums the returned top 20 logprobs and takes a missing label for a
    /// certain one: here label words are scored exactly. Its seeds are the first of a random draw of
    /// groups: here random examples.
    pub fn icm_code() -> Self {
        Self {
            name: "icm-code",
            settings: published(),
            rules: None,
            prompt_variant: None,
            needs_variant: false,
        }
    }

    /// Returns the settings of the vLLM fork (ijamil1/Unsupervised-Elicitation).
    ///
    /// # Source
    /// As the authors' code, but: no consistency; U = P, its `--alpha` has no effect, so alpha 1;
    /// beta 4; default `--K 1500`; the prompt indented by accident (variant `vllm-fork`, where the task
    /// has it).
    ///
    /// It draws every unlabelled example with weight 100: here those of a group with a labelled one.
    pub fn vllm_fork() -> Self {
        let code = published();
        Self {
            name: "vllm-fork",
            settings: IcmSettings {
                form: ScoreForm { alpha: 1.0, ..code.form },
                schedule: Schedule { beta: 4.0, ..code.schedule },
                iterations: 1500,
                ..code
            },
            rules: Some(Vec::new()),
            prompt_variant: Some("vllm-fork"),
            needs_variant: false,
        }
    }

    /// Returns the settings of the neutral-prompt fork (wassname/Unsupervised-Elicitation).
    ///
    /// # Source
    /// `simple_icm.py`: alpha 30, initial_t 10, final_t 0.01, beta 2, num_seed 8 (42 in a later
    /// version), max_iters 2500, n_shots 6, at most 20 repairs, seeds without balance, a prompt that does
    /// not say what is asked (variant `neutral`). T = T0 / (1 + 2 ln(1 + n)) with n the iteration counted
    /// from 0: the paper's schedule with beta 2.
    ///
    /// Its score counts the log-odds of label A whatever the label is, which rewards calling everything A:
    /// here of the example's own label. Its inconsistency is a count of its own: here the task's rules.
    pub fn neutral_fork() -> Self {
        let code = published();
        Self {
            name: "neutral-fork",
            settings: IcmSettings {
                schedule: Schedule { kind: ScheduleKind::Paper, beta: 2.0, ..code.schedule },
                iterations: 2500,
                init: Init::Unbalanced,
                consistency_fix_iterations: 20,
                order: OrderOptions {
                    num_demonstrations: Some(NEUTRAL_NUM_DEMONSTRATIONS),
                    ..code.order
                },
                ..code
            },
            rules: None,
            prompt_variant: Some("neutral"),
            needs_variant: true,
        }
    }

    /// Returns the prompt variant that `task` is asked with, or none for the task's own.
    pub fn variant_of(&self, task: &Task) -> Option<&'static str> {
        let has = |name: &&str| task.variants.iter().any(|variant| variant.name == *name);
        self.prompt_variant.filter(|name| self.needs_variant || has(name))
    }
}

/// The authors' code, which the forks change.
fn published() -> IcmSettings {
    IcmSettings {
        form: ScoreForm { objective: Objective::LogOdds, aggregate: Aggregate::Mean, alpha: 30.0 },
        auto_alpha: None,
        schedule: Schedule {
            kind: ScheduleKind::Log,
            initial: 10.0,
            last: 0.01,
            beta: 2.0,
            decay: 0.99,
        },
        num_seed: 8,
        init: Init::Balanced,
        iterations: 3000,
        consistency_fix_iterations: 10,
        order: OrderOptions::DATASET,
        renew_order_every: 0,
        calibration: Calibration::None,
        prior: Prior::Equal,
        stop_when_stable: false,
        stop_on_collapse: None,
        num_prequential_orders: 1,
        num_parallel_proposals: 1,
        block: Block::Size(1),
        num_restarts: 1,
        check_order: true,
        num_null_permutations: 2,
    }
}
