"""The weights of networks: of `.safetensors` and PyTorch's files, without torch and without unpickling, and of runs.

A file or run that cannot be read, or that holds no weights by name, raises InputError.
"""

import math
from collections.abc import Callable
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
