"""Which figures a run gets, and what each shows in words for those who cannot see it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mixup_jax import figures
from mixup_jax.metrics.binning import Bins, bin_edges
from mixup_jax.metrics.calibration import ece, oe
from mixup_jax.metrics.softmax import max_probability
from mixup_jax.report.picture import Picture, Spot, draw
from mixup_jax.report.runs import Run

N_BINS = 15
COUNTS_DEPTH = 0.42
"""How far below a reliability diagram its panel of counts reaches, in parts of its height."""


def largest_share(runs: Sequence[Run]) -> float:
    """Returns the tallest bar of all confidence histograms of the runs, so that they can share a scale."""
    records = [record for run in runs for record in (run.test, *run.ood.values())]
    return max(float(figures.histogram_shares(max_probability(record.logits)).max()) for record in records)


def smallest_share(runs: Sequence[Run]) -> float:
    """Returns half an example of the largest set, where logarithmic histograms of the runs begin."""
    return 0.5 / max(len(record.labels) for run in runs for record in (run.test, *run.ood.values()))


def pictures_of(
    run: Run,
    name: str,
    slug: str,
    *,
    top: float | None = None,
    bottom: float | None = None,
    ood_tokens: Mapping[str, str] | None = None,
) -> dict[str, Picture]:
    """Returns the figures of a run by their kind; what cannot be drawn from its files is left out.

    Args:
      run: the run.
      name: its name in words.
      slug: its name in file names.
      top: the largest share on the axis of its confidence histograms.
      bottom: the smallest on a logarithmic axis.
      ood_tokens: the tokens of out-of-distribution sets by name.
    """
    drawn = {"reliability": _reliability("reliability", run.bins(N_BINS), name, slug, "as trained")}
    if run.temperature is not None:
        how = f"after temperature scaling, T = {run.temperature:.3f}"
        kind, scaled = "reliability-after-temperature", run.bins(N_BINS, run.temperature)
        drawn[kind] = _reliability(kind, scaled, f"{name}, {how}", slug, how)
    inside = max_probability(run.test.logits)
    outside = {ood: max_probability(record.logits) for ood, record in run.ood.items()}
    words = _histogram_words({run.test_name: inside, **outside}, name)
    tokens = [(ood_tokens or {}).get(ood, "") for ood in outside]
    spots = _histogram_spots({run.test_name: inside, **outside}, ["", *tokens])
    by_part = {f"set-{index}": token for index, token in enumerate(tokens)}
    scales: tuple[tuple[str, Literal["linear", "log"]], ...] = (("confidence", "linear"), ("confidence-log", "log"))
    for kind, scale in scales:
        axes = figures.confidence_histogram(inside, outside, in_name=run.test_name, scale=scale, top=top, bottom=bottom)
        drawn[kind] = draw(kind, f"{slug}-{kind}", axes, words, spots=spots, tokens=by_part)
    loss, accuracy = (logged(run.progress, key) for key in ("train_loss", "validation_accuracy"))
    if len(loss) > 1 and accuracy:
        words = (
            f"Training of {name}: training loss goes from {loss[0][1]:.4f} (epoch {loss[0][0]:g}) to {loss[-1][1]:.4f} "
            f"(epoch {loss[-1][0]:g}), validation accuracy from {accuracy[0][1]:.4f} (epoch {accuracy[0][0]:g}) to "
            f"{accuracy[-1][1]:.4f} (epoch {accuracy[-1][0]:g})."
        )
        drawn["training"] = draw("training", f"{slug}-training", figures.training_curve(loss, accuracy), words)
    return drawn


def _reliability(kind: str, bins: Bins, name: str, slug: str, title: str) -> Picture:
    axes = figures.reliability_diagram(bins, title=title)
    words, spots = _reliability_words(bins, name), _reliability_spots(bins)
    return draw(kind, f"{slug}-{kind}", axes, words, spots=spots, depth=COUNTS_DEPTH)


def _reliability_spots(bins: Bins) -> list[Spot]:
    low, high = figures.wilson_interval(bins.correct_sum, bins.count)
    spots = []
    for m in np.flatnonzero(bins.count):
        gap = bins.confidence[m] - bins.accuracy[m]
        side = "over-confident" if gap > 0 else "under-confident"
        lines = (
            f"confidence {bins.edges[m]:.3f} to {bins.edges[m + 1]:.3f}: {int(bins.count[m]):,} examples",
            f"accuracy {bins.accuracy[m]:.4f} (95 %: {low[m]:.4f} to {high[m]:.4f})",
            f"mean confidence {bins.confidence[m]:.4f}",
            f"{side} by {abs(gap):.4f}" if gap else "confidence equals accuracy",
        )
        spots.append(Spot(float(bins.edges[m]), float(bins.edges[m + 1]), [(line, "") for line in lines]))
    return spots


def _histogram_spots(sets: Mapping[str, npt.NDArray[np.float64]], tokens: Sequence[str]) -> list[Spot]:
    shares = {name: figures.histogram_shares(confidence) for name, confidence in sets.items()}
    edges = bin_edges(len(next(iter(shares.values()))))
    spots = []
    for m, (low, high) in enumerate(itertools.pairwise(edges)):
        named = zip(shares.items(), tokens, strict=True)
        lines = [(f"{name}: {share[m]:.4f} of the examples", token) for (name, share), token in named]
        if any(share[m] for share in shares.values()):
            spots.append(Spot(float(low), float(high), [(f"confidence {low:.2f} to {high:.2f}", ""), *lines]))
    return spots


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
        f"{figures.histogram_shares(values)[-1]:.4f} of them above 0.95"
        for dataset, values in sets.items()
    )
    return f"Histogram of the confidence of {name}. {described}."


def logged(progress: Sequence[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    """Returns (epoch, value) for every epoch that logged a number under `key`; its last one counts."""
    by_epoch = {
        float(entry["epoch"]): float(entry[key])
        for entry in progress
        if _is_number(entry.get("epoch")) and _is_number(entry.get(key))
    }
    return sorted(by_epoch.items())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
