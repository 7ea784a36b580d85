//! Log-probabilities of single tokens in half precision.

use tch::{Device, Kind, Tensor};
use w2s::lm::{Decoder, NewTokens};

use crate::common::tiny;

/// The head's product in f64, of the states and weights as they are in bf16: what the logits would be
/// if they were not rounded once more.
fn exact(decoder: &Decoder, x_rd: &Tensor) -> Tensor {
    let tables = decoder.export();
    let named = |end: &str| tables.iter().find(|(name, _)| name.ends_with(end));
    let (_, head_vd) = named("lm_head.weight").or_else(|| named("embed_tokens.weight")).unwrap();
    let logits_rv = x_rd.to_kind(Kind::Double).mm(&head_vd.to_kind(Kind::Double).tr());
    logits_rv.log_softmax(-1, Kind::Double)
}

#[test]
fn labels_in_bf16_do_not_lie_on_a_grid() {
    for family in ["llama", "gemma3_text", "qwen2"] {
        let decoder = Decoder::load(&tiny(family), Device::Cpu, Kind::BFloat16).unwrap();
        let ids = [5, 9, 3, 17, 42, 8];
        let parents: Vec<Option<usize>> = (0..ids.len()).map(|i| i.checked_sub(1)).collect();
        let new = NewTokens { ids: &ids, parents: &parents };
        let x_rd = decoder.forward(new, &mut decoder.new_cache()).unwrap();
        // States of the size that real models have: logits near 20.
        let most = decoder.logits(&x_rd).abs().max().double_value(&[]);
        let x_rd = x_rd * (20.0 / most);
        let expected = exact(&decoder, &x_rd);
        let (rows, targets): (Vec<usize>, Vec<u32>) =
            (0..6).flat_map(|row| [(row, 7_u32), (row, 60), (row, 91)]).unzip();
        let found = decoder.token_logprobs(&x_rd, &rows, &targets).unwrap();
        let rounded = decoder.log_probs(&x_rd);
        let (mut worst, mut before) = (0.0_f64, 0.0_f64);
        for ((row, target), value) in rows.iter().zip(&targets).zip(found) {
            let at = |t: &Tensor| t.double_value(&[*row as i64, i64::from(*target)]);
            worst = worst.max((value - at(&expected)).abs());
            before = before.max((at(&rounded) - at(&expected)).abs());
        }
        assert!(worst < 2e-4, "{family}: {worst}");
        assert!(before > 1e-2, "{family}: a product in bf16 is off by {before} only");
    }
}
