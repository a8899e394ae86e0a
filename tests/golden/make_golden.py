"""Freezes what independent implementations say about small seeded predictions: golden.json.

    pip install torch torchmetrics netcal relplot scikit-learn
    python tests/golden/make_golden.py

The predictions are written into the file too, so that it depends on no generator of random numbers.
Nothing of mixup_jax is used here.  test_golden.py says which conventions agree and which do not.
"""

import json
from importlib.metadata import version
from pathlib import Path

import netcal.metrics
import numpy as np
import relplot
import scipy.optimize
import scipy.special
import sklearn.metrics
import torch
import torchmetrics.functional.classification as tm
from sklearn.calibration import calibration_curve

CASES = ("plain", "tied", "saturated", "edges")
PEERS = ("torchmetrics", "netcal", "relplot", "scikit-learn", "torch", "numpy", "scipy")
EXAMPLES, CLASSES = 300, 4  # 300 is a multiple of 15, so that quantile bins are of exactly equal mass


def logits_of(case: str, rng: np.random.Generator) -> np.ndarray:
    logits = rng.normal(0, 2, (EXAMPLES, CLASSES)).round(3)
    if case == "tied":
        logits = rng.integers(0, 4, logits.shape).astype(float)
    elif case == "saturated":
        logits[rng.random(EXAMPLES) < 0.4] *= 100.0
    elif case == "edges":
        # The first probability is k / 20, exactly on the edges of 20 bins (up to rounding).
        first = rng.integers(11, 20, EXAMPLES) / 20
        others = np.array([0.5, 0.3, 0.2])[None] * (1 - first)[:, None]
        logits = np.log(np.column_stack([first, others]))
    return logits


def sklearn_errors(confidence: np.ndarray, correct: np.ndarray, bins: int, strategy: str) -> dict[str, float]:
    """ECE in three norms from the calibration curve and the counts that it leaves out."""
    accuracy, mean = calibration_curve(correct, confidence, n_bins=bins, strategy=strategy, pos_label=1)
    edges = np.linspace(0, 1, bins + 1)
    if strategy == "quantile":
        edges = np.percentile(confidence, edges * 100)
    counts = np.bincount(np.searchsorted(edges[1:-1], confidence), minlength=bins)
    weights, gaps = counts[counts > 0] / len(confidence), np.abs(accuracy - mean)
    return {"l1": weights @ gaps, "l2": np.sqrt(weights @ gaps**2), "max": gaps.max()}


def false_positives(positive: np.ndarray, score: np.ndarray) -> float:
    """The false positive rate of the first point of the ROC curve that finds 95 % of the positives."""
    false, true, _ = sklearn.metrics.roc_curve(positive, score, drop_intermediate=False)
    return float(false[np.argmax(true >= 0.95)])


def temperature_of(logits: np.ndarray, labels: np.ndarray) -> float:
    def loss(log_temperature: float) -> float:
        scaled = scipy.special.log_softmax(logits / np.exp(log_temperature), axis=1)
        return float(-scaled[np.arange(EXAMPLES), labels].mean())

    found = scipy.optimize.minimize_scalar(loss, bounds=np.log([0.01, 100]), method="bounded", options={"xatol": 1e-10})
    return float(np.exp(found.x))


def values_of(logits: np.ndarray, labels: np.ndarray) -> dict[str, object]:
    probabilities = scipy.special.softmax(logits, axis=1)
    confidence, correct = probabilities.max(axis=1), (probabilities.argmax(axis=1) == labels).astype(int)
    # Rows of the same logits in another order are ties, whatever the roundings of their sums.
    rank = confidence.round(12)
    p, y = torch.from_numpy(probabilities), torch.from_numpy(labels)
    one_hot = np.eye(CLASSES)[labels]
    return {
        "torchmetrics": {
            f"ece_{bins}_{norm}": float(tm.multiclass_calibration_error(p, y, CLASSES, n_bins=bins, norm=norm))
            for bins in (15, 100)
            for norm in ("l1", "l2", "max")
        },
        "netcal": {
            f"ece_{bins}_l1": float(netcal.metrics.ECE(bins).measure(probabilities, labels)) for bins in (15, 100)
        }
        | {"ece_15_max": float(netcal.metrics.MCE(15).measure(probabilities, labels))},
        "relplot": {"smooth_ece": float(relplot.smECE(confidence, correct.astype(float)))},
        "scikit-learn": {
            f"ece_{bins}_{norm}": float(value)
            for bins in (15, 20, 100)
            for norm, value in sklearn_errors(confidence, correct, bins, "uniform").items()
        }
        | {
            f"adaptive_ece_15_{norm}": float(value)
            for norm, value in sklearn_errors(confidence, correct, 15, "quantile").items()
        }
        | {
            "classwise_ece_15": float(
                np.mean(
                    [sklearn_errors(probabilities[:, k], one_hot[:, k], 15, "uniform")["l1"] for k in range(CLASSES)]
                )
            ),
            "nll": float(sklearn.metrics.log_loss(labels, probabilities, labels=range(CLASSES))),
            "brier": float(CLASSES * sklearn.metrics.mean_squared_error(one_hot, probabilities)),
            "brier_top_label": float(sklearn.metrics.brier_score_loss(correct, confidence)),
            # Errors found by low confidence: the rank statistics of out-of-distribution detection.
            "auroc": float(sklearn.metrics.roc_auc_score(1 - correct, -rank)),
            "aupr_out": float(sklearn.metrics.average_precision_score(1 - correct, -rank)),
            "aupr_in": float(sklearn.metrics.average_precision_score(correct, rank)),
            "fpr95_ood": false_positives(1 - correct, -rank),
            "fpr95_id": false_positives(correct, rank),
        },
        "scipy": {"temperature": temperature_of(logits, labels)},
    }


def main() -> None:
    rng = np.random.default_rng(20190527)
    cases = {}
    for case in CASES:
        logits = logits_of(case, rng)
        labels = np.argmax(0.6 * logits + rng.gumbel(0, 1, logits.shape), axis=1)
        cases[case] = {"logits": logits.tolist(), "labels": labels.tolist(), **values_of(logits, labels)}
    document = {"versions": {name: version(name) for name in PEERS}, "cases": cases}
    Path(__file__).with_name("golden.json").write_text(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
