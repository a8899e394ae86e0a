"""The folder of one run, and the origin of its results: the versions, commit and machine that produced them."""

import json
import os
import platform
import socket
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from mixup_jax.config import Config, to_dict
from mixup_jax.errors import InputError
from mixup_jax.runs.files import parse, read_bytes, write_json

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
PREDICTIONS = "predictions"
EPOCHS = "epochs"
EVALUATION_FILE = "evaluation.json"

SHARED_SECONDS = 60.0

PACKAGES = ("mixup_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")

NOT_PART_OF_THE_RESULT = ("notes", "log_every_steps", "loggers", "tensorboard", "on_nan", "checkpoint", "data.workers")
"""Settings that do not affect the result, so that they may change when a run is resumed."""

DERIVED = "derived"
"""The key of a config that says how records were predicted, if not in the usual way."""


def check(workdir: Path, config: Config) -> None:
    """Raises InputError unless a folder can be written and is free, or that of a run with this config.

    Nothing but the empty folder has been made by then.
    """
    require_writable(workdir / CHECKPOINTS)
    path = workdir / CONFIG_FILE
    if path.exists():
        check_same(_read(path), config, workdir)


def require_checkpoints(workdir: Path) -> Path:
    """Returns the folder of a run's checkpoints; raises InputError if there is none."""
    if not (workdir / CHECKPOINTS).is_dir():
        raise InputError(
            f"workdir {workdir} holds no checkpoint; expected a folder that `python -m mixup_jax.main` trained in"
        )
    return workdir / CHECKPOINTS


