"""Which arrays and columns of a file are the logits and the labels: those asked for, or the usual names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mixup_jax.errors import InputError
from mixup_jax.runs.arrays_file import DEFAULT_LIMIT
from mixup_jax.runs.files import shown
from mixup_jax.runs.tables import Columns

LABEL = "label"
LOGITS_NAMES = (
    *("logits", "logit", "predictions", "preds", "outputs", "output", "scores", "probabilities", "probs"),
    *("y_pred", "y_score", "arr_0", "0", "tensor"),
)
LABELS_NAMES = ("labels", "label", "label_ids", "targets", "target", "y_true", "y", "arr_1", "1", "tensor")
"""The names that are tried, in this order; the last are numpy's for arrays without a name, and places in a tuple."""
_PLAIN = ("logits", "labels", "label", "tensor")
_NUMBERED = re.compile(r"(.*?)(0|[1-9][0-9]{0,8})")
_INDEX = re.compile(r"|Unnamed: ?[0-9]+|index|idx|id|__index_level_[0-9]+__", re.IGNORECASE)


@dataclass(frozen=True)
class Reading:
    """How files are to be read: the arguments of `formats.load_predictions` of these names.

    A key that is None tries `LOGITS_NAMES` or `LABELS_NAMES`.
    """

    logits_key: str | None = None
    labels_key: str | None = None
    flatten: bool = False
    ignore_label: int | None = None
    limit: int = DEFAULT_LIMIT
    labelled: bool = True
    features: bool = False
    groups: bool = False
    classes: int | None = None


def names_of(path: Path, names: list[str], reading: Reading) -> tuple[str, str | None, list[str]]:
    """Returns the names of the logits and, if they are there, of the labels, and what is to be said of the choice."""
    logits = chosen_name(path, names, "logits", reading.logits_key, LOGITS_NAMES)
    rest = [name for name in names if name != logits]
    labels = _labels_of(path, rest, reading, LABELS_NAMES)
    if logits is None:
        raise InputError(
            f"predictions file {path} lacks logits (it holds {listed(names)}); "
            "expected logits and labels, or --logits_key to name them"
        )
    return logits, labels, _choice({"logits": logits, "labels": labels}, reading)


def listed(names: Sequence[str]) -> str:
    """Returns the first names of a file's arrays or columns, for a message."""
    return ", ".join(shown(name) for name in names[:8]) or "nothing"


def _choice(chosen: dict[str, str | None], reading: Reading) -> list[str]:
    asked = (reading.logits_key, reading.labels_key)
    return [
        f"{name[:40]!r} is taken for the {what}"
        for what, name in chosen.items()
        if name is not None and name not in (*_PLAIN, *asked)
    ]


def chosen_name(path: Path, names: Sequence[str], what: str, key: str | None, usual: Sequence[str]) -> str | None:
    """Returns the name that was asked for, or else the first of the usual ones that is there."""
    if key is None:
        return next((name for name in usual if name in names), None)
    if key not in names:
        raise InputError(f"predictions file {path} holds {listed(names)}; expected {key!r}, as --{what}_key says")
    return key


def _labels_of(path: Path, names: Sequence[str], reading: Reading, usual: Sequence[str]) -> str | None:
    if not reading.labelled and reading.labels_key not in names:
        return None if reading.labels_key else chosen_name(path, names, "labels", None, usual)
    return chosen_name(path, names, "labels", reading.labels_key, usual)


def columns_of(
    path: Path, names: Sequence[str], of_lists: frozenset[int], reading: Reading
) -> tuple[Columns, list[str]]:
    """Returns the columns of classes 0 .. K-1 in this order, or the one of lists; that of labels; and what to say."""
    if names.count(LABEL) > 1:
        raise InputError(f"predictions file {path} has {names.count(LABEL)} columns named {LABEL!r}; expected one")
    label = _labels_of(path, names, reading, [name for name in LABELS_NAMES if name != "1"])
    labels = [] if label is None else [names.index(label)]
    lists = [names[place] for place in sorted(of_lists)]
    if lists:
        usual = [*LOGITS_NAMES, *(lists if len(lists) == 1 else [])]
        logits = chosen_name(path, lists, "logits", reading.logits_key, usual)
        if logits is None:
            raise InputError(
                f"predictions file {path} has lists in {listed(lists)}; expected --logits_key to say which"
            )
        return Columns([names.index(logits)], labels), _choice({"logits": logits, "labels": label}, reading)
    classes, left_out = _class_columns(path, names, label, reading.logits_key)
    said = _choice({"labels": label}, reading)
    return Columns(classes, labels), said + [f"column {name[:40]!r} is left out" for name in left_out[:8]]


def _class_columns(
    path: Path, names: Sequence[str], label: str | None, prefix_asked: str | None
) -> tuple[list[int], list[str]]:
    """Returns the places of the columns of classes 0 .. K-1, in this order, and the names of columns left out."""
    places: dict[tuple[str, int], int] = {}
    left_out = []
    for place, name in enumerate(names):
        match = _NUMBERED.fullmatch(name)
        if name == label:
            continue
        asked = match is not None and match[1] == prefix_asked
        if (_INDEX.fullmatch(name) and not asked) or (prefix_asked is not None and not asked):
            left_out.append(name)
            continue
        if match is None:
            raise InputError(
                f"predictions file {path}: column {name[:40]!r} is neither {LABEL!r} nor a class; "
                "expected classes named 0, 1, .. with or without a text before the number, such as logit_0 "
                "(--logits_key=logit_ takes these alone)"
            )
        if (match[1], int(match[2])) in places:
            raise InputError(f"predictions file {path} has two columns named {name[:40]!r}; expected one")
        places[match[1], int(match[2])] = place
    prefix = next(iter(places), (prefix_asked or "", 0))[0]
    classes = len(places)
    missing = [f"{prefix}{number}" for number in range(max(classes, 2)) if (prefix, number) not in places]
    if missing:
        raise InputError(
            f"predictions file {path} lacks the column {missing[0][:40]!r} (it has {classes} besides {LABEL!r}); "
            "expected a column for each class, numbered from 0"
        )
    return [places[prefix, number] for number in range(classes)], left_out
