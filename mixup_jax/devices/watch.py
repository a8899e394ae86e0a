"""Ends this process when another process of the run has ended.

Otherwise a collective may wait for ever for a process that has ended: whether it fails depends on the kind of device.
So every process holds a connection to the first one, which the operating system closes however a process ends.  A
process that finds it closed without a message of leave prints a line and ends; the first process tells the others.
A machine that fails closes nothing: jax's own heartbeats end the others then.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

EXIT_LOST = 69
"""EX_UNAVAILABLE of sysexits.h: another process ended; the same commands continue."""

CONNECT_SECONDS = 60.0
GRACE_SECONDS = 2.0
"""Time for this process to report its own error, if the other ended because of something that is wrong here too."""
TOKEN_BYTES = 16
LEAVE = 2**32 - 1
"""In place of the number of a process that was lost."""

Connections = dict[int, socket.socket]
"""By the number of the process at the other end."""


@contextlib.contextmanager
def watching(host: str | None) -> Iterator[None]:
    """In this block the end of another process ends this one; a process that leaves it without an exception may end.

    All processes must enter it.  One that cannot be connected is not watched, and a line says so.

    Args:
      host: under which the first process is reached; None for its own address in its network.
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
    """Returns the connections of the others to this, the first process."""
    connections: Connections = {}
    token, deadline = secrets.token_bytes(TOKEN_BYTES), time.monotonic() + CONNECT_SECONDS
    with socket.create_server(("", 0), backlog=jax.process_count()) as server:
        _from_first(f"{host or _own_address()} {server.getsockname()[1]} {token.hex()}")
        while len(connections) < jax.process_count() - 1:
            server.settimeout(max(0.1, deadline - time.monotonic()))
            connection, _ = server.accept()
            connection.settimeout(CONNECT_SECONDS)
            greeting = _received(connection, TOKEN_BYTES + 4)
            if greeting[:TOKEN_BYTES] != token:  # a stranger
                connection.close()
                continue
            connection.settimeout(None)
            connections[int.from_bytes(greeting[TOKEN_BYTES:])] = connection
    return connections


def _connected() -> Connections:
    """Returns the connection of this process to the first."""
    host, port, token = _from_first("").split(" ")
    connection = socket.create_connection((host, int(port)), CONNECT_SECONDS)
    connection.settimeout(None)
    connection.sendall(bytes.fromhex(token) + jax.process_index().to_bytes(4))
    return {0: connection}


def _own_address() -> str:
    """Returns the address of this machine in its network; its name if it has no network."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("10.255.255.255", 1))  # sends nothing: it only chooses the interface
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()


def _from_first(text: str) -> str:
    """Returns the text of the first process."""
    padded = np.frombuffer(text.encode().ljust(512), np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(padded)).tobytes().decode().strip()


def _received(connection: socket.socket, size: int) -> bytes:
    """Returns `size` bytes, or fewer if the other end closes before."""
    received = b""
    while len(received) < size and (part := connection.recv(size - len(received))):
        received += part
    return received


def _tell(connections: Connections, number: int) -> None:
    for connection in connections.values():
        with contextlib.suppress(OSError):
            connection.sendall(number.to_bytes(4))


def _watch(peer: int, connections: Connections) -> None:
    """Waits for a message of the other end or for its end, and ends this process unless the message is LEAVE."""
    try:
        said = _received(connections[peer], 4)
    except OSError:
        said = b""
    lost = int.from_bytes(said) if len(said) == 4 else peer
    if lost == LEAVE:
        return
    if peer != 0:  # jax ends a process that the first has left, and nothing can be awaited
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
