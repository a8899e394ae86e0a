"""Calls each library for each metric of benchmarks/metrics.py, on inputs that are made before."""

from collections.abc import Callable

import numpy as np

LOGITS = "ECE-15 of logits"
WIDENED = "ECE-15 of confidences of logits"


class Inputs:
    """One set of predictions in the form that each side takes; made before any clock runs."""

    def __init__(self, n: int, k: int) -> None:
        from mixup_jax import metrics

        rng = np.random.default_rng(0)
        self.n, self.k = n, k
        self.logits = rng.normal(0, 2, (n, k)).astype(np.float32)
        self.labels = np.argmax(self.logits + 1.5 * rng.gumbel(0, 1, self.logits.shape).astype(np.float32), axis=1)
        self.confidence, self.correct = metrics.confidence_and_correct(self.logits, self.labels)
        self.event = self.correct.astype(np.float64)
        self.inside = rng.normal(0, 1, n)
        self.outside = rng.normal(1, 1, n)
        self.scores, self.is_out = np.r_[self.inside, self.outside], np.r_[np.zeros(n, int), np.ones(n, int)]
        self.probabilities = softmax(self.logits)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    exponentials /= exponentials.sum(axis=1, keepdims=True)
    return exponentials


def ours(name: str, x: Inputs) -> float:
    from mixup_jax import metrics

    if name == LOGITS:
        return metrics.ece(metrics.bin_logits(x.logits, x.labels))
    if name == WIDENED:
        return metrics.ece(metrics.bin_confidences(*metrics.confidence_and_correct(x.logits, x.labels)))
    if name == "ECE-15":
        return metrics.ece(metrics.bin_confidences(x.confidence, x.correct))
    if name == "OE-15":
        return metrics.oe(metrics.bin_confidences(x.confidence, x.correct))
    if name == "adaptive ECE-15":
        return metrics.adaptive_ece(x.confidence, x.correct)
    if name == "smooth ECE":
        return metrics.smooth_ece(x.confidence, x.correct)
    if name == "NLL of logits":
        return metrics.nll(x.logits, x.labels)
    if name == "Brier score of logits":
        return metrics.brier(x.logits, x.labels)
    return metrics.auroc(x.inside, x.outside)


def torchmetrics_value(name: str, x: Inputs, checked: bool = True) -> float:
    import torch
    import torchmetrics.functional.classification as tm

    if name in (LOGITS, WIDENED):
        logits, labels = torch.from_numpy(x.logits), torch.from_numpy(x.labels)
        return float(tm.multiclass_calibration_error(logits, labels, x.k, n_bins=15, validate_args=checked))
    if name == "ECE-15":
        # Its binary form takes the probability of the event "it is right", as ours does.
        confidence, correct = torch.from_numpy(x.confidence), torch.from_numpy(x.correct.astype(np.int64))
        return float(tm.binary_calibration_error(confidence, correct, n_bins=15, validate_args=checked))
    return float(tm.binary_auroc(torch.from_numpy(x.scores), torch.from_numpy(x.is_out), validate_args=checked))


def unchecked_torchmetrics_value(name: str, x: Inputs) -> float:
    return torchmetrics_value(name, x, checked=False)


def netcal_value(name: str, x: Inputs) -> float:
    """Includes a softmax if the input is logits, because netcal takes only probabilities."""
    import netcal.metrics

    if name in (LOGITS, WIDENED):
        return float(netcal.metrics.ECE(15).measure(softmax(x.logits), x.labels))
    return float(netcal.metrics.ECE(15).measure(x.confidence, x.correct.astype(int)))


def given_netcal_value(name: str, x: Inputs) -> float:
    import netcal.metrics

    return float(netcal.metrics.ECE(15).measure(x.probabilities, x.labels))


def relplot_value(name: str, x: Inputs) -> float:
    import relplot

    return float(relplot.smECE(x.confidence, x.event))


def sklearn_value(name: str, x: Inputs) -> float:
    import sklearn.calibration
    import sklearn.metrics

    if name == "AUROC":
        return float(sklearn.metrics.roc_auc_score(x.is_out, x.scores))
    if name == "NLL of logits":
        return float(sklearn.metrics.log_loss(x.labels, x.probabilities, labels=np.arange(x.k)))
    if name == "Brier score of logits":
        return float(
            sklearn.metrics.brier_score_loss(x.labels, x.probabilities, labels=np.arange(x.k), scale_by_half=False)
        )
    strategy = "quantile" if name == "adaptive ECE-15" else "uniform"
    accuracy, mean = sklearn.calibration.calibration_curve(x.correct, x.confidence, n_bins=15, strategy=strategy)
    edges = np.linspace(0, 1, 16)
    if strategy == "quantile":
        edges = np.percentile(x.confidence, edges * 100)
    counts = np.bincount(np.searchsorted(edges[1:-1], x.confidence), minlength=15)
    weights = counts[counts > 0] / x.n
    if name == "OE-15":
        return float(weights @ (mean * np.maximum(mean - accuracy, 0)))
    return float(weights @ np.abs(accuracy - mean))


SIDES: dict[str, Callable[[str, Inputs], float]] = {
    "ours": ours,
    "torchmetrics": torchmetrics_value,
    "torchmetrics, checks off": unchecked_torchmetrics_value,
    "netcal": netcal_value,
    "netcal, softmax given": given_netcal_value,
    "relplot": relplot_value,
    "scikit-learn": sklearn_value,
}
COMPARISONS = {
    "ECE-15": ("torchmetrics", "torchmetrics, checks off", "netcal", "scikit-learn"),
    LOGITS: ("torchmetrics", "torchmetrics, checks off", "netcal", "netcal, softmax given"),
    WIDENED: ("torchmetrics", "netcal"),
    "OE-15": ("scikit-learn",),
    "adaptive ECE-15": ("scikit-learn",),
    "smooth ECE": ("relplot",),
    "AUROC": ("scikit-learn", "torchmetrics"),
    "NLL of logits": ("scikit-learn",),
    "Brier score of logits": ("scikit-learn",),
}
WIDE = (LOGITS, WIDENED, "NLL of logits", "Brier score of logits")  # the others do not depend on K
