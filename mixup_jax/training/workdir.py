"""The folder of one run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mixup_jax.config import Config, to_dict
from mixup_jax.errors import InputError
from mixup_jax.records import write_json

CONFIG_FILE = "config.json"
METRICS_FILE = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
PREDICTIONS = "predictions"
EVALUATION_FILE = "evaluation.json"

NOT_PART_OF_THE_RESULT = ("notes", "log_every_steps", "tensorboard")
"""Settings that may differ between an interrupted run and its continuation."""


def claim(workdir: Path, config: Config) -> None:
    """Creates the folder of a run, or recognises it as the folder of this very run.

    Raises:
      InputError: it belongs to a run of another config (the message lists what differs), or it
        cannot be created.
    """
    path = workdir / CONFIG_FILE
    if path.is_file():
        differences = _differences(_read(path), _as_json(config))
        if differences:
            raise InputError(
                f"workdir {workdir} belongs to a run of another config ({'; '.join(differences)}); "
                "expected the same config to continue it, or another --workdir"
            )
    try:
        write_json(path, to_dict(config))
    except OSError as error:
        raise InputError(f"workdir {workdir} cannot be written ({error}); expected a folder of yours") from error


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); expected the config that this folder's run was started with, "
            "or another --workdir"
        ) from error


def _as_json(config: Config) -> Any:
    return json.loads(json.dumps(to_dict(config)))


def _differences(there: Any, here: Any, prefix: str = "") -> list[str]:
    """Names every setting whose value differs, as "key is A there and B here"."""
    if not (isinstance(there, dict) and isinstance(here, dict)):
        return [] if there == here else [f"{prefix.rstrip('.')} is {there!r} there and {here!r} here"]
    keys = [key for key in {**there, **here} if prefix or key not in NOT_PART_OF_THE_RESULT]
    return [line for key in keys for line in _differences(there.get(key), here.get(key), f"{prefix}{key}.")]
