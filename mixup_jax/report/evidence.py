"""`python -m mixup_jax.report.evidence DOCUMENT...`: writes the tables of documents from the records of runs.

A document marks the place and the content of a table by two comments; the text between them is replaced:

    <!-- methods results/quickstart: accuracy ece_15 ood/mnist/auroc -->
    ...
    <!-- end -->

`methods` has a line for each group of runs, with the numbers that are named by their keys in results.json.  `claims`
has a line for each claim of the paper, judged for the named mixup groups or for all.  The folder is relative to the
document and holds run folders; if it has none, the table says so.  The main table of each folder, table.md, is written
beside the runs.  Within a line, `state` says whether the config file was run, according to a folder of runs:

    <!-- state ../configs/mr.py results/mr -->ready to run<!-- end -->
"""

import sys
from collections.abc import Sequence

from mixup_jax.command import CommandParser, path, run_command
from mixup_jax.escapes import print_line
from mixup_jax.report.document_tables import written
from mixup_jax.runs.files import write_atomically

EXAMPLES = """\
examples:
  python -m mixup_jax.report.evidence README.md docs/results/README.md
  python -m mixup_jax.report.evidence README.md --check
"""


def main(argv: Sequence[str]) -> int:
    """Parses the arguments, writes the tables and prints the files that changed.

    Returns 0, or with --check, which writes nothing, 1 if a file would change.
    """
    parser = CommandParser(
        prog="python -m mixup_jax.report.evidence",
        description=__doc__.partition("\n\n")[2],
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "documents", nargs="+", type=path, metavar="DOCUMENT", help="a Markdown file with marked tables"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a file is out of date")
    arguments = parser.parse_args(list(argv))
    changed = [
        (file, text) for file, text in written(arguments.documents) if not file.exists() or file.read_text() != text
    ]
    for file, text in changed:
        if not arguments.check:
            write_atomically(file, text.encode())
        print_line(file)
    return int(arguments.check and bool(changed))


if __name__ == "__main__":
    sys.exit(run_command(main))
