//! The one line that says what labels are worth, as far as that is known without gold.

use w2s::pipeline::Verdict;

use super::numbers::percent;

/// Returns the line, with what to do where the labels are to be doubted.
pub(in crate::cli) fn text(verdict: &Verdict) -> String {
    let text = match verdict {
        Verdict::Collapsed { label, share } => format!(
            "collapsed: {:.0} % of the labels are `{label}`",
            percent(*share)
        ),
        Verdict::OneLabelForAll => {
            "no better than one label for all examples, which scores as high".to_owned()
        }
        Verdict::AnyLabels => {
            "no better than the same labels on other texts, which score as high".to_owned()
        }
        Verdict::Chance { num_same, num_labels } => format!(
            "no better than chance: under another demonstration order only {num_same} of {num_labels} labels stay"
        ),
        Verdict::OrderSensitive { num_changed, num_labels } => format!(
            "order-sensitive: under another demonstration order {num_changed} of {num_labels} labels would change"
        ),
        Verdict::Stable { num_changed, num_labels } => format!(
            "stable: under another demonstration order {num_changed} of {num_labels} labels would change (stable labels can still answer another question than yours)"
        ),
        Verdict::Unchecked { search: true } => {
            "not checked: the labels were not looked at under another demonstration order (`--no-order-check`)".to_owned()
        }
        Verdict::Unchecked { search: false } => {
            "not checked: these are the model's answers; `--method icm` compares with another order and with permuted labels".to_owned()
        }
    };
    format!("verdict: {text}")
}
