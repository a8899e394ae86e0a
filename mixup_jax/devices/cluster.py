"""The flags of a run in several processes: how many processes there are, and which one this is."""

from dataclasses import dataclass
from typing import Any

from mixup_jax.command import Flag
from mixup_jax.errors import InputError

TITLE = "on several machines or accelerators, one command for each process"
FLAGS = (
    Flag("distributed", None, "this is one process of several, as a TPU pod slice, Slurm, Open MPI or Kubernetes says"),
    Flag("coordinator", "HOST:PORT", "instead of --distributed: where process 0 is reached, any free port"),
    Flag("processes", "N", "with --coordinator: how many there are", type=int),
    Flag("process", "I", "with --coordinator: which this one is, 0 to N-1", type=int),
)


@dataclass(frozen=True)
class Cluster:
    """The processes of a run; all attributes are None if jax asks the cluster for them.

    Attributes:
      coordinator: HOST:PORT at which all processes can reach process 0.
      processes: the number of processes.
      process: the number of this process, from 0.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None


def requested(flags: dict[str, Any]) -> Cluster | None:
    """Removes FLAGS from `flags` and returns their meaning; None for a run in one process."""
    values = {flag.name: flags.pop(flag.name, None) for flag in FLAGS}
    distributed = values.pop("distributed")
    given = [name for name, value in values.items() if value is not None]
    if not given:
        return Cluster() if distributed else None
    if distributed:
        raise InputError(
            f"--distributed given with --{given[0]}; expected --distributed alone, where the cluster says who is "
            "who, or --coordinator, --processes and --process"
        )
    missing = [name for name in values if name not in given]
    if missing:
        raise InputError(
            f"--{given[0]} given without --{missing[0]}; expected --coordinator=HOST:PORT, --processes=N and "
            "--process=I, or --distributed"
        )
    _check_address(values["coordinator"])
    if values["processes"] < 1:
        raise InputError(f"--processes={values['processes']}; expected how many processes there are, at least 1")
    if not 0 <= values["process"] < values["processes"]:
        raise InputError(
            f"--process={values['process']}, but there are {values['processes']}; "
            f"expected 0 to {values['processes'] - 1}"
        )
    return Cluster(**values)


def _check_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InputError(
            f"--coordinator={address}; expected HOST:PORT with a port from 1 to 65535, such as 10.0.0.1:1234"
        )
