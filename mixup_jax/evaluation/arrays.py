"""Evaluates logits of any origin: of one network (`mixup_jax.evaluate`), or of several that are to be compared."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError, local_path
from mixup_jax.escapes import is_plain
from mixup_jax.evaluation.checks import ARGUMENTS, Wording, as_probabilities, check_numbers
from mixup_jax.evaluation.measure import evaluate_records
from mixup_jax.runs.arrays_file import limit_of
from mixup_jax.runs.formats import as_record, load_predictions
from mixup_jax.runs.names import Reading
from mixup_jax.runs.records import Predictions

Given = npt.ArrayLike | tuple[npt.ArrayLike, npt.ArrayLike] | Predictions | str | os.PathLike[str]
"""Logits `[N, K]`; logits and labels `[N]`; a record; or the path of a file that holds one."""
USUAL = Reading()


def evaluate(
    logits: Given,
    labels: npt.ArrayLike | None = None,
    *,
    validation: Given | None = None,
    ood: Mapping[str, Given] | None = None,
    probabilities: bool | None = None,
    posthoc: Sequence[str] = (),
    extra: Sequence[str] = (),
    features: bool = False,
    near: Sequence[str] = (),
    all_intervals: bool = False,
    logits_key: str | None = None,
    labels_key: str | None = None,
    flatten: bool = False,
    ignore_label: int | None = None,
) -> dict[str, Any]:
    """Returns the evaluation of one network's logits, as in evaluation.json; docs/metrics.md defines every number.

    Logits are an array `[N, K]` of NumPy, JAX or PyTorch, a `Predictions`, or the path of a file in a format of
    `load_predictions`.  bfloat16 becomes float32.

    Args:
      logits: of the test examples.
      labels: their classes, integers `[N]` in 0 .. K-1; None if `logits` is a record or a path, which has them.
      validation: `(logits, labels)` of held-out examples, a record or a path; the temperature is fitted on it.
      ood: logits of out-of-distribution examples by the name of their data set.
      probabilities: all of them are probabilities (True) or logits (False); None takes them for logits, and refuses
        what looks like probabilities.
      posthoc: further methods to fit on the validation examples: those of `--posthoc`.
      extra: further analyses: "classes", "groups", "refinement", "calibration_test",
        "conformal", "recalibration"; "gen" adds this score to `ood`.
      features: also score by the penultimate features that the records or files hold.
      near: those of `ood` that are near the data; the means of them and of the others, which are far, are added.
      all_intervals: also bootstrap adaptive, smooth and class-wise ECE (some seconds more).
      logits_key: the name of the logits in files; see `load_predictions`.
      labels_key: the name of the labels in files.
      flatten: logits are `[N, K, ..]` or `[N, .., K]` and labels `[N, ..]`, as of segmentation: each position is an
        example, and intervals resample the N images.
      ignore_label: examples with this label are left out.

    Returns:
      {"results": {"test": {"accuracy", "ece_15", "nll", .., "intervals"}, ..}, "ood": {name: ..}, ..}

    Raises:
      InputError: logits or labels have a wrong shape, type or value, are not of one network, or look like
        probabilities while nothing is said.
    """
    said = bool(probabilities)
    reading = Reading(logits_key, labels_key, flatten, ignore_label, features=features, groups="groups" in extra)
    test = record_of(logits, labels, said, reading)
    reading = replace(reading, classes=test.logits.shape[1])
    foreign = {name: record_of(given, None, said, reading, labelled=False) for name, given in (ood or {}).items()}
    held_out = None if validation is None else record_of(validation, None, said, reading)
    records = {"test": test, "validation": held_out, **{f"ood[{name!r}]": one for name, one in foreign.items()}}
    numbers = check_numbers({name: one for name, one in records.items() if one}, probabilities, ARGUMENTS)
    document = evaluate_records(
        test,
        validation=held_out,
        ood=foreign,
        posthoc=posthoc,
        extra=extra,
        features=features,
        near=near,
        all_intervals=all_intervals,
    )
    return document | {"numbers": numbers}


def record_of(
    given: Given, labels: npt.ArrayLike | None, probabilities: bool, reading: Reading = USUAL, *, labelled: bool = True
) -> Predictions:
    """Returns the record of what an argument of `evaluate` holds; its labels may be missing unless `labelled`."""
    if isinstance(given, Predictions | str | os.PathLike):
        if labels is not None:
            raise InputError("labels given with a record or a file, which holds its own; expected the logits alone")
        if isinstance(given, Predictions):
            if reading.flatten or reading.ignore_label is not None:
                raise InputError(
                    "flatten or ignore_label given with a record, whose examples are fixed; expected arrays"
                )
            return as_probabilities(given) if probabilities else given
        return load_predictions(
            local_path(given), probabilities=probabilities, **(vars(reading) | {"labelled": labelled})
        )
    if isinstance(given, tuple) and len(given) == 2:
        given, labels = given
    if labels is None and labelled:
        raise InputError("labels are missing; expected them beside the logits: (logits, labels)")
    classes = None if labels is None else _array(labels)
    return as_record(_array(given), classes, reading, "the logits", {}, probabilities=probabilities)


def _array(given: Any) -> npt.NDArray[Any]:
    """Returns an array of NumPy, JAX or PyTorch as NumPy's; bfloat16, which NumPy does not have, as float32."""
    if hasattr(given, "detach"):  # a tensor of PyTorch, which may need gradients or lie on an accelerator
        given = given.detach().cpu()
        given = given.float() if str(given.dtype) == "torch.bfloat16" else given
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise InputError(f"logits or labels are no array ({error}); expected numbers [N, K] and [N]") from error
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