def require_writable(folder: Path) -> None:
    """Makes a folder if it is missing; raises InputError if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable, reason = os.access(folder, os.W_OK), "no permission"
    except OSError as error:
        writable, reason = False, str(error)
    if not writable:
        raise InputError(f"{folder} cannot be written ({reason}); expected a writable folder")


def check_same(there: Any, config: Config | dict[str, Any], workdir: Path) -> None:
    """Raises InputError unless `config` continues the run of `there`, the config in a folder.

    It does if they are equal in all settings that affect results, or if it has more epochs and the learning rate does
    not depend on their number: then the run is trained on.
    """
    there, here = _comparable(there), _comparable(config)
    differences = _differences(there, here)
    if differences and _trained_on(there, here):
        if _constant_rate(here):
            return
        raise InputError(
            f"workdir {workdir} belongs to a run of {there['epochs']} epochs, which cannot be trained on to "
            f"{here['epochs']}: its learning rate follows the length of the run (optimizer.schedule "
            f"{here['optimizer']['schedule']!r}); expected its own epochs, or another --workdir with "
            f"--config.model.weights={workdir}, which begins with its weights"
        )
    if differences:
        raise InputError(
            f"workdir {workdir} belongs to a run of another config ({'; '.join(differences)}); "
            "expected the same config to continue it, or another --workdir"
        )


def check_own(workdir: Path, step: int, config: dict[str, Any]) -> dict[str, Any]:
    """Returns the config of a checkpoint of the run that its folder says.

    It has the epochs of config.json, which are more where the run was trained on after this checkpoint.  A config.json
    that cannot be read says nothing.

    Raises:
      InputError: the checkpoint's config differs from config.json in a setting that affects the result.
    """
    try:
        run = _comparable(parse(read_bytes(workdir / CONFIG_FILE)))
    except (OSError, ValueError):
        return config
    saved = _comparable(config)
    if _trained_on(saved, run) and _constant_rate(run):
        return {**config, "epochs": run["epochs"]}
    differences = _differences(run, saved)
    if differences:
        raise InputError(
            f"checkpoint {step} in {workdir} is not of the run in {CONFIG_FILE} ({'; '.join(differences)}); "
            "expected the checkpoints of this run"
        )
    return config


def write_config(workdir: Path, config: Config) -> None:
    """Writes the config of the run that owns the folder."""
    write_json(workdir / CONFIG_FILE, to_dict(config))


def check_shared(workdir: Path) -> None:
    """Raises InputError unless this process sees, within a minute, the config that the first process has written.

    On a shared file system a new file may appear late.
    """
    deadline = time.monotonic() + SHARED_SECONDS
    while CONFIG_FILE not in os.listdir(workdir):
        if time.monotonic() > deadline:
            raise InputError(
                f"--workdir={workdir} holds no {CONFIG_FILE} on {socket.gethostname()}, which process 0 has written; "
                "expected a folder that all processes share, such as one of a network file system"
            )
        time.sleep(1)


def is_finished(workdir: Path, config: Config) -> bool:
    """Returns whether a folder holds the evaluation of the last step of a run of this config."""
    try:
        evaluation = parse(read_bytes(workdir / EVALUATION_FILE))
        last = parse(read_bytes(workdir / METRICS_FILE).splitlines()[-1])
        ended = (last["epoch"], last["step"]) == (config.epochs, evaluation["step"])
        return ended and not _differences(_with_defaults(evaluation["config"], _as_json(Config())), _as_json(config))
    except (OSError, ValueError, LookupError, TypeError):
        return False  # absent or damaged: the run is started, and reports what is damaged


def check_derived(workdir: Path, config: dict[str, Any]) -> None:
    """Raises InputError if a folder holds another run or the records of another evaluation."""
    if (workdir / CHECKPOINTS).exists():
        raise InputError(f"--save_as={workdir} is a folder that was trained in; expected a new one")
    if (workdir / CONFIG_FILE).exists():
        check_same(_read(workdir / CONFIG_FILE), config, workdir)
    elif (workdir / EVALUATION_FILE).exists():
        raise InputError(f"--save_as={workdir} holds an evaluation without {CONFIG_FILE}; expected a new folder")
    require_writable(workdir / PREDICTIONS)


def record_path(workdir: Path, name: str, step: int) -> Path:
    """Returns where the record called dataset/split is kept."""
    return workdir / PREDICTIONS / f"{name.replace('/', '-')}-{step}.npz"


def _read(path: Path) -> Any:
    remedy = "expected the config that this folder's run was started with, or another --workdir"
    try:
        config = parse(read_bytes(path))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); {remedy}") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} holds a {type(config).__name__}; {remedy}")
    return config


def _comparable(config: Any) -> Any:
    """Returns a config as read from JSON, with defaults for the settings that it lacks."""
    return _with_defaults(_as_json(config), _as_json(Config()))


def setting_that_differs(there: Any, here: Any) -> str | None:
    """Returns the first setting of which two configs have different values that affect results; the seed may differ."""
    there, here = _comparable(there), _comparable(here)
    keys = [key for key in {**there, **here} if key != "seed"]
    return next((key for key in keys if _differences({key: there.get(key)}, {key: here.get(key)})), None)


def _trained_on(there: Any, here: Any) -> bool:
    """Returns whether the second config, which is whole, differs from the first in more epochs and in nothing else."""
    if not (isinstance(there, dict) and isinstance(here, dict)):
        return False
    before, now = there.get("epochs"), here.get("epochs")
    more = isinstance(before, int) and isinstance(now, int) and before < now
    return more and not _differences({**there, "epochs": now}, here)


def _constant_rate(config: Any) -> bool:
    """Returns whether the learning rate is the same for runs of any length."""
    return config["optimizer"]["schedule"] == "steps" and not config["optimizer"]["step_epochs"]


def _as_json(config: Any) -> Any:
    return json.loads(json.dumps(to_dict(config) if isinstance(config, Config) else config))


def _with_defaults(there: Any, defaults: Any) -> Any:
    """Returns a config with defaults for the settings that it lacks because an older version wrote it."""
    if not (isinstance(there, dict) and isinstance(defaults, dict)):
        return there
    return {**defaults, **{key: _with_defaults(value, defaults.get(key)) for key, value in there.items()}}


def _differences(there: Any, here: Any, prefix: str = "") -> list[str]:
    """Names every setting whose value differs, as "key is A there and B here"."""
    if not (isinstance(there, dict) and isinstance(here, dict)):
        return [] if there == here else [f"{prefix.rstrip('.')} is {there!r} there and {here!r} here"]
    keys = [key for key in {**there, **here} if prefix + key not in NOT_PART_OF_THE_RESULT]
    return [line for key in keys for line in _differences(there.get(key), here.get(key), f"{prefix}{key}.")]


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
