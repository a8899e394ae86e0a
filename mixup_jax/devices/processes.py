"""One run in several processes: joining them, agreeing, and leaving together.

Every process runs the same command and computes its devices' share. All save checkpoints together; the first alone
writes everything else.
"""

from __future__ import annotations

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
"""How long the others wait for the first to measure and write; if it dies meanwhile, `watch` ends them."""
INPUT_ERROR_SECONDS = 1.0
"""How long the first waits before it ends: a user's mistake is mostly made in all processes, and each reports it."""
DEFECT_SECONDS = 5.0
"""How long a process waits before it ends: the news that another has ended says more than the exception it caused."""


def is_first() -> bool:
    """Returns whether this is the process that writes."""
    return jax.process_index() == 0


def by_first(report: Callable[[str], None]) -> Callable[[str], None]:
    """Returns `report` in the process that writes, and what ignores its lines in the others."""
    return report if is_first() else lambda _: None


@contextlib.contextmanager
def joined(cluster: Cluster | None) -> Iterator[None]:
    """In this block the process is one of several, whose devices are all seen; alone if `cluster` is None.

    To be entered before jax is used.  At the end all processes wait for each other.  If one ends otherwise, by an
    exception or a signal, the others are ended too, within seconds as long as its machine answers, with the exit
    code `watch.EXIT_LOST` and a line that says which it was.  A process that an exception takes out of the block
    must end at once (`command.run_command` sees to it).

    Raises:
      InputError: the processes do not find each other, or the environment does not say who is who.
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
            # Else jax would ask the environment which devices to use; all of this machine are meant.
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
    """Ends this process, which waits in a call that cannot be interrupted; jax would end it with a traceback."""
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
    """Checks that all processes were given the same.

    Args:
      what: of which `value` is, such as "config"; it opens the message.
      value: JSON-serialisable.

    Raises:
      InputError: this process was given something else than the first.
    """
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest(), np.uint8)
    if not np.array_equal(multihost_utils.broadcast_one_to_all(digest), digest):
        raise InputError(
            f"{what} of process {jax.process_index()} is not that of process 0; expected the same command, "
            "version and files for every process"
        )


def wait_for_all(where: str) -> None:
    """Returns when every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)
