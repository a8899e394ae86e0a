"""A folder belongs to one process at a time."""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from mixup_jax.errors import InputError

LOCK_FILE = "lock"
UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)


@contextlib.contextmanager
def hold(workdir: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock of a folder for the time of the block.

    The operating system releases it when the process ends, however it ends, so a lock cannot be left
    behind; the file stays and says who held it last.

    Args:
      workdir: of the run; must exist.
      report: takes a line where the file system knows no locks, and the run goes on without.

    Raises:
      InputError: another process holds it; the message says which, where and since when.  Or its file cannot be opened.
    """
    path = workdir / LOCK_FILE
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(
            f"{path} cannot be opened ({error.strerror}); expected a writable file, by which a run keeps its folder to "
            "itself: delete it if no run goes on there"
        ) from error
    try:
        _take(descriptor, path, report)
        since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path, report: Callable[[str], None]) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "a process that has just started"
        raise InputError(
            f"workdir {path.parent} is in use by {holder} ({path}); expected one run in a folder at a time: "
            "wait for it or end it, or choose another --workdir"
        ) from error
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        report(f"{path.parent} is on a file system without locks ({error}); take care that no other run writes there")
