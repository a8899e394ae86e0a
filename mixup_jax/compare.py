"""Comparing networks by their logits: `mixup_jax.compare({..})` in Python, `python -m mixup_jax.compare` as a command.

The page is that of `report`; runs and files may stand on it together.  Neither jax nor TensorFlow is loaded.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixup_jax.command import CommandParser, callable_module, path, run_command
from mixup_jax.errors import InputError, local_path
from mixup_jax.escapes import is_plain, print_line
from mixup_jax.evaluation.arrays import Given, record_of
from mixup_jax.evaluation.measure import evaluate_records
from mixup_jax.evaluation.numbers import ARGUMENTS, FLAGS, Wording, check_numbers
from mixup_jax.report import STYLES
from mixup_jax.report.workers import cores
from mixup_jax.runs.arrays_file import DEFAULT_LIMIT, GIB
from mixup_jax.runs.formats import load_predictions
from mixup_jax.runs.records import Predictions

if TYPE_CHECKING:
    from mixup_jax.report.build import Page
    from mixup_jax.report.runs import RunRecord

EXAMPLES = """\
examples:
  # Three networks, each by its logits [N, K] and labels [N]: numpy.savez("resnet.npz", logits=..., labels=...)
  python -m mixup_jax.compare resnet.npz vit.npz mlp=runs/mlp-v2/test.npz --output=compared
  # Held-out records, to fit a temperature on, and two out-of-distribution sets, without labels:
  python -m mixup_jax.compare resnet.npz vit.npz --validation resnet=r-val.npz vit=v-val.npz \\
      --ood svhn:resnet=r-svhn.npz svhn:vit=v-svhn.npz noise:vit=v-noise.npz
  # A folder of records, named by their files, beside an evaluated run of mixup_jax.main:
  python -m mixup_jax.compare results/*.npz runs/fm-mixup-0
  # As a paper needs it: figures as PDF at column widths, tables in LaTeX:
  python -m mixup_jax.compare resnet.npz vit.npz --style=paper --output=paper

Differences are taken from the first network, over the same examples: their labels must be equal and in the same order.
"""
Sides = Mapping[str, Mapping[str, Predictions]]
"""Records by the name of a set, and by the name of the network."""


def compare(
    models: Mapping[str, Given],
    *,
    validation: Mapping[str, Given] | None = None,
    ood: Mapping[str, Mapping[str, Given]] | None = None,
    probabilities: bool | None = None,
) -> Page:
    """Returns a page that compares networks by their logits; a notebook shows it, `.save(folder)` writes all files.

    Args:
      models: by name, `(logits [N, K], labels [N])`, a `Predictions`, or the path of a file in a format of
        `load_predictions`.  Differences are taken from the first.
      validation: held-out examples of networks, by their names; a temperature is fitted on them.
      ood: by the name of an out-of-distribution set, logits `[N, K]` by the name of the network.
      probabilities: all of them are probabilities (True) or logits (False); None takes them for logits, and refuses
        what looks like probabilities.

    Raises:
      InputError: there is no network, a name is not that of one, or a record is one that `evaluate` refuses.
    """
    from mixup_jax.report.build import make_page

    said = bool(probabilities)
    tests = {name: record_of(given, None, said) for name, given in models.items()}
    held_out = {name: record_of(given, None, said) for name, given in (validation or {}).items()}
    foreign = {
        set_name: {name: record_of(given, None, said, labelled=False) for name, given in by_name.items()}
        for set_name, by_name in (ood or {}).items()
    }
    return make_page(networks(tests, held_out, foreign, probabilities, ARGUMENTS))


def networks(
    tests: Mapping[str, Predictions],
    validation: Mapping[str, Predictions],
    ood: Sides,
    probabilities: bool | None,
    wording: Wording,
) -> list[RunRecord]:
    """Evaluates the records of networks, by their names, and returns what the report needs of each."""
    from mixup_jax.report.runs import run_of_records

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
        found.append(run_of_records(name, document, test, outside))
    return found


def named(texts: Sequence[str], flag: str) -> dict[str, Path]:
    """Returns the paths of `NAME=PATH` by their names, in order; a path without a name is called like its file.

    Files of one name are called by their folder as well.
    """
    pairs = [(text.partition("=")[0], text.partition("=")[2]) if _has_name(text) else ("", text) for text in texts]
    places = [(name, local_path(place)) for name, place in pairs]
    stems = Counter(place.stem for name, place in places if not name)
    found: dict[str, Path] = {}
    for name, place in places:
        own = name or (place.stem if stems[place.stem] == 1 else f"{place.parent.name}/{place.stem}")
        if own in found:
            raise InputError(f"{flag} has two records called {own}: {found[own]} and {place}; expected NAME=PATH")
        found[own] = place
    return found


def _has_name(text: str) -> bool:
    return "=" in text and not Path(text).exists()


def main(argv: Sequence[str]) -> int:
    """Runs the command with these arguments, prints the path of the page and returns 0."""
    parser = CommandParser(
        prog="python -m mixup_jax.compare",
        description="Write the page of `report` about any networks: of each a file of logits and labels, or a run.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "networks",
        nargs="+",
        metavar="[NAME=]PATH",
        help="test record that `evaluate` reads, or folder of a run",
    )
    more: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    parser.add_argument("--validation", metavar="NAME=PATH", help="held-out record, to fit a temperature on", **more)
    parser.add_argument("--ood", metavar="SET:NAME=PATH", help="out-of-distribution record, labels not needed", **more)
    parser.add_argument("--probabilities", action="store_true", help="the files hold probabilities, not logits")
    parser.add_argument("--logits", action="store_true", help="the files hold logits, even if they look otherwise")
    parser.add_argument("--logits_key", metavar="NAME", help="name of the logits in the files")
    parser.add_argument("--labels_key", metavar="NAME", help="name of the labels in the files")
    parser.add_argument("--flatten", action="store_true", help="every pixel of logits [N, K, H, W] is an example")
    parser.add_argument("--ignore_label", type=int, metavar="L", help="examples with this label are left out")
    parser.add_argument("--max_gib", type=float, default=DEFAULT_LIMIT / GIB, metavar="X", help="most memory of a file")
    parser.add_argument("--output", default="compared", type=path, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=cores(), metavar="N", help="processes; default: %(default)s")
    parser.add_argument("--style", choices=STYLES, default="page", help="of the files: page (default) or paper")
    arguments = parser.parse_args(list(argv))
    if arguments.jobs < 1:
        raise InputError(f"--jobs is {arguments.jobs}; expected at least 1")
    if arguments.probabilities and arguments.logits:
        raise InputError("--logits given with --probabilities; expected one of them")
    # Imported here, because --help need not wait a second for the drawing libraries.
    from mixup_jax.report.build import write_report
    from mixup_jax.report.runs import load_runs

    folders = [text for text in arguments.networks if Path(text).is_dir()]
    said = True if arguments.probabilities else False if arguments.logits else None

    def runs() -> list[RunRecord]:
        files = [text for text in arguments.networks if text not in folders]
        records = records_of(arguments, files)
        return [*(load_runs(folders) if folders else []), *(networks(*records, said, FLAGS) if files else [])]

    print_line(write_report(runs, arguments.output, arguments.jobs, arguments.style))
    return 0


def records_of(
    arguments: Any, tests: Sequence[str]
) -> tuple[dict[str, Predictions], dict[str, Predictions], dict[str, dict[str, Predictions]]]:
    """Reads the files that the command names: test records, validation records and out-of-distribution records."""
    if not 0 < arguments.max_gib < float("inf"):
        raise InputError(f"--max_gib={arguments.max_gib} is not a size; expected a number above 0, such as 8")

    def read(files: Mapping[str, Path], *, labelled: bool = True) -> dict[str, Predictions]:
        names = ("probabilities", "logits_key", "labels_key", "flatten", "ignore_label")
        options = {name: getattr(arguments, name) for name in names} | {"limit": int(arguments.max_gib * GIB)}
        return {name: load_predictions(file, labelled=labelled, **options) for name, file in files.items()}

    by_set: dict[str, list[str]] = {}
    for text in arguments.ood:
        set_name, colon, rest = text.partition(":")
        if not (colon and set_name and "=" in rest):
            raise InputError(f"--ood {text} is not of the form SET:NAME=PATH; expected such as svhn:resnet=r-svhn.npz")
        by_set.setdefault(set_name, []).append(rest)
    for text in arguments.validation:
        if "=" not in text:
            raise InputError(f"--validation {text} names no network; expected NAME=PATH, such as resnet=r-val.npz")
    foreign = {one: read(named(texts, f"--ood {one}"), labelled=False) for one, texts in by_set.items()}
    return read(named(tests, "the command")), read(named(arguments.validation, "--validation")), foreign


callable_module(__name__, compare)

if __name__ == "__main__":
    sys.exit(run_command(main))
