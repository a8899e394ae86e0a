"""Our recalibrations beside those of probmetrics: the NLL on the very examples that both were fitted on.

    pip install probmetrics betacal
    python benchmarks/recalibration.py [RECORD.npz ..] [--write]

The sets are drawn (300 to 5,000 examples of 3 to 100 classes, logits too large, too small and shifted), and the given
records.  Methods of the confidence are judged by the NLL of being right.  `--write` writes the table of metrics.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from document import table, write_between
from probmetrics import calibrators

from mixup_jax import metrics
from mixup_jax.metrics.recalibrators import fit_dirichlet

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"
SIZES = ((300, 3, 3.0, 1.0), (2000, 10, 2.0, 0.5), (5000, 10, 0.5, 0.0), (1000, 30, 2.0, 0.5), (2000, 100, 1.5, 0.3))
MOST_CLASSES = {"matrix scaling": 30}  # more take minutes


def temperature(logits, labels):
    scale = metrics.fit_temperature(logits, labels)
    return SimpleNamespace(apply=lambda z: z / scale)


OF_LOGITS = {
    "temperature": (temperature, lambda: calibrators.get_calibrator("temp-scaling")),
    "SVS": (metrics.fit_svs, lambda: calibrators.get_calibrator("svs")),
    "SMS": (metrics.fit_sms, lambda: calibrators.get_calibrator("sms")),
    "vector scaling": (metrics.fit_vector_scaling, calibrators.VectorScalingCalibrator),
    "matrix scaling": (lambda z, y: fit_dirichlet(z, y, penalty=0.0), calibrators.MatrixScalingCalibrator),
    "ensemble temperature": (metrics.fit_ensemble_temperature, lambda: calibrators.ETSCalibrator("ce")),
}
OF_CONFIDENCE = {
    "beta": (metrics.fit_beta, lambda: calibrators.get_calibrator("beta")),
    "isotonic": (metrics.fit_isotonic, lambda: calibrators.get_calibrator("isotonic")),
    "spline": (metrics.fit_spline, calibrators.CDFSplineCalibrator),
    "histogram": (metrics.fit_histogram, lambda: calibrators.BinaryHistogramBinningCalibrator(15, "quantile")),
}


def sets(records: list[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for seed, (n, classes, scale, shift) in enumerate(SIZES):
        rng = np.random.default_rng(seed)
        true = rng.normal(0, 2, (n, classes))
        yield scale * true + shift * rng.normal(0, 1, classes), (true + rng.gumbel(size=true.shape)).argmax(axis=1)
    for record in records:
        with np.load(record) as arrays:
            known = arrays["labels"] >= 0
            yield arrays["logits"][known].astype(np.float64), arrays["labels"][known].astype(np.int64)


def nll(probability: np.ndarray, labels: np.ndarray) -> float:
    of_label = probability.astype(np.float64)[np.arange(len(labels)), labels]
    return float(-np.log(np.clip(of_label, 1e-12, 1.0)).mean())


def penalty(weights: np.ndarray, bias: np.ndarray, n: int) -> float:
    """Returns what SVS (weights `[K]`) and SMS (`[K, K]`) add to the NLL."""
    k = len(bias)
    diagonal = weights if weights.ndim == 1 else np.diag(weights)
    off = 0.0 if weights.ndim == 1 else np.square(weights).sum() - np.square(diagonal).sum()
    return k / n * float(np.square(diagonal - 1).sum() + np.square(bias).sum() + (k - 1) * off)


def compared(name: str, logits: np.ndarray, labels: np.ndarray) -> tuple[float, float, float, float]:
    """Returns our NLL less theirs, the same with the penalty that was minimised too, and the seconds of both fits."""
    of_logits = name in OF_LOGITS
    fit, calibrator = (OF_LOGITS if of_logits else OF_CONFIDENCE)[name]
    confidence, correct = metrics.confidence_and_correct(logits, labels)
    start = time.perf_counter()
    fitted = fit(logits, labels) if of_logits else fit(confidence, correct)
    own_seconds = time.perf_counter() - start
    if of_logits:
        given, classes = np.exp(metrics.log_softmax(logits)), labels
        own = np.exp(metrics.log_softmax(fitted.apply(logits)))
    else:
        given, classes = np.stack([1 - confidence, confidence], axis=1), correct.astype(np.int64)
        own = np.stack([1 - fitted.apply(confidence), fitted.apply(confidence)], axis=1)
    start = time.perf_counter()
    peer = calibrator().fit(given, classes)
    seconds = time.perf_counter() - start
    difference = nll(own, classes) - nll(np.asarray(peer.predict_proba(given)), classes)
    whole = difference
    if name in ("SVS", "SMS"):
        theirs = (peer.v_, peer.b_) if name == "SVS" else (peer.W_[:, :-1], peer.W_[:, -1])
        of_peer = penalty(*(np.asarray(part, np.float64) for part in theirs), len(labels))
        whole += penalty(fitted.weights, fitted.bias, len(labels)) - of_peer
    return difference, whole, own_seconds, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", nargs="*", metavar="RECORD", help="files with logits and labels")
    parser.add_argument("--write", action="store_true", help="write the table of docs/metrics.md")
    arguments = parser.parse_args()
    given, rows = list(sets(arguments.records)), []
    for name in (*OF_LOGITS, *OF_CONFIDENCE):
        narrow = [one for one in given if one[0].shape[1] <= MOST_CLASSES.get(name, 1000)]
        found = np.array([compared(name, *one) for one in narrow])
        spans = [f"{column.min():+.0e} to {column.max():+.0e}" for column in found[:, :2].T]
        rows.append([name, str(len(narrow)), *spans, *(f"{one:.2f}" for one in found[:, 2:].sum(axis=0))])
        print(*rows[-1], sep=" | ", flush=True)
    if arguments.write:
        header = ["method", "sets", "NLL, ours less theirs", "with the penalty", "ours, s", "probmetrics, s"]
        write_between(DOCUMENT, "probmetrics", "\n".join(table(header, rows)) + "\n")


if __name__ == "__main__":
    main()
