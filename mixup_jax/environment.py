"""Failures of the machine, explained in one line with a remedy: packages, space, memory, network, permissions."""

import errno
import socket
import urllib.error
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mixup_jax.errors import InputError

CHECKED = ("mixup_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint")
"""Packages whose versions must fit together. pip ensures this, but not with --no-deps or after a later install."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
TOO_MANY = (errno.EMFILE, errno.ENFILE)
NETWORK = (urllib.error.URLError, socket.gaierror, ConnectionError, TimeoutError)


def check_versions() -> None:
    """Checks that the versions of the packages that training needs work together.

    Requirements are read from the packages' metadata, which takes milliseconds and loads none of them.  Upper bounds of
    mixup_jax itself are ignored: they are only the newest versions that it was tested with.

    An InputError gives the command that installs the missing or unsuitable package.
    """
    for owner in CHECKED:
        for needed in _requirements(owner):
            try:
                found = metadata.version(needed.name)
            except metadata.PackageNotFoundError:
                raise InputError(
                    f"package {needed.name} is not installed, which {owner} needs; "
                    f"expected it installed: pip install '{needed.name}{needed.specifier}'"
                ) from None
            broken = [bound for bound in needed.specifier if not bound.contains(found, prereleases=True)]
            if any(owner != "mixup_jax" or not bound.operator.startswith("<") for bound in broken):
                raise InputError(
                    f"package {needed.name} is version {found}, with which {owner} {metadata.version(owner)} does not "
                    f"work; expected {needed.specifier}: pip install '{needed.name}{needed.specifier}'"
                )


def _requirements(owner: str) -> Iterator[Requirement]:
    """Yields what a package requires of those in CHECKED; nothing if it is not installed itself."""
    try:
        texts = metadata.requires(owner) or ()
    except metadata.PackageNotFoundError:  # a source tree, or reported as missing before
        return
    for requirement in map(Requirement, texts):
        wanted = canonicalize_name(requirement.name) in CHECKED
        if wanted and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            yield requirement


def explain(error: BaseException) -> str | None:
    """Returns one line about an exception whose cause is the machine, and None for any other.

    Where an exception was raised from another, the first that can be explained counts.
    """
    cause: BaseException | None = error
    while cause is not None:
        line = _explain(cause)
        if line is not None:
            return line
        cause = cause.__cause__
    return None


def _explain(error: BaseException) -> str | None:
    text = " ".join(str(error).split())[:300]
    # Compared by name, so that jax need not be loaded.
    if type(error).__name__ in ("XlaRuntimeError", "JaxRuntimeError") and "RESOURCE_EXHAUSTED" in text:
        return (
            f"the device is out of memory ({text}); expected a smaller --config.batch_size, "
            "--config.evaluation.batch_size or --config.model.width, or more devices"
        )
    if isinstance(error, RuntimeError) and text.startswith("Unable to initialize backend"):
        return (
            f"jax finds no such device ({text}); expected JAX_PLATFORMS unset, or a platform of this machine, such as "
            "JAX_PLATFORMS=cpu, and jax installed for the accelerator: pip install -e '.[cuda]' or '.[tpu]'"
        )
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return (
            f"memory ran out ({text or type(error).__name__}); expected more memory, fewer examples at a time "
            "(--config.evaluation.batch_size), or logits as .npy, which are read block by block"
        )
    if isinstance(error, RuntimeError) and text.startswith("Worker process was terminated"):
        return (
            f"a process that decodes images was killed ({text}); expected enough memory for all of them, or fewer "
            "(--config.data.workers); the last checkpoint is intact"
        )
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("mixup_jax"):
        return f"Python package {error.name} is not installed; expected those of mixup_jax: pip install -e ."
    if isinstance(error, NETWORK) and not isinstance(error, BrokenPipeError):
        return f"the network failed ({text}); expected a connection, or try again later; finished files are kept"
    return _explain_os_error(error) if isinstance(error, OSError) else None


def _explain_os_error(error: OSError) -> str | None:
    reason = error.strerror or str(error)
    where = f" {error.filename}" if error.filename else ""
    if error.errno in FULL:
        return (
            f"the disk is full or the file would be too large: writing{where} failed ({reason}); expected free space "
            "there, or another folder; files that were written before are intact"
        )
    if error.errno in FORBIDDEN:
        return f"no permission for{where or ' a file'} ({reason}); expected one that you may read and write"
    if error.errno in TOO_MANY:
        return f"too many files are open ({reason}); expected a higher limit, such as: ulimit -n 4096"
    return None
