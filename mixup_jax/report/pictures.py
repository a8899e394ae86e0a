"""Which figures a run gets, and what each shows in words for those who cannot see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from mixup_jax.metrics.calibration import Bins, ece, oe
from mixup_jax.metrics.scores import max_probability
from mixup_jax.report.figures import (
    confidence_histograms,
    histogram_shares,
    reliability_diagram,
    to_png,
    to_svg,
    training_curve,
)
from mixup_jax.report.runs import Run

N_BINS = 15


@dataclass(frozen=True)
class Picture:
    """A finished figure.

    Attributes:
      kind: "reliability", "reliability-after-temperature", "confidence" or "training".
      file_name: without its ending.
      alt: the figure in words, with its numbers.
      svg: the figure.
      png: the same in dots.
    """

    kind: str
    file_name: str
    alt: str
    svg: bytes
    png: bytes


def largest_share(runs: Sequence[Run]) -> float:
    """Returns the tallest bar of all confidence histograms of the runs, so that they can share a scale."""
    records = [record for run in runs for record in (run.test, *run.ood.values())]
    return max(float(histogram_shares(max_probability(record.logits)).max()) for record in records)


def pictures_of(run: Run, name: str, slug: str, *, top: float | None = None) -> dict[str, Picture]:
    """Returns the figures of a run by their kind; what cannot be drawn from its files is left out.

    Args:
      run: the run.
      name: its name in words.
      slug: its name in file names.
      top: the largest share on the axis of its confidence histograms.
    """
    drawn: dict[str, Picture] = {}

    def add(kind: str, figure: Figure, alt: str) -> None:
        drawn[kind] = Picture(kind, f"{slug}-{kind}", alt, to_svg(figure), to_png(figure))

    bins = run.bins(N_BINS)
    add("reliability", reliability_diagram(bins, title="as trained"), _reliability_words(bins, name))
    if run.temperature is not None:
        scaled, how = run.bins(N_BINS, run.temperature), f"after temperature scaling, T = {run.temperature:.3f}"
        words = _reliability_words(scaled, f"{name}, {how}")
        add("reliability-after-temperature", reliability_diagram(scaled, title=how), words)
    inside = max_probability(run.test.logits)
    outside = {ood: max_probability(record.logits) for ood, record in run.ood.items()}
    histograms = confidence_histograms(inside, outside, in_name=run.test_name, top=top)
    add("confidence", histograms, _histogram_words({run.test_name: inside, **outside}, name))
    loss, accuracy = (_logged(run.progress, key) for key in ("train_loss", "validation_accuracy"))
    if len(loss) > 1 and accuracy:
        words = (
            f"Training of {name}: training loss goes from {loss[0][1]:.4f} (epoch {loss[0][0]:g}) to {loss[-1][1]:.4f} "
            f"(epoch {loss[-1][0]:g}), validation accuracy from {accuracy[0][1]:.4f} (epoch {accuracy[0][0]:g}) to "
            f"{accuracy[-1][1]:.4f} (epoch {accuracy[-1][0]:g})."
        )
        add("training", training_curve(loss, accuracy), words)
    return drawn


def _reliability_words(bins: Bins, name: str) -> str:
    described = "; ".join(
        f"{confidence:.3f}, {accuracy:.3f}, {int(count)}"
        for confidence, accuracy, count in zip(bins.confidence, bins.accuracy, bins.count, strict=True)
        if count
    )
    return (
        f"Reliability diagram of {name}: ECE {ece(bins):.4f} and OE {oe(bins):.4f} with {bins.n_bins} bins on "
        f"{bins.n:,} test examples. "
        f"Mean confidence, accuracy and number of examples, bin by bin where there are any: {described}."
    )


def _histogram_words(sets: dict[str, npt.NDArray[np.float64]], name: str) -> str:
    described = "; ".join(
        f"{dataset}: {len(values):,} examples, mean confidence {np.mean(values):.4f}, "
        f"{histogram_shares(values)[-1]:.4f} of them above 0.95"
        for dataset, values in sets.items()
    )
    return f"Histogram of the confidence of {name}. {described}."


def _logged(progress: Sequence[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    """Returns (epoch, value) for every epoch that logged a number under `key`; its last one counts."""
    by_epoch = {
        float(entry["epoch"]): float(entry[key])
        for entry in progress
        if _is_number(entry.get("epoch")) and _is_number(entry.get(key))
    }
    return sorted(by_epoch.items())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
