"""Which process of how many this one is: the flags of a command that several processes run together."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from mixup_jax.errors import InputError

FLAGS = ("coordinator", "processes", "process")


@dataclass(frozen=True)
class Cluster:
    """Several processes with one run; all None where jax finds them out by itself.

    Attributes:
      coordinator: HOST:PORT at which process 0 can be reached by all.
      processes: how many there are.
      process: which this one is, from 0.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `requested` reads."""
    group = parser.add_argument_group("on several machines or accelerators, one command for each process")
    group.add_argument(
        "--distributed",
        action="store_true",
        default=None,
        help="this is one process of several, as a TPU pod slice, Slurm, Open MPI or Kubernetes says",
    )
    group.add_argument("--coordinator", metavar="HOST:PORT", help="instead: where process 0 is reached, any free port")
    group.add_argument("--processes", type=int, metavar="N", help="with --coordinator: how many there are")
    group.add_argument("--process", type=int, metavar="I", help="with --coordinator: which this one is, 0 to N-1")


def requested(flags: argparse.Namespace) -> Cluster | None:
    """Returns what the flags say, None where the process is alone.

    Raises:
      InputError: they contradict each other, or name no process that there can be.
    """
    given = [name for name in FLAGS if getattr(flags, name) is not None]
    if not given:
        return Cluster() if flags.distributed else None
    if flags.distributed:
        raise InputError(
            f"--distributed given with --{given[0]}; expected --distributed alone, where the cluster says who is "
            "who, or --coordinator, --processes and --process"
        )
    missing = [name for name in FLAGS if name not in given]
    if missing:
        raise InputError(
            f"--{given[0]} given without --{missing[0]}; expected --coordinator=HOST:PORT, --processes=N and "
            "--process=I, or --distributed"
        )
    _check_address(flags.coordinator)
    if flags.processes < 1:
        raise InputError(f"--processes={flags.processes}; expected how many processes there are, at least 1")
    if not 0 <= flags.process < flags.processes:
        raise InputError(
            f"--process={flags.process}, but there are {flags.processes}; expected 0 to {flags.processes - 1}"
        )
    return Cluster(flags.coordinator, flags.processes, flags.process)


def _check_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InputError(
            f"--coordinator={address}; expected HOST:PORT with a port from 1 to 65535, such as 10.0.0.1:1234"
        )