class Evaluated(NamedTuple):
    """A network, what evaluation.json would hold of it, and the records it was computed from."""

    name: str
    document: dict[str, Any]
    test: Predictions
    ood: dict[str, Predictions]


def evaluate_networks(
    tests: Mapping[str, Predictions],
    validation: Mapping[str, Predictions],
    ood: Mapping[str, Mapping[str, Predictions]],
    probabilities: bool | None,
    wording: Wording,
) -> list[Evaluated]:
    """Evaluates records by the names of their networks, in the order of the test records.

    Args:
      tests: the test records.
      validation: held-out records, of some or all networks; a temperature is fitted on them.
      ood: out-of-distribution records, by the name of the set and of the network.
      probabilities: what all records hold; None refuses those that look like probabilities.
      wording: how a refusal names the arguments.

    Raises:
      InputError: there is no network, a name is not that of one, or a record is one that `evaluate` refuses.
    """
    if not tests:
        raise InputError("no network given; expected at least one, such as resnet=test.npz")
    for what, names in (("validation", validation), *((f"ood {one}", by_name) for one, by_name in ood.items())):
        for name in names:
            if name not in tests:
                raise InputError(f"{what} names {name!r}, which is no network here; expected one of {', '.join(tests)}")
    found = []
    for name, test in tests.items():
        if not is_plain(name):
            raise InputError(f"name {name!r} of a network has characters that cannot be printed; expected plain text")
        outside = {one: by_name[name] for one, by_name in ood.items() if name in by_name}
        held_out = validation.get(name)
        records = {name: test, f"validation of {name}": held_out}
        records |= {f"{one} of {name}": record for one, record in outside.items()}
        check_numbers({what: record for what, record in records.items() if record}, probabilities, wording)
        try:
            document = evaluate_records(test, validation=held_out, ood=outside, test_name="test", config={}, step=0)
        except InputError as error:
            raise InputError(f"network {name}: {error}") from error
        found.append(Evaluated(name, document, test, outside))
    return found


ByName = dict[str, Predictions]


def load_named(
    tests: Sequence[str],
    validation: Sequence[str],
    ood: Sequence[str],
    options: Mapping[str, Any],
    max_gib: float,
) -> tuple[ByName, ByName, dict[str, ByName]]:
    """Returns the test, validation and out-of-distribution records of networks by their names, the last by set too.

    Tests are `[NAME=]PATH` (see `named`), validation `NAME=PATH`, out-of-distribution `SET:NAME=PATH`, whose labels
    are not needed; `options` are those of `load_predictions`.  A text of another form, or two records of one name,
    raise InputError.
    """
    limit = limit_of(max_gib)

    def read(files: Mapping[str, Path], like: ByName | None = None) -> ByName:
        known = {name: record.logits.shape[1] for name, record in (like or {}).items()}
        return {
            name: load_predictions(file, labelled=like is None, classes=known.get(name), limit=limit, **options)
            for name, file in files.items()
        }

    by_set: dict[str, list[str]] = {}
    for text in ood:
        set_name, colon, rest = text.partition(":")
        if not (colon and set_name and "=" in rest):
            raise InputError(f"--ood {text} is not of the form SET:NAME=PATH; expected such as svhn:resnet=r-svhn.npz")
        by_set.setdefault(set_name, []).append(rest)
    for text in validation:
        if "=" not in text:
            raise InputError(f"--validation {text} names no network; expected NAME=PATH, such as resnet=r-val.npz")
    tested = read(named(tests, "the command"))
    foreign = {one: read(named(texts, f"--ood {one}"), tested) for one, texts in by_set.items()}
    return tested, read(named(validation, "--validation")), foreign


def named(texts: Sequence[str], flag: str) -> dict[str, Path]:
    """Returns the paths of `NAME=PATH` by their names, in order; a path without a name is called like its file.

    Files of one name are called by their folder as well.
    """
    places = []
    for text in texts:
        name, equals, rest = text.partition("=")
        has_name = equals and not Path(text).exists()
        places.append((name, local_path(rest)) if has_name else ("", local_path(text)))
    stems = Counter(place.stem for name, place in places if not name)
    found: dict[str, Path] = {}
    for name, place in places:
        own = name or (place.stem if stems[place.stem] == 1 else f"{place.parent.name}/{place.stem}")
        if own in found:
            raise InputError(f"{flag} has two records called {own}: {found[own]} and {place}; expected NAME=PATH")
        found[own] = place
    return found
