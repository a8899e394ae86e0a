"""Figures of the test and foreign sets that the paper draws and the overview does not: points and winning scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np

from mixup_jax import figures
from mixup_jax.figures.scores import mean_shares
from mixup_jax.metrics.binning import Bins, bin_edges
from mixup_jax.metrics.examined import examine
from mixup_jax.metrics.softmax import Floats
from mixup_jax.report import wording
from mixup_jax.report.choices import Choices
from mixup_jax.report.comparisons import NOT_TRAINING, comparable
from mixup_jax.report.groups import Group, differing, kind
from mixup_jax.report.picture import Picture, Spot, draw
from mixup_jax.report.quantities import ood_names
from mixup_jax.report.sheet import csv_bytes

N_BINS = 15
SCALED = " + temp. scaling"


def scatter_pictures(groups: Sequence[Group]) -> list[tuple[Group, Picture]]:
    """Returns accuracy against confidence as points, of each group beside the baseline that resembles it most.

    A baseline that another group is drawn beside has no figure of its own.
    """
    beside = {group: nearest_baseline(group, groups) for group in groups}
    taken: set[str] = set()
    return [
        (group, _scatter(group, beside[group], wording.slug(f"{group.name} scatter", taken)))
        for group in groups
        if beside[group] is not None or group not in beside.values()
    ]


def nearest_baseline(group: Group, groups: Sequence[Group]) -> Group | None:
    """Returns the baseline whose settings are nearest; None where there is none, or for a baseline."""
    if kind(group.first) == "baseline":
        return None
    candidates = [one for one in groups if kind(one.first) == "baseline" and comparable(one, group)]
    return min(candidates, key=lambda one: len(differing(one.first, group.first, NOT_TRAINING)), default=None)


def pooled_bins(group: Group) -> Bins:
    """Returns the calibration bins of the test examples of all seeds together."""
    return reduce(Bins.merge, (run.bins(N_BINS) for run in group.runs))


def _scatter(group: Group, baseline: Group | None, name: str) -> Picture:
    bins = {one.name: pooled_bins(one) for one in (baseline, group) if one is not None}
    rows: list[tuple[str | float | None, ...]] = []
    words = []
    for one, found in bins.items():
        full = np.flatnonzero(found.count)
        cells = [(found.confidence[m], found.accuracy[m], found.count[m] / found.n) for m in full]
        rows += [(one, *map(float, cell)) for cell in cells]
        described = "; ".join(f"{confidence:.4f}, {accuracy:.4f}, {share:.4f}" for confidence, accuracy, share in cells)
        words.append(f"{one} ({found.n:,} examples): {described}")
    told = "Mean confidence, accuracy and share of the examples of each bin"
    alt = f"Accuracy against confidence. {told}. {' '.join(words)}."
    data = csv_bytes(("group", "mean_confidence", "accuracy", "share"), rows)
    return draw("scatter", name, figures.bin_scatter(bins), alt, csv=data)


def score_pictures(groups: Sequence[Group], choices: Choices) -> list[tuple[str, Picture]]:
    """Returns the winning scores of all groups on each out-of-distribution set, with its name.

    Baselines are drawn after temperature scaling too.  None where there are fewer than two groups.
    """
    pictures = []
    for ood in ood_names([run for group in groups for run in group.runs]):
        found = [group for group in groups if all(ood in run.ood for run in group.runs)]
        if len(found) > 1:
            pictures.append((ood, _scores(ood, found, choices)))
    return pictures


def _scores(ood: str, groups: Sequence[Group], choices: Choices) -> Picture:
    scores: dict[str, list[Floats]] = {}
    tokens: dict[str, str] = {}
    for group in groups:
        scaled = kind(group.first) == "baseline" and all(run.temperature for run in group.runs)
        for name, after in ((group.name, False), *([(group.name + SCALED, True)] if scaled else [])):
            tokens[f"curve-{len(scores)}"] = choices.of_group(group)
            scores[name] = [
                examine(run.ood[ood].logits, run.ood[ood].labels, (run.temperature or 1.0) if after else 1.0).confidence
                for run in group.runs
            ]
    means = {name: float(np.mean([seed.mean() for seed in seeds])) for name, seeds in scores.items()}
    words = "; ".join(f"{name} {mean:.4f}" for name, mean in means.items())
    return draw(
        "scores",
        f"winning-scores-{wording.slug(ood, set())}",
        figures.winning_scores(scores),
        f"Histogram of the winning score on {ood}. Mean winning score: {words}.",
        spots=_score_spots(scores, tokens),
        tokens=tokens,
        csv=_shares_csv(scores),
    )


def _score_spots(scores: Mapping[str, Sequence[Floats]], tokens: Mapping[str, str]) -> list[Spot]:
    shares = {name: mean_shares(seeds, name) for name, seeds in scores.items()}
    edges = bin_edges(len(next(iter(shares.values()))))
    spots = []
    for m in range(len(edges) - 1):
        named = zip(shares.items(), tokens.values(), strict=True)
        lines = [(f"{name}: {share[m]:.4f} of the examples", token) for (name, share), token in named]
        span = f"winning score {edges[m]:.2f} to {edges[m + 1]:.2f}"
        spots.append(Spot(float(edges[m]), float(edges[m + 1]), [(span, ""), *lines]))
    return spots


def _shares_csv(scores: Mapping[str, Sequence[Floats]]) -> bytes:
    rows: list[tuple[str | float | None, ...]] = []
    for name, seeds in scores.items():
        shares = mean_shares(seeds, name)
        edges = bin_edges(len(shares))
        rows += [(name, float(edges[m]), float(edges[m + 1]), float(share)) for m, share in enumerate(shares)]
    return csv_bytes(("method", "score_low", "score_high", "share"), rows)
