"""`python -m mixup_jax.report RUN... --output=DIR`: writes one page about evaluated runs."""

import sys
from collections.abc import Sequence

from mixup_jax.command import CommandParser, path, run_command
from mixup_jax.escapes import print_line
from mixup_jax.methods.method import listed
from mixup_jax.report import STYLES
from mixup_jax.report.workers import cores

EXAMPLES = f"""\
examples:
  python -m mixup_jax.evaluate --workdir=runs/mixup-0                # first: each run is evaluated
  python -m mixup_jax.report runs/* --output=report                  # then: open report/index.html
  python -m mixup_jax.report runs/mr/* --output=report-mr --jobs=2
  python -m mixup_jax.report runs/mr/* --style=paper --output=paper    # figures as PDF, tables in paper.tex
  python -m mixup_jax.report runs/fm-erm-* runs/fm-mixup-* runs/fm-dropout-0+mc10 --output=report

Runs of one config and different seeds are one method, of which the page shows mean and standard deviation. Methods:

{listed()}
"""


def main(argv: Sequence[str]) -> int:
    """Parses the arguments, writes the report, prints the path of its page and returns 0."""
    parser = CommandParser(
        prog="python -m mixup_jax.report",
        description="Write index.html, results.json, table.md and figures about runs that were evaluated.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "runs", nargs="+", type=path, metavar="RUN", help="folder of an evaluated run (the --workdir it was trained in)"
    )
    parser.add_argument(
        "--output", default="report", type=path, metavar="DIR", help="folder to write to (default: %(default)s)"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=cores(),
        metavar="N",
        help="processes that draw, at most one for every 30 figures (default: the cores it may use, here %(default)s)",
    )
    parser.add_argument("--style", choices=STYLES, default="page", help="of the files: page (default) or paper")
    arguments = parser.parse_args(list(argv))
    # Imported here, because --help need not wait a second for the drawing libraries.
    from mixup_jax.report.build import build_report

    print_line(build_report(arguments.runs, arguments.output, arguments.jobs, arguments.style))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
