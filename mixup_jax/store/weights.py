"""The weights of networks: of `.safetensors` and PyTorch's files, without torch and without unpickling, and of runs.

A file or run that cannot be read, or that holds no weights by name, raises InputError.  torchvision and timm give the
layers of a ResNet the same names; `from_torch` translates them to those of this package's networks, and turns the
arrays into flax's order of axes.  `fitted` compares weights with a network's.
"""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError, not_a_file
from mixup_jax.runs.arrays_file import DEFAULT_LIMIT, UNREADABLE
from mixup_jax.runs.files import parse
from mixup_jax.runs.torch_file import Tensor, read_checkpoint
from mixup_jax.runs.workdir import CHECKPOINTS
from mixup_jax.store.verify import inspect, newest_whole, read_item

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
LARGEST = 8 << 30
"""Bytes of a file; an ImageNet network has less than 1 GiB."""
SAFE_TYPES = {"F64": "f8", "F32": "f4", "F16": "f2", "BF16": jnp.bfloat16, "I64": "i8", "I32": "i4", "U8": "u1"}
GROUPS = ("state_dict", "model_state_dict", "model")
"""Under these names training programs keep a network's weights in a checkpoint."""
Array = npt.NDArray[Any]
Weights = dict[str, npt.NDArray[np.float32]]
"""Arrays by their paths, such as "params/head/kernel" or "batch_stats/norm_stem/mean"."""

HEAD = "head"
"""The name of the last layer in every network."""
WRAPPERS = ("module.", "_orig_mod.", "model.")
"""What DataParallel, torch.compile and Lightning write in front of all names."""
LAYERS = (
    (re.compile(r"conv1"), "stem"),
    (re.compile(r"bn1"), "norm_stem"),
    (re.compile(r"fc"), HEAD),
    (re.compile(r"layer(\d+)\.(\d+)\.conv(\d)"), "stage_{}_block_{}/conv_{}"),
    (re.compile(r"layer(\d+)\.(\d+)\.bn(\d)"), "stage_{}_block_{}/norm_{}"),
    (re.compile(r"layer(\d+)\.(\d+)\.downsample\.0"), "stage_{}_block_{}/conv_shortcut"),
    (re.compile(r"layer(\d+)\.(\d+)\.downsample\.1"), "stage_{}_block_{}/norm_shortcut"),
)
STATISTICS = {"running_mean": "mean", "running_var": "var"}


