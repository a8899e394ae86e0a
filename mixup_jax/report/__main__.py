"""`python -m mixup_jax.report RUN... --output=DIR`: one page about finished and evaluated runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mixup_jax.command import CommandParser, path, run_command


def main(argv: Sequence[str]) -> int:
    """Parses the arguments, writes the report, prints the path of its page and returns 0."""
    parser = CommandParser(
        prog="python -m mixup_jax.report",
        description="Write index.html, results.json, table.md and figures about runs that were evaluated.",
    )
    parser.add_argument(
        "runs", nargs="+", type=path, metavar="RUN", help="folder of an evaluated run (the --workdir it was trained in)"
    )
    parser.add_argument(
        "--output", default="report", type=path, metavar="DIR", help="folder to write to (default: %(default)s)"
    )
    arguments = parser.parse_args(list(argv))
    # Drawing libraries take a second to load, which --help need not wait for.
    from mixup_jax.report.build import build_report

    print(build_report(arguments.runs, arguments.output))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
