"""The part `ood` of evaluation.json: how well scores tell the test set from out-of-distribution sets."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixup_jax.errors import InputError, unknown_name
from mixup_jax.metrics import table
from mixup_jax.metrics.examined import Examined
from mixup_jax.metrics.feature_scores import apply
from mixup_jax.metrics.measuring import scores_of, separation
from mixup_jax.metrics.ood_scores import have_level
from mixup_jax.metrics.softmax import Floats
from mixup_jax.metrics.table import Score
from mixup_jax.runs.records import Predictions

NO_LEVEL = "the records hold probabilities or their logarithms, which have no level that this score could read"
NO_LARGEST = "the records hold logits less the largest of their row, which this score would have to read"
ENTRIES = {"labels": "train_labels", "kernel": "head_kernel"}
"""The fields of `Training` that a score may need, by their names in a file."""
Pairs = Mapping[Score, tuple[Floats, Floats]]
"""Scores of the in-distribution and of the out-of-distribution examples."""

NO_PAIRS: Pairs = {}
NONE_MISSING: Mapping[str, str] = {}


def check_features(test: Predictions, ood: Mapping[str, Predictions]) -> None:
    """Raises InputError for a record that lacks the features that scores of features need."""
    if test.features is None or test.training is None:
        raise InputError(
            "scores of features need features and train_features (and train_labels, head_kernel, head_bias) of "
            "the test record, which lacks them; expected an .npz or a record that holds them"
        )
    size = test.training.features.shape[1]
    records = {"the test record": test} | {f"out-of-distribution record {name}": one for name, one in ood.items()}
    for name, record in records.items():
        if record.features is None or record.features.shape[1] != size:
            found = "lacks features" if record.features is None else f"has features of size {record.features.shape[1]}"
            raise InputError(f"{name} {found}; expected features [N, {size}], as train_features have")


def on_request(test: Predictions, outside: Predictions, names: Sequence[str]) -> Pairs:
    """Returns the scores of logits that are made only on request, as far as they are among the names."""
    return {
        score: (score.on_request(test.logits), score.on_request(outside.logits))
        for score in table.SCORES
        if score.on_request is not None and score.key in names
    }


class FeatureScores:
    """The scores of features, fitted on the training examples of the test record.

    Attributes:
      missing: why a score could not be fitted, by its key.
      size: D, of a feature vector.
      examples: M, of training.
    """

    def __init__(self, test: Predictions) -> None:
        """Fits the scores; the records have passed `check_features`."""
        assert test.training is not None
        training = test.training
        self.examples, self.size = training.features.shape
        rows = [score for score in table.SCORES if score.fit is not None]
        lacking = {score: [ENTRIES[need] for need in score.needs if getattr(training, need) is None] for score in rows}
        self.missing = {
            score.key: f"the test record has no {' and no '.join(names)}" for score, names in lacking.items() if names
        }
        self._fitted = {}
        for score in rows:
            if score.fit is not None and score.key not in self.missing:
                try:
                    self._fitted[score] = score.fit(training)
                except InputError as error:  # of these features it cannot be made
                    self.missing[score.key] = str(error)
        self._inside = self._of(test)

    def pairs(self, outside: Predictions) -> Pairs:
        """Returns the scores of the test examples and of those of an out-of-distribution record."""
        found = self._of(outside)
        return {score: (self._inside[score], found[score]) for score in found}

    def _of(self, record: Predictions) -> dict[Score, Floats]:
        assert record.features is not None
        return {score: apply(fitted, record.features) for score, fitted in self._fitted.items()}


def ood_entry(
    inside: list[Examined],
    outside: list[Examined],
    temperature: float | None,
    *,
    all_intervals: bool = False,
    further: Pairs = NO_PAIRS,
    missing: Mapping[str, str] = NONE_MISSING,
) -> dict[str, Any]:
    """Returns one entry of `ood`: how well scores tell two sets apart, which were `examined`.

    Returns:
      score ("msp"), n_in, n_out, the numbers of `metrics.table.DETECTION`, mean_confidence (of the OOD set) and
      `intervals`: {key: [low, high]}, 95 %; `scores`: for each further score of `metrics.table.SCORES` the same
      numbers, intervals and the mean score of each set (None where infinite); `temperature`; and
      `after_temperature`, the keys before it for logits / temperature, without the `further` scores.  The last two are
      None without one.
    """
    no_level = _no_level(inside[0], outside[0])
    entries = []
    for number, (examples, foreign) in enumerate(zip(inside, outside, strict=True)):
        others = scores_of(foreign)
        pairs = {score: (score_in, others[score]) for score, score_in in scores_of(examples).items()}
        nothing = {score.key: no_level for score in pairs if score.level} if no_level else {}
        if number == 0:
            pairs, nothing = {**pairs, **further}, {**nothing, **missing}
        entries.append(_separated(examples, foreign, pairs, nothing, all_intervals))
    return {**entries[0], "temperature": temperature, "after_temperature": None if temperature is None else entries[1]}


def _no_level(*sets: Examined) -> str | None:
    """Returns why scores that read the level of the logits mean nothing for these sets, or None."""
    if not all(have_level(each.energy) for each in sets):
        return NO_LEVEL
    return NO_LARGEST if any(not each.max_logit.any() for each in sets) else None


def _separated(
    inside: Examined, outside: Examined, pairs: Pairs, nothing: Mapping[str, str], all_intervals: bool
) -> dict[str, Any]:
    """Returns the numbers for each pair of scores; None for those of which `nothing` says why they mean nothing."""
    found: dict[str, Any] = {}
    for score, (score_in, score_out) in pairs.items():
        if score.key in nothing:
            found[score.key] = None
            continue
        means = {"mean_in": _finite(score_in.mean()), "mean_out": _finite(score_out.mean())}
        found[score.key] = separation(score_in, score_out, slow=all_intervals) | means
    found |= dict.fromkeys(nothing)
    # The numbers of the first score are those of the entry itself; its intervals come after the numbers.
    first = next(iter(found))
    main = {key: value for key, value in found.pop(first).items() if key not in ("mean_in", "mean_out")}
    bounds = main.pop("intervals")
    return {
        "score": first,
        "n_in": len(inside),
        "n_out": len(outside),
        **main,
        "mean_confidence": float(outside.confidence.mean()),
        "intervals": bounds,
        "scores": found,
        **({"no_information": dict(nothing)} if nothing else {}),
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def check_near(near: Sequence[str], names: Sequence[str]) -> None:
    """Raises InputError for a near set that is none of the out-of-distribution sets."""
    for name in near:
        if name not in names:
            raise unknown_name("near out-of-distribution set", name, names)


def group_entry(near: Sequence[str], entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns `ood_groups`: the means of the near sets and of all others, the far ones, as OpenOOD reports them.

    Every set counts alike, whatever its size.

    Returns:
      {"near" and "far" as far as there are any: {"sets": names, "scores": {score: {number: mean over the sets}}}}; a
      score that is null for a set is left out.
    """
    groups = {"near": [name for name in entries if name in near], "far": [name for name in entries if name not in near]}
    return {group: {"sets": sets, "scores": _means(entries, sets)} for group, sets in groups.items() if sets}


def _means(entries: Mapping[str, Mapping[str, Any]], sets: Sequence[str]) -> dict[str, dict[str, float]]:
    by_set = [{entries[name]["score"]: entries[name], **entries[name]["scores"]} for name in sets]
    shared = [score for score in by_set[0] if all(found.get(score) for found in by_set)]
    return {
        score: {row.key: float(np.mean([found[score][row.key] for found in by_set])) for row in table.DETECTION}
        for score in shared
    }
