"""One run in several processes: starting, checking that they agree, and ending together.

Every process runs the same command and computes on its own devices. All processes save checkpoints together; only the
first writes the other files.
"""

import contextlib
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from mixup_jax.command import EXIT_BAD_INPUT
from mixup_jax.devices.cluster import Cluster
from mixup_jax.devices.watch import watching
from mixup_jax.errors import InputError

HOURS = 3600
SLOW_SECONDS = 10.0
CONNECT_SECONDS = 300.0
LEAVE_SECONDS = 24 * HOURS
"""Seconds that the others wait while the first measures and writes; if it dies meanwhile, `watch` ends them."""
INPUT_ERROR_SECONDS = 1.0
"""Seconds that the first process waits before it ends with an error, so that the others can report theirs."""
DEFECT_SECONDS = 5.0
"""Seconds that a process waits before it ends with an error, since the end of another process may be the cause."""


def is_first() -> bool:
    """Returns whether this is the first process, which writes the files."""
    return jax.process_index() == 0


def by_first(report: Callable[[str], None]) -> Callable[[str], None]:
    """Returns `report` in the first process, and a function that does nothing in the others."""
    return report if is_first() else lambda _: None


@contextlib.contextmanager
def joined(cluster: Cluster | None) -> Iterator[None]:
    """Joins this process with the others of its run during the block; does nothing if `cluster` is None.

    It must be entered before jax is used.  At the end of the block, all processes wait for each other.  If one ends
    earlier, by an exception or a signal, the others end within seconds (later if its machine fails), with the exit
    code `watch.EXIT_LOST` and a line that names it.  After an exception in the block the process must end at once
    (`command.run_command` does so).

    Raises:
      InputError: the processes do not find each other, or the environment does not say how they are numbered.
    """
    if cluster is None:
        yield
        return
    _join(cluster)
    host = None if cluster.coordinator is None else cluster.coordinator.rpartition(":")[0]
    with watching(host):
        try:
            yield
        except InputError:
            if is_first():
                time.sleep(INPUT_ERROR_SECONDS)
            raise
        except Exception:
            time.sleep(DEFECT_SECONDS)
            raise
        jax.distributed.shutdown()


def _join(cluster: Cluster) -> None:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    slow, late = threading.Timer(SLOW_SECONDS, _be_patient), threading.Timer(CONNECT_SECONDS, _give_up, [cluster])
    for timer in (slow, late):
        timer.daemon = True
        timer.start()
    try:
        jax.distributed.initialize(
            cluster.coordinator,
            cluster.processes,
            cluster.process,
            # Otherwise jax would ask the environment which devices to use; we want all devices of this machine.
            cluster_detection_method=None if cluster.coordinator is None else "deactivate",
            initialization_timeout=int(CONNECT_SECONDS) + 60,
            shutdown_timeout_seconds=LEAVE_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise _not_joined(cluster, reason) from error
    finally:
        slow.cancel()
        late.cancel()


def _be_patient() -> None:
    print(f"waiting for the other processes, at most {CONNECT_SECONDS:g} s", file=sys.stderr, flush=True)


def _give_up(cluster: Cluster) -> None:
    """Ends this process, whose main thread waits in a call that cannot be interrupted, without jax's traceback."""
    print(f"error: {_not_joined(cluster, f'not all came within {CONNECT_SECONDS:g} s')}", file=sys.stderr, flush=True)
    os._exit(EXIT_BAD_INPUT)


def _not_joined(cluster: Cluster, reason: str) -> InputError:
    if cluster.coordinator is None:
        return InputError(
            f"--distributed: this process could not join others ({reason}); expected to be started on a TPU pod "
            "slice, by Slurm, Open MPI or Kubernetes, or with --coordinator, --processes and --process"
        )
    return InputError(
        f"--coordinator={cluster.coordinator}: process {cluster.process} of {cluster.processes} could not join "
        f"({reason}); expected a free port of the machine of process 0, which all can reach, and each process "
        "from 0 to N-1 started once"
    )


def check_agreement(what: str, value: Any) -> None:
    """Raises InputError unless all processes were given the same JSON-serialisable value; `what` is its name."""
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest(), np.uint8)
    if not np.array_equal(multihost_utils.broadcast_one_to_all(digest), digest):
        raise InputError(
            f"{what} of process {jax.process_index()} is not that of process 0; expected the same command, "
            "version and files for every process"
        )


def wait_for_all(where: str) -> None:
    """Returns when every process has called it."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)
