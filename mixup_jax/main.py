"""The command that trains: `python -m mixup_jax.main --config=FILE[:VARIANT] --workdir=DIR`."""

import sys
from collections.abc import Sequence

from mixup_jax.command import CommandParser, path, run_command
from mixup_jax.devices import cluster
from mixup_jax.escapes import print_line
from mixup_jax.methods.method import listed

DESCRIPTION = f"""\
Train a classifier of images or text. The methods, which a config file has as its variants:

{listed()}

The result depends on the config and the seed alone. With the same command an interrupted run continues from its last
checkpoint, and a finished one is left as it is.

On SIGTERM or Ctrl-C the run finishes its step, saves a checkpoint and exits with code 75; on a second signal it
exits at once. Other exit codes: 0 trained; 2 something given is wrong, or a file cannot be written (one line says
what); 3 the machine is to blame (docs/errors.md); 69 another process of the run has ended (docs/distributed.md).
"""

EXAMPLES = """\
examples:
  python -m mixup_jax.data fashion_mnist mnist            # once: get the data
  python -m mixup_jax.main --config=configs/quickstart.py:mixup --workdir=runs/quickstart-mixup
  python -m mixup_jax.main --config=configs/fashion_mnist.py:erm --workdir=runs/fm-erm-1 --config.seed=1
  python -m mixup_jax.evaluate --workdir=runs/quickstart-mixup

settings:
  Every setting can be given as --config.KEY=VALUE, for example --config.epochs=5,
  --config.method.mixup_alpha=0.4 or --config.optimizer.step_epochs=30,60,80.
  docs/configuration.md lists them.
"""


def main(argv: Sequence[str]) -> int:
    """Runs the command with its arguments; returns the exit code."""
    parser = CommandParser(prog="python -m mixup_jax.main", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument(
        "--config", required=True, metavar="FILE[:VARIANT]", help="config file, and which of its variants"
    )
    parser.add_argument(
        "--workdir", required=True, type=path, metavar="DIR", help="folder of this run; made if missing"
    )
    parser.add_argument(
        "--data_dir",
        type=path,
        metavar="DIR",
        help="where data is prepared (default: $TFDS_DATA_DIR or ~/tensorflow_datasets)",
    )
    parser.add_flags(cluster.TITLE, cluster.FLAGS)
    arguments, overrides = parser.parse_known_args(argv)
    processes = cluster.requested(vars(arguments))

    # Imported here, so that --help and a mistyped flag need not wait for jax, which takes seconds.
    from mixup_jax.config_file import load_config, unscaled_steps
    from mixup_jax.environment import check_versions
    from mixup_jax.libraries import keep_freed_memory

    check_versions()
    keep_freed_memory()
    config = load_config(arguments.config, overrides)
    unscaled = unscaled_steps(arguments.config, config)

    from mixup_jax.data.cache import default_data_dir
    from mixup_jax.devices.processes import is_first, joined
    from mixup_jax.training.loop import train
    from mixup_jax.training.stop import EXIT_INTERRUPTED, Interrupted, Signals

    with joined(processes):
        try:
            if unscaled and is_first():
                print_line(unscaled)
            with Signals() as stop:
                train(config, arguments.workdir, arguments.data_dir or default_data_dir(), stop=stop)
        except Interrupted as interrupted:
            if is_first():
                print_line(interrupted, sys.stderr)
            return EXIT_INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
