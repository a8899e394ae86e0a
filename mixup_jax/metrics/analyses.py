"""Analyses made on request: groups of examples, a test of calibration, parts of proper scores; ensembles."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.metrics.binning import bin_confidences, check_confidences
from mixup_jax.metrics.calibration import ece
from mixup_jax.metrics.examined import examine
from mixup_jax.metrics.logits import blocks, check_logits
from mixup_jax.metrics.posthoc import fit_isotonic
from mixup_jax.metrics.replicates import sorted_run
from mixup_jax.metrics.resampling import row_counts
from mixup_jax.metrics.softmax import Floats, log_softmax
from mixup_jax.metrics.temperature import fit_temperature

MOST_GROUPS = 10_000


def by_group(confidence: npt.ArrayLike, correct: npt.ArrayLike, groups: npt.ArrayLike) -> dict[str, Any]:
    """Returns accuracy and ECE of each group of examples, and how far the groups are apart.

    ECE is of 15 bins, and larger by chance in small groups.

    Args:
      confidence: `[N]`.
      correct: `[N]`.
      groups: whole numbers or texts `[N]`: the group of each example.

    Returns:
      `groups`: {name: {`n`, `accuracy`, `mean_confidence`, `ece_15`}}; `worst_accuracy` and `worst_ece_15` over the
      groups, with their names in `worst_accuracy_of` and `worst_ece_15_of`; `accuracy_gap` and `ece_15_gap`, largest
      less smallest.
    """
    confidences, outcomes = check_confidences(confidence, correct)
    given = np.asarray(groups)
    if given.shape != confidences.shape or given.dtype.kind not in "iuU":
        raise InputError(
            f"groups have shape {list(given.shape)} and dtype {given.dtype}; expected whole numbers or texts "
            f"[{len(confidences)}], one for each example"
        )
    order = np.argsort(given, kind="stable")
    names, starts = np.unique(given[order], return_index=True)
    if len(names) > MOST_GROUPS:
        raise InputError(f"groups hold {len(names)} different values; expected at most {MOST_GROUPS}")
    parts = {}
    for name, rows in zip(names.tolist(), np.split(order, starts[1:]), strict=True):
        some, right = confidences[rows], outcomes[rows]
        parts[str(name)] = {
            "n": len(some),
            "accuracy": float(right.mean()),
            "mean_confidence": float(some.mean()),
            "ece_15": ece(bin_confidences(some, right)),
        }
    found: dict[str, Any] = {"groups": parts}
    for key, worst in (("accuracy", min), ("ece_15", max)):
        values = {name: part[key] for name, part in parts.items()}
        name = worst(values, key=values.__getitem__)
        found |= {f"worst_{key}": values[name], f"worst_{key}_of": name}
        found |= {f"{key}_gap": max(values.values()) - min(values.values())}
    return found


def calibration_test(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, *, resamples: int = 999, seed: int = 0
) -> dict[str, Any]:
    """Returns the p-value of the hypothesis that each prediction is right with a probability equal to its confidence.

    The correctness is redrawn under the hypothesis; p = (1 + redraws whose ECE, 15 bins, is at least that observed) /
    (1 + redraws).  Given the confidences, P(p <= a) <= a for every n and a: the test is exact, since observed and
    redrawn values are exchangeable (consistency resampling, Bröcker & Smith 2007; Vaicenavicius et al. 2019).  It sees
    only what ECE sees: a miscalibration that cancels within each bin is missed.
    """
    run = sorted_run(confidence, correct)
    starts = run.starts(15)
    expected = np.add.reduceat(run.confidence, starts)
    observed = np.abs(np.add.reduceat(run.correct.astype(np.float64), starts) - expected).sum()
    rng, reached = np.random.default_rng(seed), 0
    for rows in row_counts(run.n, resamples):
        redrawn = (rng.random((rows, run.n)) < run.confidence).astype(np.float64)
        distance = np.abs(np.add.reduceat(redrawn, starts, axis=1) - expected).sum(axis=1)
        reached += int((distance >= observed * (1 - 1e-12)).sum())  # rounding must not break a tie
    return {"statistic": "ece_15", "p_value": (1 + reached) / (1 + resamples), "resamples": resamples}


def refinement_parts(logits: npt.ArrayLike, labels: npt.ArrayLike) -> dict[str, float]:
    """Returns the parts of NLL and Brier score: refinement, left after recalibration, and calibration, the rest.

    Examples whose true class is impossible, which make NLL infinite, are left out of its parts.
    The recalibration is the temperature of least NLL **on these examples** (as Berta et al. 2025), so the calibration
    part of NLL is at least 0; that of the Brier score is hardly ever below.  For the Brier score of being
    right, it is the best non-decreasing map of the confidence on these examples (isotonic regression; Dimitriadis et
    al. 2021), whose calibration part is above 0 by chance.
    """
    temperature = fit_temperature(logits, labels)
    raw, scaled = (examine(logits, labels, scale) for scale in (1.0, temperature))
    found = {"temperature": temperature}
    for key, before, after in (
        ("nll", -raw.log_likelihood, -scaled.log_likelihood),
        ("brier", raw.brier, scaled.brier),
    ):
        possible = np.isfinite(before)
        if possible.any():
            refinement = float(after[possible].mean())
            calibration = float(before[possible].mean()) - refinement
            found |= {f"{key}_refinement": refinement, f"{key}_calibration": calibration}
    confidence, correct = raw.confidence, raw.correct
    mapped = fit_isotonic(confidence, correct).apply(confidence)
    refinement = float(np.square(mapped - correct).mean())
    own = float(np.square(confidence - correct).mean())
    found |= {"brier_top_label_refinement": refinement, "brier_top_label_calibration": own - refinement}
    return found


def ensemble_disagreement(members: Sequence[npt.ArrayLike]) -> dict[str, float]:
    """Returns how much the members of an ensemble differ, from the logits `[N, K]` of each.

    Returns:
      `mutual_information`: mean over examples of H(mean_m p_m) - mean_m H(p_m) in nats, H the entropy: 0 where all
      members agree on the probabilities, at most the logarithm of their number (Depeweg et al. 2018, "epistemic").
      `disagreement`: the share of pairs of members whose predicted classes differ, mean over examples.
    """
    tables = [check_logits(np.asarray(member)) for member in members]
    if len(tables) < 2 or any(table.shape != tables[0].shape for table in tables):
        raise InputError(f"{len(tables)} members, or of different shapes; expected at least two of the same examples")
    sums = Disagreement()
    n, classes = tables[0].shape
    for rows in blocks(n, classes * len(tables)):
        sums.add(np.stack([log_softmax(table[rows]) for table in tables]))
    return sums.means()


class Disagreement:
    """The sums of `ensemble_disagreement` over blocks of examples."""

    def __init__(self) -> None:
        self._examples, self._information, self._differing = 0, 0.0, 0.0

    def add(self, log_probabilities: Floats) -> None:
        """Adds some examples: the log-probabilities of at least two members, `[M, n, K]`."""
        p = np.exp(log_probabilities)
        mean = p.mean(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            of_mean = -np.nansum(mean * np.log(mean), axis=1)
            of_members = -np.nansum(p * log_probabilities, axis=2).mean(axis=0)
        self._examples += p.shape[1]
        self._information += float(np.maximum(of_mean - of_members, 0.0).sum())
        pairs = list(combinations(log_probabilities.argmax(axis=2), 2))
        self._differing += sum(int((one != other).sum()) for one, other in pairs) / len(pairs)

    def means(self) -> dict[str, float]:
        """Returns what `ensemble_disagreement` does."""
        return {
            "mutual_information": self._information / self._examples,
            "disagreement": self._differing / self._examples,
        }
