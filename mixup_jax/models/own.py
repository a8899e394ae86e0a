"""Networks from outside of the package: `model.name=package.module:Class`.

docs/own-network.md has the contract that they keep to.  `check_contract` holds a network to it before training, by
shapes alone, so that nothing is computed.
"""

import ast
import dataclasses
import importlib
import inspect
import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import ModifyScopeVariableError

from mixup_jax.config import ModelConfig
from mixup_jax.errors import InputError, unknown_name

ROWS = 2
"""Rows of the batch that the contract is tried with."""
OPTIONS = frozenset(each.name for each in dataclasses.fields(ModelConfig)) - {"name", "settings", "weights", "norm"}
"""The keys of `config.model` for which a network may have fields; `name` has another meaning in flax."""
GIVEN = OPTIONS | {"classes", "axis_name", "vocabulary", "embedding_size"}
"""Fields of a class that the run sets, where the class has them; its others are set by `model.settings`."""
CALL = "__call__(self, x, *, train, mix=None, dropout_keys=None)"
CONTRACT = "docs/own-network.md"


def is_own(name: str) -> bool:
    """Returns whether the name of a network is that of a class outside of the package."""
    return ":" in name


def load_class(name: str) -> type[nn.Module]:
    """Imports and returns the class that `package.module:Class` names; raises InputError if it is no network."""
    place, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(place)
    except Exception as error:  # anything: the module is the user's program
        raise InputError(
            f"model.name is {name!r}, but importing {place!r} fails with {_text(error)}; expected package.module:Class "
            "that Python finds from this folder or among the installed packages"
        ) from error
    found = getattr(module, attribute, None)
    if found is None:
        classes = [key for key, value in vars(module).items() if inspect.isclass(value) and value.__module__ == place]
        raise unknown_name(f"class of {place}", attribute, classes)
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        raise InputError(
            f"model.name is {name!r}, which is no flax.linen.Module; expected one, which may wrap another network "
            f"({CONTRACT})"
        )
    return found


def settings_of(config: ModelConfig) -> dict[str, Any]:
    """Returns the keyword settings of a user's own network, `model.settings`, as Python's values."""
    parts = re.split(r",\s*(?=[A-Za-z_]\w*=)", ",".join(config.settings)) if config.settings else []
    return dict(_setting(part) for part in parts)


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not (equals and key.strip().isidentifier()):
        raise InputError(f"model.settings holds {text!r}; expected KEY=VALUE, such as depth=3")
    try:
        return key.strip(), ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        return key.strip(), value.strip()


def check_settings(name: str, module: type[nn.Module], settings: dict[str, Any]) -> None:
    """Raises InputError unless the class has a field for each setting, and each field that has no default is set."""
    fields = {each.name: each for each in dataclasses.fields(module) if each.name not in ("parent", "name")}
    free = sorted(fields.keys() - GIVEN)
    for key in settings:
        if key in OPTIONS:
            raise InputError(f"model.settings holds {key!r}; expected --config.model.{key}, which sets that field")
        if key not in free:
            raise unknown_name(f"setting of {name}", key, free or ["none"])
    if "classes" not in fields:
        raise _broken(name, "it has no field 'classes'", "the number of logits as a field: classes: int")
    missing = dataclasses.MISSING
    bare = [key for key in free if fields[key].default is missing and fields[key].default_factory is missing]
    if set(bare) - settings.keys():
        unset = ", ".join(key for key in bare if key not in settings)
        raise _broken(name, f"it has no value for {unset}", f"--config.model.settings={bare[0]}=VALUE, or a default")


def check_contract(
    name: str, model: nn.Module, example: jax.ShapeDtypeStruct, classes: int, *, hidden: bool, mapped: bool
) -> Any:
    """Returns the shapes of a network's parameters; raises InputError unless it keeps to the contract.

    `example` has the shape and type of one input, without the axis of the batch.  `hidden` says whether its hidden
    places are mixed, `mapped` whether devices average batch statistics over a mapped axis (`parallel=pmap`).
    """
    parameters = inspect.signature(type(model).__call__).parameters
    takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    for argument in ("train", "mix", "dropout_keys"):
        if argument not in parameters and not takes_any:
            raise _broken(name, f"its call has no argument {argument!r}", CALL)
    inputs = jax.ShapeDtypeStruct((ROWS, *example.shape), example.dtype)
    variables = _called(name, lambda x: model.init(jax.random.key(0), x, train=False), inputs)
    others = sorted(variables.keys() - {"params", "batch_stats"})
    if others:
        raise _broken(name, f"it has variables of the kind {others[0]!r}", "params and batch_stats alone")
    if "params" not in variables:
        raise _broken(name, "it has no parameters", "some that can be trained")
    _check_logits(name, _called(name, lambda v, x: model.apply(v, x, train=False), variables, inputs), ROWS, classes)
    if "batch_stats" in variables:
        _check_statistics(name, model, variables, inputs, mapped)
    _check_mixing(name, model, variables, inputs, classes, hidden)
    return variables["params"]


