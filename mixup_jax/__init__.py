"""Mixup training in JAX, and careful measurement of the calibration of networks.

The functions for notebooks (only numpy is imported until another package is needed; see `help(mixup_jax.NAME)`):

    mixup(key, x, targets, alpha=..)        mixes a batch, in any training loop
    evaluate(logits, labels, ..)            every metric with its interval, for logits of any framework
    compare({name: (logits, labels), ..})   the page of the report about any networks, shown in the notebook
    metrics.ece(bins), metrics.nll(..), ..  each metric as a pure function
    reliability_diagram, confidence_histogram, load_predictions, save_predictions
    load_results("settled")                  logits of networks that this project has trained
    load_config, Config, train, methods     whole training runs, as the commands do them

Examples:
    >>> import numpy as np
    >>> import mixup_jax
    >>> rng = np.random.default_rng(0)
    >>> labels = rng.integers(0, 10, 2000)
    >>> logits = 6.0 * np.eye(10)[labels] + rng.normal(0, 3, (2000, 10))  # yours go here
    >>> found = mixup_jax.evaluate(logits, labels, ood={"noise": rng.normal(0, 3, (500, 10))})
    >>> test = found["results"]["test"]
    >>> print(f"accuracy {test['accuracy']:.3f}, ECE {test['ece_15']:.3f}, n = {test['n']}")
    accuracy 0.669, ECE 0.114, n = 2000
    >>> bins = mixup_jax.metrics.bin_confidences(*mixup_jax.metrics.confidence_and_correct(logits, labels), n_bins=15)
    >>> axes = mixup_jax.reliability_diagram(bins)  # axes.figure.savefig("reliability.png")

Commands: `python -m mixup_jax.NAME --help` with data, main, evaluate, compare, report, predict, export, sweep,
checkpoints, compile_ahead.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixup_jax import figures, methods, metrics
    from mixup_jax.compare import compare
    from mixup_jax.config import Config
    from mixup_jax.config_file import load_config
    from mixup_jax.evaluation.arrays import evaluate
    from mixup_jax.figures import confidence_histogram, reliability_diagram
    from mixup_jax.methods.mixup import mixup
    from mixup_jax.runs.formats import load_predictions
    from mixup_jax.runs.records import Predictions, save_predictions
    from mixup_jax.runs.results import load_results
    from mixup_jax.training.loop import train

__all__ = [
    "Config", "Predictions", "compare", "confidence_histogram", "evaluate", "figures", "load_config",
    "load_predictions", "load_results", "methods", "metrics", "mixup", "reliability_diagram", "save_predictions",
    "train",
]  # fmt: skip

_HOMES = {
    "Config": "config",
    "Predictions": "runs.records",
    "confidence_histogram": "figures",
    "load_config": "config_file",
    "load_predictions": "runs.formats",
    "load_results": "runs.results",
    "mixup": "methods.mixup",
    "reliability_diagram": "figures",
    "save_predictions": "runs.records",
    "train": "training.loop",
}
"""The module of each name; the others of `__all__` are modules, of which `evaluate` and `compare` can be called."""

try:
    __version__ = version("mixup_jax")
except PackageNotFoundError:  # run from a source tree that was not installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    """Imports a name when it is first used (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _HOMES:
        return import_module(f"{__name__}.{name}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Returns what autocompletion offers: not what this module itself imports."""
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
