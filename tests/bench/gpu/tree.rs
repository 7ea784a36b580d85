//! How fast is leave-one-out scoring of SmolLM2-135M on the device?

use std::path::{Path, PathBuf};
use std::time::Instant;

use w2s::error::Result;
use w2s::label::OrderOptions;
use w2s::lm::{DeviceChoice, DtypeChoice};
use w2s::score::{LmScorer, LmScorerOptions, Scorer};

use super::claims::{Claims, SMALL, SMOLLM2_135M};
use super::rows::{Row, Rows};
use super::{Part, Settings};

const PART: &str = Part::Tree.title();
/// Times each size is measured; the median counts. Each time with claims of its own, so that no
/// answer is remembered from the time before.
const REPEATS: usize = 3;

/// How the demonstrations are arranged.
#[derive(Clone)]
pub struct Arrangement {
    pub name: String,
    order: OrderOptions,
}

/// Returns what is measured: halving by itself, and what `w2s label` takes by default.
pub fn arrangements() -> [Arrangement; 2] {
    let default = OrderOptions::default();
    let OrderOptions { order, num_trees, .. } = default;
    let name = format!("default ({order:?}, {num_trees} trees)").to_lowercase();
    [
        Arrangement { name: "halving".into(), order: OrderOptions::PURE_HALVING },
        Arrangement { name, order: default },
    ]
}

/// What one scoring of a tree cost.
pub struct Cost {
    pub seconds: f64,
    pub tokens: u64,
    pub full: u64,
}

/// Opens a model for trees longer than it was made for.
pub fn open(folder: &Path, device: &DeviceChoice, dtype: DtypeChoice) -> Result<LmScorer> {
    LmScorer::open(
        folder,
        LmScorerOptions {
            device: device.clone(),
            dtype,
            max_pack_tokens: None,
            max_context_tokens: Some(1 << 20),
            memory: None,
        },
    )
}

/// Scores claims behind each other; the answers are on the CPU when this returns, so the device
/// has finished.
pub fn score(
    scorer: &mut LmScorer,
    num: usize,
    arrangement: &Arrangement,
    seed: u64,
) -> Result<Cost> {
    let tree = Claims::new(num, seed).tree(arrangement.order);
    let began = Instant::now();
    let (_, usage) = scorer.score(&tree)?;
    Ok(Cost {
        seconds: began.elapsed().as_secs_f64(),
        tokens: usage.tokens_computed,
        full: usage.tokens_full_prompts,
    })
}

/// Measures one size in one order and returns its row.
pub fn measure(
    scorer: &mut LmScorer,
    part: &str,
    dtype: &str,
    num: usize,
    arrangement: &Arrangement,
) -> Result<Row> {
    let mut costs = (0..REPEATS)
        .map(|repeat| score(scorer, num, arrangement, repeat as u64))
        .collect::<Result<Vec<Cost>>>()?;
    costs.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let Cost { seconds, tokens, full } = costs[REPEATS / 2];
    let result = format!(
        "{seconds:.3} s, {:.0} tokens/s; {tokens} tokens, {:.1} % saved",
        tokens as f64 / seconds,
        100.0 * (1.0 - tokens as f64 / full as f64),
    );
    Ok(Row::new(part, format!("leave-one-out N = {num}, {}, {dtype}", arrangement.name), result)
        .fact("n", num)
        .fact("order", arrangement.name.as_str())
        .fact("dtype", dtype)
        .fact("seconds", seconds)
        .fact("tokens", tokens)
        .fact("tokens_full_prompts", full))
}

/// The sizes measured.
pub fn sizes(small: bool) -> &'static [usize] {
    if small { &[4, 8] } else { &[64, 128, 256] }
}

/// Returns the model's folder: the real one, or its shape with random weights, which takes as long.
pub fn model_folder(settings: &Settings) -> Result<PathBuf> {
    let real = settings.models.join("smollm2-135m-instruct");
    if settings.small {
        return SMALL.folder(&settings.out.join("small"), &settings.models);
    }
    if real.join("model.safetensors").exists() {
        return Ok(real);
    }
    SMOLLM2_135M.folder(&settings.out.join("smollm2-135m-shape"), &settings.models)
}

/// The file with the full prompts of `num` claims, for transformers.
pub fn prompts_file(settings: &Settings, num: usize) -> PathBuf {
    settings.out.join(format!("prompts-{num}.json"))
}

pub fn run(settings: &Settings, rows: &Rows) -> Result<()> {
    let folder = model_folder(settings)?;
    let sizes = sizes(settings.small);
    let arrangements = arrangements();
    for &num in sizes {
        Claims::new(num, 0).write_prompts(&prompts_file(settings, num))?;
    }
    for (dtype, name) in [(DtypeChoice::Bf16, "bf16"), (DtypeChoice::F32, "f32")] {
        rows.attempt(PART, &format!("opening in {name}"), || {
            let began = Instant::now();
            let mut scorer = open(&folder, &settings.device, dtype)?;
            let opened = began.elapsed().as_secs_f64();
            let first = score(&mut scorer, sizes[0], &arrangements[0], 1000)?;
            let per_claim =
                scorer.count_tokens(&Claims::new(sizes[0], 0).items.demonstrations.concat().concat())?
                    as f64
                    / (2 * sizes[0]) as f64;
            rows.add(
                &Row::new(
                    PART,
                    format!("{} {name}", folder.file_name().unwrap_or_default().display()),
                    format!(
                        "opened in {opened:.2} s, first scores after {:.2} s; {per_claim:.0} tokens a claim",
                        first.seconds
                    ),
                )
                .fact("open_seconds", opened)
                .fact("first_seconds", first.seconds)
                .fact("tokens_per_claim", per_claim),
            )?;
            for &num in sizes {
                for arrangement in &arrangements {
                    rows.attempt(PART, &format!("N = {num}, {}, {name}", arrangement.name), || {
                        // Once unmeasured: new sizes choose their kernels and take their memory.
                        score(&mut scorer, num, arrangement, 1000)?;
                        rows.add(&measure(&mut scorer, PART, name, num, arrangement)?)
                    })?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}
