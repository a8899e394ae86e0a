"""Our metrics against scikit-learn's and SciPy's, on the same numbers, in one run.

    python benchmarks/metrics.py [--examples=1000000]

Prints the median time of each side over interleaved rounds, their ratio (above 1 we are faster) and
the largest difference of the results.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import scipy
import scipy.optimize
import scipy.special
import sklearn
import sklearn.calibration
import sklearn.metrics

from mixup_jax import metrics

CLASSES = 10


def sklearn_ece(confidence: np.ndarray, correct: np.ndarray) -> float:
    """ECE of 15 bins from scikit-learn's calibration curve and the counts it leaves out."""
    accuracy, mean = sklearn.calibration.calibration_curve(correct, confidence, n_bins=15)
    edges = np.linspace(0, 1, 16)
    counts = np.bincount(np.searchsorted(edges[1:-1], confidence), minlength=15)
    return float(np.sum(counts[counts > 0] * np.abs(accuracy - mean)) / len(confidence))


def scipy_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that SciPy's bounded scalar minimiser finds for the NLL."""

    def nll(log_temperature: float) -> float:
        log_p = scipy.special.log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(np.mean(log_p[np.arange(len(labels)), labels]))

    return float(
        np.exp(scipy.optimize.minimize_scalar(nll, bounds=(-3, 3), method="bounded", options={"xatol": 1e-8}).x)
    )


def compare(name: str, ours: Callable[[], float], peer: Callable[[], float], rounds: int) -> None:
    times: tuple[list[float], list[float]] = ([], [])
    results = (ours(), peer())
    for _ in range(rounds):
        for side, function in enumerate((ours, peer)):
            start = time.perf_counter()
            function()
            times[side].append(time.perf_counter() - start)
    own, other = (1000 * statistics.median(side) for side in times)
    print(f"{name:<42} {own:9.1f} {other:9.1f} {other / own:7.2f}   {abs(results[0] - results[1]):.1e}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1_000_000, help="N (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (default: %(default)s)")
    arguments = parser.parse_args()

    rng = np.random.default_rng(0)
    n = arguments.examples
    logits = rng.normal(0, 2, (n, CLASSES)).astype(np.float32)
    labels = np.argmax(logits + rng.gumbel(0, 1.5, logits.shape), axis=1)
    confidence, correct = metrics.confidence_and_correct(logits, labels)
    inside, outside = metrics.msp_score(logits), metrics.msp_score(rng.normal(0, 1.5, (n, CLASSES)))
    is_out, scores = np.r_[np.zeros(n), np.ones(n)], np.r_[inside, outside]
    few_logits, few_labels = logits[: n // 10].astype(np.float64), labels[: n // 10]

    print(f"numpy {np.__version__}, scikit-learn {sklearn.__version__}, SciPy {scipy.__version__}; {n:,} examples")
    print(f"{'':<42} {'ours ms':>9} {'peer ms':>9} {'ratio':>7}   difference")
    run = partial(compare, rounds=arguments.rounds)
    run(
        "ECE-15, sklearn calibration_curve",
        lambda: metrics.ece(metrics.bin_confidences(confidence, correct, 15)),
        lambda: sklearn_ece(confidence, correct),
    )
    run(
        "AUROC, sklearn roc_auc_score",
        lambda: metrics.auroc(inside, outside),
        lambda: sklearn.metrics.roc_auc_score(is_out, scores),
    )
    run(
        "AUPR-out, sklearn average_precision_score",
        lambda: metrics.aupr_out(inside, outside),
        lambda: sklearn.metrics.average_precision_score(is_out, scores),
    )
    run(
        "NLL, sklearn log_loss of probabilities",
        lambda: metrics.nll(logits, labels),
        lambda: sklearn.metrics.log_loss(labels, scipy.special.softmax(logits.astype(np.float64), axis=1)),
    )
    run(
        f"temperature on {len(few_labels):,}, SciPy minimize",
        lambda: metrics.fit_temperature(few_logits, few_labels),
        lambda: scipy_temperature(few_logits, few_labels),
    )


if __name__ == "__main__":
    main()
