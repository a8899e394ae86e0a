"""Files of several networks, named on a command line as NAME=PATH."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mixup_jax.errors import InputError, local_path
from mixup_jax.runs.arrays_file import limit_of
from mixup_jax.runs.formats import load_predictions
from mixup_jax.runs.records import Predictions

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

    def read(files: Mapping[str, Path], *, labelled: bool = True) -> ByName:
        return {name: load_predictions(file, labelled=labelled, limit=limit, **options) for name, file in files.items()}

    by_set: dict[str, list[str]] = {}
    for text in ood:
        set_name, colon, rest = text.partition(":")
        if not (colon and set_name and "=" in rest):
            raise InputError(f"--ood {text} is not of the form SET:NAME=PATH; expected such as svhn:resnet=r-svhn.npz")
        by_set.setdefault(set_name, []).append(rest)
    for text in validation:
        if "=" not in text:
            raise InputError(f"--validation {text} names no network; expected NAME=PATH, such as resnet=r-val.npz")
    foreign = {one: read(named(texts, f"--ood {one}"), labelled=False) for one, texts in by_set.items()}
    return read(named(tests, "the command")), read(named(validation, "--validation")), foreign


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
