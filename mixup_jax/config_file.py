"""Reading `--config=configs/NAME.py:VARIANT` (or a config by its NAME) and its `--config.KEY=VALUE` overrides."""

import dataclasses
import typing
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from mixup_jax.command import split_at_commas
from mixup_jax.config import Config, from_dict
from mixup_jax.errors import InputError, local_path, not_a_file, unknown_name


def load_config(spec: str, overrides: Sequence[str] = ()) -> Config:
    """Returns the checked config of a config file with overrides applied.

    Args:
      spec: path of a Python file that defines `get_config(variant)`, or the bare name of one that comes with the
        package, such as `quickstart`; with `:VARIANT` behind it or not.
      overrides: arguments such as `--config.seed=3` or `--config.method.mixup_alpha=0.4`.

    Raises:
      InputError: no such file, variant or key, or a value of the wrong type or out of range.
    """
    local_path(spec)  # refuses an address
    name, colon, variant = spec.partition(":")
    path = _find(name)
    _check_keys(overrides)
    argv = ["mixup_jax", f"--config={path}{colon}{variant}", *map(_with_tuple, overrides)]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=argv)
    try:
        values(argv)
    except flags.Error as error:
        raise _explained(error, path) from error
    except Exception as error:  # anything that the file raises: it is the user's program
        reason = " ".join(str(error).split())
        raise _failed(path, type(error).__name__, reason) from error
    config = values["config"].value
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"get_config of {path} returned {config!r:.60} ({type(config).__name__}); "
            "expected the ConfigDict of base_config()"
        )
    return from_dict(config.to_dict())


def unscaled_steps(spec: str, config: Config) -> str | None:
    """Returns a warning if a run overrides the epochs of its config file but not the steps of the learning rate.

    The result is None if the epochs are those of the file, the schedule has no steps, or the steps were changed too.
    """
    file, steps = load_config(spec), config.optimizer.step_epochs
    if config.epochs == file.epochs or config.optimizer.schedule != "steps" or steps != file.optimizer.step_epochs:
        return None
    scaled = sorted({max(1, round(epoch * config.epochs / file.epochs)) for epoch in steps})
    return (
        f"epochs is {config.epochs}, which the config has as {file.epochs}; optimizer.step_epochs stays {steps}, and "
        f"would keep its share of the run with --config.optimizer.step_epochs={','.join(map(str, scaled))}"
    )


def _with_tuple(override: str) -> str:
    """Returns an override whose names with commas between are written as the tuple that they are: a,b as ('a', 'b')."""
    key, _, value = override.partition("=")
    if dict(_keys(Config))[key.removeprefix("--config.")] != tuple[str, ...] or value[:1] in ("(", "["):
        return override
    return f"{key}={tuple(split_at_commas(value)) if value else ()}"


def _explained(error: flags.Error, path: Path) -> InputError:
    """Returns the first cause of an error: absl and ml_collections wrap whole tracebacks around it."""
    cause: BaseException = error
    while deeper := cause.__cause__ or cause.__context__:
        cause = deeper
    if isinstance(cause, InputError):
        return cause
    if "parsing config file" in str(error):
        return _failed(path, type(cause).__name__, str(cause))
    text = " ".join(str(error).split())
    for key, kind in _keys(Config):
        if text.startswith(f"flag --config.{key}="):
            return InputError(f"{text}; expected a value of type {getattr(kind, '__name__', kind)}")
    return InputError(text)


def _failed(path: Path, kind: str, reason: str) -> InputError:
    return InputError(
        f"config file {path} failed with {kind}: {reason}; expected a file whose get_config(variant) runs"
    )


def _find(name: str) -> Path:
    """Returns the config file at a path or, for a bare name, the one that comes with the package."""
    path = Path(name).expanduser()
    if path.is_file():
        return path
    packaged = _packaged()
    if name in packaged:
        return packaged[name]
    raise InputError(
        f"config file {name} {not_a_file(path)}; expected a Python file such as configs/quickstart.py:mixup, "
        f"or the name of one of the package's: {', '.join(sorted(packaged))}"
    )


def _packaged() -> dict[str, Path]:
    """Returns, by name, the configs beside the package in a checkout, or those that its wheel installed."""
    beside = sorted((Path(__file__).resolve().parents[1] / "configs").glob("*.py"))
    if beside:
        return {path.stem: path for path in beside}
    try:
        files = metadata.files("mixup_jax") or []
    except metadata.PackageNotFoundError:
        return {}
    installed = [file for file in files if file.match("share/mixup_jax/configs/*.py")]
    return {file.stem: Path(str(file.locate())) for file in installed}


def _check_keys(overrides: Sequence[str]) -> None:
    choices = dict(_keys(Config))
    for override in overrides:
        if not override.startswith("--config."):
            raise InputError(
                f"unknown argument {override!r}; expected --config.KEY=VALUE or one of the flags of --help"
            )
        key, separator, _ = override.removeprefix("--config.").partition("=")
        if key not in choices:
            raise unknown_name("config key", key, choices, "docs/configuration.md")
        if not separator:
            raise InputError(f"{override} has no value; expected {override}=VALUE")


def _keys(record: type, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yields the full name and type of every setting of a config record."""
    for name, kind in typing.get_type_hints(record).items():
        if dataclasses.is_dataclass(kind):
            yield from _keys(typing.cast(type, kind), f"{prefix}{name}.")
        else:
            yield prefix + name, kind