def read_weights(path: Path) -> dict[str, Array]:
    """Returns the arrays of a file by their names, float32."""
    if not path.is_file():
        raise InputError(f"weights {path} {not_a_file(path)}; expected a .safetensors or .pth file, or a run's folder")
    if path.suffix not in SUFFIXES:
        raise InputError(f"weights {path} end in {path.suffix!r}; expected one of: {', '.join(SUFFIXES)}")
    if path.stat().st_size > LARGEST:
        raise InputError(f"weights {path} have {path.stat().st_size} bytes; expected at most {LARGEST}")
    try:
        arrays = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
        return {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    except InputError:
        raise
    except (*UNREADABLE, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        expected = "expected what torch.save or safetensors wrote"
        raise InputError(f"weights {path} cannot be read ({reason}); {expected}") from error


def read_run(folder: Path, report: Callable[[str], None]) -> tuple[dict[str, Array], str]:
    """Returns the arrays of a run's last whole checkpoint, by their paths, and the padding of its network."""
    directory = folder / CHECKPOINTS
    step = newest_whole(directory, report)
    if step is None:
        raise InputError(f"weights {folder} hold no whole checkpoint; expected the folder of a run that was trained")
    config = inspect(directory, step).facts.get("config", {})
    model = config.get("model") if isinstance(config, dict) else None
    leaves, _ = jax.tree_util.tree_flatten_with_path(read_item(directory / str(step) / "variables"))
    arrays = {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}
    return arrays, str(model.get("padding", "same")) if isinstance(model, dict) else "same"


def _read_safetensors(path: Path) -> dict[str, Array]:
    data = np.memmap(path, np.uint8, "r")
    length = int.from_bytes(data[:8].tobytes(), "little")
    header = parse(data[8 : 8 + length].tobytes())
    arrays, content = {}, data[8 + length :]
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            dtype, shape = np.dtype(SAFE_TYPES[entry["dtype"]]), tuple(entry["shape"])
            if not 0 <= begin <= end <= len(content) or end - begin != math.prod(shape) * dtype.itemsize:
                raise ValueError(f"{name} does not fill its bytes")
            arrays[name] = content[begin:end].view(dtype).reshape(shape)
    return arrays


def _read_torch(path: Path) -> dict[str, Array]:
    """Returns the arrays of a state dict, or of the one that a checkpoint keeps under its usual name."""
    tree, array_of = read_checkpoint(path, DEFAULT_LIMIT)
    for group in GROUPS:
        if isinstance(tree, dict) and isinstance(tree.get(group), dict):
            tree = tree[group]
    tensors = {key: value for key, value in tree.items() if isinstance(value, Tensor)} if isinstance(tree, dict) else {}
    if not tensors:
        found = f"the keys {list(tree)[:5]}" if isinstance(tree, dict) else "a whole module"
        raise InputError(f"weights {path} hold {found}; expected a state dict, as torch.save(model.state_dict(), FILE)")
    return {str(name): array_of(tensor) for name, tensor in tensors.items()}


def from_torch(arrays: Mapping[str, npt.NDArray[np.float32]], source: str) -> Weights:
    """Returns the weights of torchvision's or timm's ResNets; raises InputError, with a name, for another network's."""
    for wrapper in WRAPPERS:
        if arrays and all(name.startswith(wrapper) for name in arrays):
            arrays = {name.removeprefix(wrapper): array for name, array in arrays.items()}
    weights = {}
    for name, array in arrays.items():
        layer, _, leaf = name.rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        ours = _layer(layer)
        if ours is None or leaf not in ("weight", "bias", *STATISTICS):
            raise InputError(
                f"weights {source} have a {name!r}, which no ResNet of torchvision or of timm has; expected those of "
                "a ResNet or ResNeXt, such as resnet18, without attention or another stem"
            )
        if leaf in STATISTICS:
            weights[f"batch_stats/{ours}/{STATISTICS[leaf]}"] = array
        elif leaf == "weight" and array.ndim > 1:
            # A convolution [K, C, H, W] becomes [H, W, C, K], and a linear layer [K, C] becomes [C, K].
            weights[f"params/{ours}/kernel"] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
        else:
            weights[f"params/{ours}/{'scale' if leaf == 'weight' else 'bias'}"] = array
    return weights


def _layer(name: str) -> str | None:
    for pattern, ours in LAYERS:
        match = pattern.fullmatch(name)
        if match:
            numbers = match.groups()
            return ours.format(*numbers[:1], *(int(block) + 1 for block in numbers[1:2]), *numbers[2:])
    return None


def fitted(weights: Weights, shapes: Mapping[str, tuple[int, ...]], source: str) -> tuple[Weights, list[str]]:
    """Returns the weights that a network takes, and lines about those that it does not take as they are.

    The head is left out where the classes differ.  A stem for colour images takes grey ones by the sum of its kernels
    over the channels: the same result as for a grey image in three channels.  `shapes` are those of the network's
    parameters and batch statistics, by their paths; messages call the weights `source`.

    Raises:
      InputError: an array is missing, one too many, or of another shape.
    """
    expected = "expected those of the same network: model.name, model.width, model.stem"
    missing, more = sorted(shapes.keys() - weights.keys()), sorted(weights.keys() - shapes.keys())
    if missing or more:
        what = f"no {missing[0]}" if missing else f"a {more[0]}, which the network has not"
        raise InputError(f"weights {source} have {what}; {expected}")
    taken, lines, stem = dict(weights), list[str](), "params/stem/kernel"
    if stem in taken and taken[stem].shape[2:3] == (3,) and shapes[stem][2] == 1:
        taken[stem] = taken[stem].sum(axis=2, keepdims=True)
        lines.append(f"{source}: the kernels of the stem are summed over the channels, for grey images")
    head = [name for name in taken if name.startswith(f"params/{HEAD}/")]
    if any(taken[name].shape[-1:] != shapes[name][-1:] for name in head):
        classes, ours = taken[head[0]].shape[-1], shapes[head[0]][-1]
        lines.append(f"{source}: the head of {classes} classes is replaced by a new one of {ours}")
        taken = {name: array for name, array in taken.items() if name not in head}
    for name, array in taken.items():
        if array.shape != shapes[name]:
            found = f"{name} {list(array.shape)}, where the network has {list(shapes[name])}"
            raise InputError(f"weights {source} have {found}; {expected}")
        if not np.isfinite(array).all():
            raise InputError(f"weights {source} have NaN or infinity in {name}; expected finite numbers")
    return taken, lines
