"""Ends this process when another process of the run has ended.

Otherwise a collective could wait for ever for a process that has ended; this depends on the kind of device.  So every
process holds a connection to the first one, which the operating system closes when the process ends for any reason.  If
it is closed without a LEAVE message, the process at the other end prints a line and ends; the first process tells the
others.  If a whole machine fails, no connection is closed, and jax's heartbeats end the other processes.
"""

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
"""EX_UNAVAILABLE of sysexits.h: another process ended; the same commands resume the run."""

CONNECT_SECONDS = 60.0
GRACE_SECONDS = 2.0
"""Seconds for this process to report its own error, if the cause of the other's end affects it too."""
TOKEN_BYTES = 16
LEAVE = 2**32 - 1
"""Sent instead of the number of a lost process, by a process that ends as planned."""

Connections = dict[int, socket.socket]
"""The connections by the number of the process at the other end."""


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
    token, deadline = secrets.token_bytes(TOKEN_BYTES), time.monotonic() + CONNECT_SECONDS
    with socket.create_server(("", 0), backlog=jax.process_count()) as server:
        _from_first(f"{host or _own_address()} {server.getsockname()[1]} {token.hex()}")
        while len(connections) < jax.process_count() - 1:
            server.settimeout(max(0.1, deadline - time.monotonic()))
            connection, _ = server.accept()
            connection.settimeout(CONNECT_SECONDS)
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
    connection = socket.create_connection((host, int(port)), CONNECT_SECONDS)
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
