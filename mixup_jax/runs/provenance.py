"""The origin of a result: the versions, commit and machine that produced it."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("mixup_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")

NOT_PART_OF_THE_RESULT = ("notes", "log_every_steps", "loggers", "tensorboard", "on_nan", "checkpoint", "data.workers")
"""Settings that do not affect the result, so that they may change when a run is resumed."""

DERIVED = "derived"
"""The key of a config that says how records were predicted, if not in the usual way."""


def provenance() -> dict[str, Any]:
    """Returns `versions` (of packages and Python), `commit` (None outside a git checkout) and `machine`."""
    versions = {name: version_of(name) for name in PACKAGES}
    versions["python"] = platform.python_version()
    return {"versions": versions, "commit": _commit(), "machine": f"{platform.system()} {platform.machine()}"}


def version_of(package: str) -> str | None:
    """Returns the version of an installed package, None of one that is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Returns the commit of the source tree, with "+changes" if tracked files differ from it."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # installed as a package, where git might find another project
        return None
    try:
        command = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--match=", "--dirty=+changes"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
