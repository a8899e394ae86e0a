"""Comparing networks by their logits: `mixup_jax.compare({..})` in Python, `python -m mixup_jax.compare` as a command.

The page is that of `report`; runs and files may stand on it together.  Neither jax nor TensorFlow is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixup_jax.command import CommandParser, callable_module, path, run_command
from mixup_jax.errors import InputError
from mixup_jax.escapes import print_line
from mixup_jax.evaluation.arrays import Given, evaluate_networks, load_named, record_of
from mixup_jax.evaluation.checks import ARGUMENTS, FLAGS
from mixup_jax.report import STYLES
from mixup_jax.report.workers import cores
from mixup_jax.runs.arrays_file import DEFAULT_LIMIT, GIB

if TYPE_CHECKING:
    from mixup_jax.report.build import Page
    from mixup_jax.report.runs import RunRecord

EXAMPLES = """\
examples:
  # Three networks, each by its logits [N, K] and labels [N]: numpy.savez("resnet.npz", logits=..., labels=...)
  python -m mixup_jax.compare resnet.npz vit.npz mlp=runs/mlp-v2/test.npz --output=compared
  # Held-out records, to fit a temperature on, and two out-of-distribution sets, without labels:
  python -m mixup_jax.compare a.npz b.npz --validation a=a-val.npz b=b-val.npz --ood svhn:a=a-svhn.npz noise:b=b-n.npz
  # A folder of records, named by their files, beside an evaluated run of mixup_jax.main:
  python -m mixup_jax.compare results/*.npz runs/fm-mixup-0
  # As a paper needs it: figures as PDF at column widths, tables in LaTeX:
  python -m mixup_jax.compare resnet.npz vit.npz --style=paper --output=paper

Differences are taken from the first network, over the same examples: their labels must be equal and in the same order.
"""


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
    from mixup_jax.report.runs import run_of_records

    said = bool(probabilities)
    tests = {name: record_of(given, None, said) for name, given in models.items()}
    held_out = {name: record_of(given, None, said) for name, given in (validation or {}).items()}
    foreign = {
        set_name: {name: record_of(given, None, said, labelled=False) for name, given in by_name.items()}
        for set_name, by_name in (ood or {}).items()
    }
    evaluated = evaluate_networks(tests, held_out, foreign, probabilities, ARGUMENTS)
    return make_page([run_of_records(*network) for network in evaluated])


def main(argv: Sequence[str]) -> int:
    """Runs the command with these arguments, prints the path of the page and returns 0."""
    description = "Write the page of `report` about any networks: of each a file of logits and labels, or a run."
    parser = CommandParser(prog="python -m mixup_jax.compare", description=description, epilog=EXAMPLES)
    parser.add_argument("networks", nargs="+", metavar="[NAME=]PATH", help="test record, or folder of a run")
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
    if arguments.probabilities and arguments.logits:
        raise InputError("--logits given with --probabilities; expected one of them")
    # Imported here, because --help need not wait a second for the drawing libraries.
    from mixup_jax.report.build import write_report
    from mixup_jax.report.runs import load_runs, run_of_records

    folders = [text for text in arguments.networks if Path(text).is_dir()]
    names = ("probabilities", "logits_key", "labels_key", "flatten", "ignore_label")
    options = {name: getattr(arguments, name) for name in names}
    said = True if arguments.probabilities else False if arguments.logits else None

    def runs() -> list[RunRecord]:
        files = [text for text in arguments.networks if text not in folders]
        records = load_named(files, arguments.validation, arguments.ood, options, arguments.max_gib)
        evaluated = evaluate_networks(*records, said, FLAGS) if files else []
        return [*(load_runs(folders) if folders else []), *(run_of_records(*network) for network in evaluated)]

    print_line(write_report(runs, arguments.output, arguments.jobs, arguments.style))
    return 0


callable_module(__name__, compare)

if __name__ == "__main__":
    sys.exit(run_command(main))
