"""One run in several processes: starting, checking that they agree, and ending together.

Every process runs the same command and computes on its own devices. All processes save checkpoints together; only the
first writes the other files.

A collective could wait for ever for a process that has ended; this depends on the kind of device.  So every process
holds a connection to the first one, which the operating system closes when the process ends for any reason.  If it is
closed without a LEAVE message, the process at the other end prints a line and ends; the first process tells the others.
If a whole machine fails, no connection is closed, and jax's heartbeats end the other processes.
"""

import contextlib
import hashlib
import json
import os
import secrets
import socket
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
from mixup_jax.errors import InputError

HOURS = 3600
SLOW_SECONDS = 10.0
CONNECT_SECONDS = 300.0
LEAVE_SECONDS = 24 * HOURS
"""Seconds that the others wait while the first measures and writes; if it dies meanwhile, `watching` ends them."""
INPUT_ERROR_SECONDS = 1.0
"""Seconds that the first process waits before it ends with an error, so that the others can report theirs."""
DEFECT_SECONDS = 5.0
"""Seconds that a process waits before it ends with an error, since the end of another process may be the cause."""
EXIT_LOST = 69
"""EX_UNAVAILABLE of sysexits.h: another process ended; the same commands resume the run."""

WATCH_SECONDS = 60.0
"""Seconds in which the processes must connect to the first one, to be watched."""
GRACE_SECONDS = 2.0
"""Seconds for this process to report its own error, if the cause of the other's end affects it too."""
TOKEN_BYTES = 16
LEAVE = 2**32 - 1
"""Sent instead of the number of a lost process, by a process that ends as planned."""

Connections = dict[int, socket.socket]
"""The connections by the number of the process at the other end."""


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
    code `EXIT_LOST` and a line that names it.  After an exception in the block the process must end at once
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


@contextlib.contextmanager
def watching(host: str | None) -> Iterator[None]:
    """Ends this process if another one ends during the block; a process that leaves the block normally may end.

    All processes must enter it.  If a process cannot be connected, a line says so, and it is not watched.

    `host` is the address of the first process; None means this machine's own address in its network.
    """
    try:
        connections = _accepted(host) if jax.process_index() == 0 else _connected()
    except OSError as error:
        print(f"process {jax.process_index()} cannot be watched by the first: {error}", file=sys.stderr, flush=True)
        connections = {}
    for peer in connections:
        threading.Thread(target=_watch, args=(peer, connections), name=f"watch {peer}", daemon=True).start()
    yield
    _tell(connections, LEAVE)


def _accepted(host: str | None) -> Connections:
    """Returns the connections of the other processes to this one, the first."""
    connections: Connections = {}
    token, deadline = secrets.token_bytes(TOKEN_BYTES), time.monotonic() + WATCH_SECONDS
    with socket.create_server(("", 0), backlog=jax.process_count()) as server:
        _from_first(f"{host or _own_address()} {server.getsockname()[1]} {token.hex()}")
        while len(connections) < jax.process_count() - 1:
            server.settimeout(max(0.1, deadline - time.monotonic()))
            connection, _ = server.accept()
            connection.settimeout(WATCH_SECONDS)
            greeting = _received(connection, TOKEN_BYTES + 4)
            if greeting[:TOKEN_BYTES] != token:  # not a process of this run
                connection.close()
                continue
            connection.settimeout(None)
            connections[int.from_bytes(greeting[TOKEN_BYTES:])] = connection
    return connections


def _connected() -> Connections:
    """Returns the connection of this process to the first."""
    host, port, token = _from_first("").split(" ")
    connection = socket.create_connection((host, int(port)), WATCH_SECONDS)
    connection.settimeout(None)
    connection.sendall(bytes.fromhex(token) + jax.process_index().to_bytes(4))
    return {0: connection}


def _own_address() -> str:
    """Returns the address of this machine in its network; its name if it has no network."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("10.255.255.255", 1))  # for a UDP socket this sends nothing, it only chooses the interface
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()


def _from_first(text: str) -> str:
    """Returns the text that the first process passed."""
    padded = np.frombuffer(text.encode().ljust(512), np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(padded)).tobytes().decode().strip()


def _received(connection: socket.socket, size: int) -> bytes:
    """Returns `size` bytes, or fewer if the other end closes the connection first."""
    received = b""
    while len(received) < size and (part := connection.recv(size - len(received))):
        received += part
    return received


def _tell(connections: Connections, number: int) -> None:
    for connection in connections.values():
        with contextlib.suppress(OSError):
            connection.sendall(number.to_bytes(4))


def _watch(peer: int, connections: Connections) -> None:
    """Waits for a message or for the end of the connection, and ends this process unless the message is LEAVE."""
    try:
        said = _received(connections[peer], 4)
    except OSError:
        said = b""
    lost = int.from_bytes(said) if len(said) == 4 else peer
    if lost == LEAVE:
        return
    if peer != 0:  # without the first process, jax ends this one soon: do not wait
        time.sleep(GRACE_SECONDS)
    _tell({number: other for number, other in connections.items() if number != peer}, lost)
    print(
        f"process {lost} of {jax.process_count()} has ended, so process {jax.process_index()} ends too (see the output "
        "of the former); the last checkpoint is whole, and the same commands continue",
        file=sys.stderr,
        flush=True,
    )
    sys.stdout.flush()
    os._exit(EXIT_LOST)
