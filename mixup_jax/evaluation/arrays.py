"""`mixup_jax.evaluate`, which evaluates logits of any origin, for example in a notebook."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError, local_path
from mixup_jax.evaluation.measure import evaluate_records
from mixup_jax.evaluation.numbers import ARGUMENTS, as_probabilities, check_numbers
from mixup_jax.runs.formats import load_predictions
from mixup_jax.runs.records import Predictions, logits_of_probabilities, no_labels

Given = npt.ArrayLike | tuple[npt.ArrayLike, npt.ArrayLike] | Predictions | str | os.PathLike[str]
"""Logits `[N, K]`; logits and labels `[N]`; a record; or the path of a file that holds one."""


def evaluate(
    logits: Given,
    labels: npt.ArrayLike | None = None,
    *,
    validation: Given | None = None,
    ood: Mapping[str, Given] | None = None,
    probabilities: bool | None = None,
    posthoc: Sequence[str] = (),
    all_intervals: bool = False,
) -> dict[str, Any]:
    """Returns the evaluation of one network's logits, as in evaluation.json; docs/metrics.md defines every number.

    Logits are an array `[N, K]` of NumPy, JAX or PyTorch, a `Predictions`, or the path of a file in a format of
    `load_predictions`.

    Args:
      logits: of the test examples.
      labels: their classes, integers `[N]` in 0 .. K-1; None if `logits` is a record or a path, which has them.
      validation: `(logits, labels)` of held-out examples, a record or a path; the temperature is fitted on it.
      ood: logits of out-of-distribution examples by the name of their data set.
      probabilities: all of them are probabilities (True) or logits (False); None takes them for logits, and refuses
        what looks like probabilities.
      posthoc: further methods to fit on the validation examples: "vector_scaling", "isotonic".
      all_intervals: also bootstrap adaptive, smooth and class-wise ECE (some seconds more).

    Returns:
      {"results": {"test": {"accuracy", "ece_15", "nll", .., "intervals"}, ..}, "ood": {name: ..}, ..}

    Raises:
      InputError: logits or labels have a wrong shape, type or value, are not of one network, or look like
        probabilities while nothing is said.
    """
    said = bool(probabilities)
    foreign = {name: _record_of(given, None, said, labelled=False) for name, given in (ood or {}).items()}
    test = _record_of(logits, labels, said)
    held_out = None if validation is None else _record_of(validation, None, said)
    records = {"test": test, "validation": held_out, **{f"ood[{name!r}]": one for name, one in foreign.items()}}
    numbers = check_numbers({name: one for name, one in records.items() if one}, probabilities, ARGUMENTS)
    document = evaluate_records(test, validation=held_out, ood=foreign, posthoc=posthoc, all_intervals=all_intervals)
    return document | {"numbers": numbers}


def _record_of(
    given: Given, labels: npt.ArrayLike | None, probabilities: bool, *, labelled: bool = True
) -> Predictions:
    if isinstance(given, Predictions | str | os.PathLike):
        if labels is not None:
            raise InputError("labels given with a record or a file, which holds its own; expected the logits alone")
        if isinstance(given, Predictions):
            return as_probabilities(given) if probabilities else given
        return load_predictions(local_path(given), probabilities=probabilities, labelled=labelled)
    if isinstance(given, tuple) and len(given) == 2:
        given, labels = given
    logits = np.asarray(given)
    if logits.dtype.name == "bfloat16":  # JAX's, which numpy does not count among the floating-point types
        logits = logits.astype(np.float32)
    if labels is None:
        if labelled:
            raise InputError("labels are missing; expected them beside the logits: (logits, labels)")
        labels = no_labels(logits)
    return Predictions(logits_of_probabilities(logits) if probabilities else logits, np.asarray(labels))
