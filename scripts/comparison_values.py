"""Prints the values that tests/it/comparison.rs quotes, from scikit-learn, scipy and numpy.

Run: python scripts/comparison_values.py (with scikit-learn and scipy installed).
The inputs are the same made-up numbers as in the test: a linear congruential sequence.
"""

import numpy as np
import scipy
import sklearn
from scipy import stats
from sklearn import metrics


def uniforms(seed: int, num: int) -> np.ndarray:
    """Returns `num` numbers in [0, 1) of the sequence x <- (1103515245 x + 12345) mod 2^31."""
    values = []
    for _ in range(num):
        seed = (1103515245 * seed + 12345) % 2**31
        values.append(seed / 2**31)
    return np.array(values)


def distributions(seed: int, num: int, num_labels: int) -> np.ndarray:
    """Returns rows of probabilities that sum to one."""
    rows = uniforms(seed, num * num_labels).reshape(num, num_labels) + 0.05
    return rows / rows.sum(axis=1, keepdims=True)


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Returns the expected calibration error over ten bins of equal width."""
    bins = np.minimum((confidence * 10).astype(int), 9)
    gaps = [abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean()
            for b in set(bins)]
    return sum(gaps)


def measure(num_labels: int, seeds: list[int]) -> None:
    """Prints each metric, the mean over the runs of these seeds."""
    num = 60
    gold = (uniforms(7, num) * num_labels).astype(int)
    found = {name: [] for name in ["accuracy", "balanced", "auroc", "brier", "ece"]}
    for seed in seeds:
        rows = distributions(seed, num, num_labels)
        # What pulls the distribution to gold.
        rows[np.arange(num), gold] += 0.2
        rows /= rows.sum(axis=1, keepdims=True)
        given = rows.argmax(axis=1)
        found["accuracy"].append(metrics.accuracy_score(gold, given))
        found["balanced"].append(metrics.balanced_accuracy_score(gold, given))
        if num_labels == 2:
            found["auroc"].append(metrics.roc_auc_score(gold, rows[:, 1]))
            found["brier"].append(metrics.brier_score_loss(gold, rows[:, 1]))
        else:
            found["auroc"].append(metrics.roc_auc_score(gold, rows, multi_class="ovr"))
            found["brier"].append(metrics.brier_score_loss(gold, rows))
        found["ece"].append(calibration_error(rows.max(axis=1), given == gold))
    for name, values in found.items():
        print(f"{num_labels} labels, runs {seeds}: {name} {np.mean(values)!r}")


def paired() -> None:
    """Prints a paired bootstrap of scipy and its normal p."""
    # Of 400 items 220 are right in both, 40 in b alone, 20 in a alone.
    a = np.array([1] * 220 + [0] * 40 + [1] * 20 + [0] * 120, dtype=float)
    b = np.array([1] * 220 + [1] * 40 + [0] * 20 + [0] * 120, dtype=float)
    interval = stats.bootstrap((b - a,), np.mean, n_resamples=100_000, method="percentile",
                               rng=0).confidence_interval
    z = (b - a).mean() / ((b - a).std() / np.sqrt(len(a)))
    print(f"paired: {interval.low!r} {interval.high!r}, p {2 * stats.norm.sf(z)!r}")
    alone = stats.bootstrap((a,), np.mean, n_resamples=100_000, method="percentile",
                            rng=0).confidence_interval
    print(f"alone: {alone.low!r} {alone.high!r}")


def crossed(num_runs: int, num_items: int = 300) -> None:
    """Prints the interval of the mean of a crossed table, from the mean squares of its two-way layout."""
    easy, skill = uniforms(3, num_items), uniforms(5, num_runs)
    rows = [0.5 * easy + 0.4 * skill[run] + 0.2 * uniforms(100 + run, num_items) > 0.5
            for run in range(num_runs)]
    table = np.array(rows).astype(float)
    rate, z = table.mean(), stats.norm.ppf(0.975)
    of_items = table.mean(0).var() / num_items
    noise = of_runs = t = 0.0
    if num_runs > 1:
        rest = table - table.mean(0) - table.mean(1)[:, None] + rate
        noise = (rest**2).sum() / ((num_items - 1) * (num_runs - 1)) / (num_items * num_runs)
        of_runs, t = table.mean(1).var(ddof=1) / num_runs, stats.t.ppf(0.975, num_runs - 1)
    clean = max(of_items - noise, 0.0)
    variance = max(clean + of_runs, of_items)
    quantile = np.sqrt(max(z**2 * clean + t**2 * of_runs, z**2 * of_items) / variance)
    size = min(rate * (1 - rate) / variance, num_items * num_runs)
    scale = 1 + quantile**2 / size
    centre = (rate + quantile**2 / (2 * size)) / scale
    half = quantile / scale * np.sqrt(rate * (1 - rate) / size + quantile**2 / (4 * size**2))
    print(f"crossed, {num_runs} runs: {centre - half!r} {centre + half!r}")


if __name__ == "__main__":
    print(f"scikit-learn {sklearn.__version__}, scipy {scipy.__version__}")
    measure(2, [11])
    measure(2, [11, 12, 13])
    measure(3, [21])
    measure(3, [21, 22])
    paired()
    for num_runs in [1, 2, 3, 8]:
        crossed(num_runs)