def _check_logits(name: str, logits: Any, rows: int, classes: int) -> None:
    if not isinstance(logits, jax.ShapeDtypeStruct) or logits.shape != (rows, classes) or logits.dtype != jnp.float32:
        found = f"{logits.dtype} {list(logits.shape)}" if isinstance(logits, jax.ShapeDtypeStruct) else type(logits)
        raise _broken(name, f"its result for {rows} rows is {found}", f"logits, float32 {[rows, classes]}")


def _check_statistics(name: str, model: nn.Module, variables: Any, inputs: jax.ShapeDtypeStruct, mapped: bool) -> None:
    """Checks that batch statistics follow the batches in training, on all devices."""

    def program(train: bool) -> str:
        def call(v: Any, x: Any) -> Any:
            return model.apply(v, x, train=train, mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)})

        return str(jax.make_jaxpr(call)(variables, inputs))

    if program(True) == program(False):
        raise _broken(name, "train has no effect on it", "batch normalisation with use_running_average=not train")
    if mapped and "axis_name" not in {each.name for each in dataclasses.fields(model)}:
        raise _broken(name, "it has no field 'axis_name'", "one for batch normalisation under pmap, or parallel=jit")


def _check_mixing(
    name: str, model: nn.Module, variables: Any, inputs: jax.ShapeDtypeStruct, classes: int, hidden: bool
) -> None:
    """Checks that a training call mixes where it should, for a `mix` that doubles the rows as RegMixup's does."""
    places: list[int] = []

    def mix(h: jax.Array, place: int) -> jax.Array:
        places.append(place)
        return jnp.concatenate([h, h]) if place == 0 else h

    def call(v: Any, x: Any, keys: Any) -> Any:
        rngs = {"dropout": keys[0]}
        return model.apply(v, x, train=True, mix=mix, dropout_keys=keys, mutable=["batch_stats"], rngs=rngs)

    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2 * ROWS))
    logits, updates = _called(name, call, variables, inputs, keys)
    if places.count(0) != 1 or places[0] != 0:
        raise _broken(name, f"it calls mix at the places {places}", "x = mix(x, 0) once, before its first layer")
    _check_logits(name, logits, 2 * ROWS, classes)
    wanted = list(range(getattr(model, "places", 0) + 1))
    if hidden and (places != wanted or len(wanted) == 1):
        problem = f"it calls mix at the places {places}, and its 'places' is {getattr(model, 'places', 'missing')}"
        raise _broken(name, problem, "mix at 0, 1, .., places for method.layer=random, each once and in order")
    kept, before = (jax.tree_util.tree_structure(tree.get("batch_stats", {})) for tree in (updates, variables))
    if str(kept) != str(before):
        raise _broken(name, "its batch_stats change their structure in training", "the same ones after every call")


def _called(name: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """Returns the shapes of a call's results; raises InputError if the user's code fails."""
    try:
        return jax.eval_shape(call, *arguments)
    except InputError:
        raise
    except ModifyScopeVariableError as error:
        remedy = "batch normalisation with use_running_average=not train"
        raise _broken(name, "its call with train=False changes its variables", remedy) from error
    except Exception as error:  # anything: the network is the user's program
        raise _broken(name, f"its call fails with {_text(error)}", CALL) from error


def fixed_batch(name: str, error: Exception) -> InputError:
    """Returns what to say of a network that cannot be traced for batches of any size, because of `error`."""
    problem = f"it cannot be traced for any number of images ({_text(error)})"
    return _broken(name, problem, "x.shape[0] where it uses len(x), and a reshape to (x.shape[0], -1)")


def _broken(name: str, problem: str, expected: str) -> InputError:
    return InputError(f"model.name is {name!r}, but {problem}; expected {expected} ({CONTRACT})")


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
