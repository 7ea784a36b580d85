//! Is the device right? Every fixture and the real models against the numbers of transformers, and
//! whether an f32 product is one.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use tch::{Device, Kind, Tensor};
use w2s::error::{Error, ErrorKind, Result};
use w2s::lm::{Decoder, Tokenizer};

use super::Part;
use super::golden::{
    Difference, TOLERANCE, TOLERANCE_REAL, fixture_difference, fixtures, real_difference,
};
use super::rows::{Row, Rows};

/// Largest difference of a log-probability in bf16 (house rule; STYLE), where transformers keeps it.
const TOLERANCE_BF16: f64 = 2e-2;
/// Where transformers in bf16 is itself further from its f32 numbers, the limit is this many times
/// its distance: roundings add up in another order on every device.
const SHARE_OF_BF16: f64 = 1.5;
/// Relative error of an f32 product; TF32 makes one of about 3e-4.
const TOLERANCE_PRODUCT: f64 = 1e-5;

/// The numbers in `tests/parity/real` and the folders in `models` that they are of.
const REAL: [(&str, &str); 2] =
    [("smollm2-135m-instruct.json", "smollm2-135m-instruct"), ("gemma3-270m.json", "gemma-3-270m")];

const KINDS: [(Kind, &str); 2] = [(Kind::Float, "f32"), (Kind::BFloat16, "bf16")];

/// Distances of transformers' own bf16 from its f32 numbers, by model; `parity_bf16.py` made them.
#[derive(Deserialize)]
struct Bf16 {
    largest_difference: BTreeMap<String, f64>,
}

impl Bf16 {
    fn read() -> Result<Self> {
        let path = Path::new("tests/parity/bf16.json");
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, &e))?;
        serde_json::from_str(&text)
            .map_err(|e| Error::new(ErrorKind::Data, format!("broken JSON: {e}")).at(path))
    }

    fn limit(&self, name: &str) -> f64 {
        let own = self.largest_difference.get(name).copied().unwrap_or(0.0);
        TOLERANCE_BF16.max(SHARE_OF_BF16 * own)
    }
}

pub fn tiny(device: Device, rows: &Rows) -> Result<()> {
    const PART: &str = Part::Parity.title();
    let folders = fixtures(Path::new("tests/parity"))?;
    if folders.is_empty() {
        return Err(Error::new(ErrorKind::Data, "there are no fixtures in `tests/parity`"));
    }
    rows.attempt(PART, "f32 product", || product(device, rows, PART))?;
    let bf16 = Bf16::read()?;
    for folder in &folders {
        let name = name(folder);
        for (kind, dtype) in KINDS {
            let limit = if kind == Kind::Float { TOLERANCE } else { bf16.limit(&name) };
            rows.attempt(PART, &format!("{name} {dtype}"), || {
                let model = Decoder::load(folder, device, kind)?;
                let tokenizer = Tokenizer::open(folder)?;
                let difference = fixture_difference(folder, &model, &tokenizer)?;
                rows.add(&verdict(PART, &name, dtype, limit, &difference))
            })?;
        }
    }
    Ok(())
}

pub fn real(device: Device, models: &Path, rows: &Rows) -> Result<()> {
    const PART: &str = Part::Real.title();
    let bf16 = Bf16::read()?;
    for (golden, folder) in REAL {
        let folder = models.join(folder);
        let name = name(&folder);
        if !folder.join("model.safetensors").exists() {
            rows.add(&Row::new(PART, &name, "not there; left out"))?;
            continue;
        }
        let golden = Path::new("tests/parity/real").join(golden);
        for (kind, dtype) in KINDS {
            let limit = if kind == Kind::Float { TOLERANCE_REAL } else { bf16.limit(&name) };
            rows.attempt(PART, &format!("{name} {dtype}"), || {
                let model = Decoder::load(&folder, device, kind)?;
                let tokenizer = Tokenizer::open(&folder)?;
                let difference = real_difference(&golden, &model, &tokenizer)?;
                rows.add(&verdict(PART, &name, dtype, limit, &difference))
            })?;
        }
    }
    Ok(())
}

fn name(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn verdict(part: &str, name: &str, dtype: &str, limit: f64, seen: &Difference) -> Row {
    let mut result = format!("{:.1e}", seen.logprob);
    if !seen.other_ids.is_empty() {
        result += &format!("; other token ids: {}", seen.other_ids.len());
    }
    if seen.best_gap > 0.0 {
        result += &format!("; another best token, {:.1e} behind", seen.best_gap);
    }
    if !seen.other_greedy.is_empty() {
        result += &format!("; continued otherwise: {}", seen.other_greedy.len());
    }
    // The best token may be another one where the numbers have a tie within the limit.
    let ok = seen.num_prompts > 0
        && seen.other_ids.is_empty()
        && seen.logprob <= limit
        && seen.best_gap <= limit;
    Row::new(part, format!("{name} {dtype}"), result)
        .against(format!("{limit:.1e}"))
        .passed(ok)
        .fact("largest_difference", seen.logprob)
        .fact("best_gap", seen.best_gap)
        .fact("num_prompts", seen.num_prompts)
        .fact("continued_otherwise", seen.other_greedy.len())
}

/// libtorch does not round f32 products to TF32 by default, and the check is started with TF32
/// switched off in cuBLAS; this shows that it is.
fn product(device: Device, rows: &Rows, part: &str) -> Result<()> {
    const SIZE: i64 = 512;
    tch::manual_seed(1);
    let make = || Tensor::f_randn([SIZE, SIZE], (Kind::Float, device));
    let (a, b) = (make()?, make()?);
    let exact = a.to_kind(Kind::Double).f_matmul(&b.to_kind(Kind::Double))?;
    let error = (a.f_matmul(&b)?.to_kind(Kind::Double) - &exact).norm().double_value(&[])
        / exact.norm().double_value(&[]);
    rows.add(
        &Row::new(part, "f32 product is not TF32: relative error", format!("{error:.1e}"))
            .against(format!("{TOLERANCE_PRODUCT:.0e}"))
            .passed(error <= TOLERANCE_PRODUCT)
            .fact("relative_error", error),
    )
}
