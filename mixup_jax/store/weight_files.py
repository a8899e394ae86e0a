"""The arrays of `.safetensors` and PyTorch (`.pth`) files, read without torch and without unpickling anything.

A `.pth` file describes its tensors by a pickle.  Here a pickle is read as data: a small machine follows the few
operations that build dicts, lists and tensors.  It imports nothing and calls nothing that the file names; every other
object becomes `UNKNOWN`.  Before an array is made, its place is compared with the bytes that are there.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError, not_a_file
from mixup_jax.runs.arrays_file import UNREADABLE
from mixup_jax.runs.files import parse
from mixup_jax.runs.workdir import CHECKPOINTS
from mixup_jax.store.verify import inspect, newest_whole, read_item

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
LARGEST = 8 << 30
"""Bytes of a file; an ImageNet network has less than 1 GiB."""
SAFE_TYPES = {"F64": "f8", "F32": "f4", "F16": "f2", "BF16": jnp.bfloat16, "I64": "i8", "I32": "i4", "U8": "u1"}
TORCH_TYPES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ByteStorage": "u1",
}
LEGACY = 0x1950A86A20F9469CFC6C
"""The number that a `.pth` file from before torch 1.6 begins with, as a pickle."""
GROUPS = ("state_dict", "model_state_dict", "model")
"""Under these names training programs keep a network's weights in a checkpoint."""
UNKNOWN = object()
Array = npt.NDArray[Any]


def read_weights(path: Path) -> dict[str, Array]:
    """Returns the arrays of a file by their names, float32.

    Raises:
      InputError: it is no such file, damaged, or holds no arrays by name.
    """
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
    """Returns the arrays of a run's last whole checkpoint, by their paths, and the padding of its network.

    Raises:
      InputError: the folder holds none.
    """
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
            if not 0 <= begin <= end <= len(content) or end - begin != _size(shape) * dtype.itemsize:
                raise ValueError(f"{name} does not fill its bytes")
            arrays[name] = content[begin:end].view(dtype).reshape(shape)
    return arrays


class Tensor(NamedTuple):
    """A tensor that a pickle describes: a strided view of a storage."""

    storage: Any
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Storage(NamedTuple):
    """A run of numbers elsewhere in the file."""

    dtype: np.dtype[Any]
    key: str
    size: int


def _read_torch(path: Path) -> dict[str, Array]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            (pickle,) = [name for name in archive.namelist() if name.split("/")[1:] == ["data.pkl"]]
            folder = pickle.removesuffix("data.pkl")
            order = folder + "byteorder"
            if order in archive.namelist() and archive.read(order) != b"little":
                raise ValueError("its numbers are big-endian")
            tree = Pickle(io.BytesIO(_stored(archive, pickle))).value()
            return _arrays(path, tree, lambda storage: _stored(archive, f"{folder}data/{storage.key}"))
    with path.open("rb") as file:
        if Pickle(file).value() != LEGACY:
            raise ValueError("it is neither an archive nor of the older format")
        _, _, tree, keys = (Pickle(file).value() for _ in range(4))
        sizes = {tensor.storage.key: tensor.storage for tensor in _tensors(tree)}
        content = {}
        for key in keys:
            count = int.from_bytes(file.read(8), "little")
            if key not in sizes or count != sizes[key].size:
                raise ValueError(f"storage {key!r} is not of a tensor's size")
            content[key] = file.read(count * sizes[key].dtype.itemsize)
        return _arrays(path, tree, lambda storage: content[storage.key])


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """Returns a member of an archive, which is not compressed, so that it cannot be larger than the file."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    return archive.read(name)


def _tensors(tree: Any) -> list[Tensor]:
    """Returns all tensors of nested dicts and lists, which may hold each other."""
    found, waiting, seen = [], [tree], set[int]()
    while waiting:
        one = waiting.pop()
        if isinstance(one, Tensor):
            found.append(one)
        elif isinstance(one, dict | list) and id(one) not in seen:
            seen.add(id(one))
            waiting += list(one.values()) if isinstance(one, dict) else one
    return found


def _arrays(path: Path, tree: Any, content: Callable[[Storage], bytes]) -> dict[str, Array]:
    """Returns the arrays of a state dict, or of the one that a checkpoint keeps under its usual name."""
    for group in GROUPS:
        if isinstance(tree, dict) and isinstance(tree.get(group), dict):
            tree = tree[group]
    tensors = {key: value for key, value in tree.items() if isinstance(value, Tensor)} if isinstance(tree, dict) else {}
    if not tensors:
        found = f"the keys {list(tree)[:5]}" if isinstance(tree, dict) else "a whole module"
        raise InputError(f"weights {path} hold {found}; expected a state dict, as torch.save(model.state_dict(), FILE)")
    return {name: _array(tensor, content(tensor.storage)) for name, tensor in tensors.items()}


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod([int(side) for side in shape], dtype=object))


def _array(tensor: Tensor, content: bytes) -> Array:
    (dtype, _, size), shape, stride = tensor.storage, tensor.shape, tensor.stride
    numbers = np.frombuffer(content, dtype, count=size)
    last = tensor.offset + sum((side - 1) * step for side, step in zip(shape, stride, strict=True))
    if min((tensor.offset, *shape, *stride)) < 0 or (_size(shape) and last >= size) or _size(shape) > size:
        raise ValueError("a tensor does not lie within its storage")
    steps = [step * dtype.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], shape, steps)


class Pickle:
    """Follows a pickle that builds dicts, lists and tensors; `value` returns what it builds."""

    def __init__(self, file: Any) -> None:
        """Takes a file at the beginning of a pickle; `value` leaves it behind its end."""
        self._file, self._stack, self._marks = file, list[Any](), list[int]()
        self._memo: dict[int, Any] = {}

    def value(self) -> Any:
        """Returns the object; raises ValueError for an operation that a state dict does not need."""
        for operation, argument, _ in pickletools.genops(self._file):
            name = operation.name
            if name in ("PROTO", "FRAME"):
                continue
            if name == "STOP":
                return self._stack.pop()
            if operation.stack_before == [] and name not in _MAKES:  # a number, a text, None or a truth value
                self._push(argument)
            else:
                _MAKES[name](self, argument)
        raise ValueError("the pickle does not end")

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self, count: int) -> list[Any]:
        taken = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        if len(taken) != count:
            raise ValueError("the pickle takes what is not there")
        return taken

    def _since_mark(self) -> list[Any]:
        return self._pop(len(self._stack) - self._marks.pop())

    def _remember(self, key: int | None) -> None:
        self._memo[len(self._memo) if key is None else key] = self._stack[-1]

    def _name(self, argument: str | None) -> None:
        module, name = self._pop(2) if argument is None else argument.split(" ", 1)
        self._push(Name(str(module), str(name)))

    def _set_items(self, pairs: list[Any]) -> None:
        if isinstance(self._stack[-1], dict):
            self._stack[-1].update(
                {key: value for key, value in zip(pairs[::2], pairs[1::2], strict=True) if isinstance(key, str | int)}
            )

    def _append(self, values: list[Any]) -> None:
        if isinstance(self._stack[-1], list):
            self._stack[-1].extend(values)

    def _call(self) -> None:
        function, arguments = self._pop(2)
        self._push(_made(function, arguments))

    def _refer(self) -> None:
        (identity,) = self._pop(1)
        kind, storage_type, key, _, size, *_ = identity
        if kind != "storage" or not isinstance(storage_type, Name):
            raise ValueError(f"it refers to {kind!r:.40}")
        self._push(Storage(np.dtype(TORCH_TYPES[storage_type.name]), str(key), int(size)))


class Name(NamedTuple):
    """What a pickle names to be imported; it is not."""

    module: str
    name: str


def _made(function: Any, arguments: Any) -> Any:
    """Returns an ordered dict as a dict and a rebuilt tensor as its description; everything else is unknown."""
    if function == Name("collections", "OrderedDict"):
        return {}
    if function == Name("torch._utils", "_rebuild_parameter"):
        return arguments[0]
    if function in (Name("torch._utils", "_rebuild_tensor_v2"), Name("torch._utils", "_rebuild_tensor")):
        storage, offset, shape, stride = arguments[:4]
        if isinstance(storage, Storage):
            return Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, stride)))
    return UNKNOWN


_MAKES: Mapping[str, Callable[[Pickle, Any], object]] = {
    "EMPTY_DICT": lambda machine, _: machine._push({}),
    "EMPTY_LIST": lambda machine, _: machine._push([]),
    "EMPTY_SET": lambda machine, _: machine._push(UNKNOWN),
    "EMPTY_TUPLE": lambda machine, _: machine._push(()),
    "TUPLE": lambda machine, _: machine._push(tuple(machine._since_mark())),
    "TUPLE1": lambda machine, _: machine._push(tuple(machine._pop(1))),
    "TUPLE2": lambda machine, _: machine._push(tuple(machine._pop(2))),
    "TUPLE3": lambda machine, _: machine._push(tuple(machine._pop(3))),
    "MARK": lambda machine, _: machine._marks.append(len(machine._stack)),
    "NONE": lambda machine, _: machine._push(None),
    "NEWTRUE": lambda machine, _: machine._push(True),
    "NEWFALSE": lambda machine, _: machine._push(False),
    "BINPUT": lambda machine, key: machine._remember(key),
    "LONG_BINPUT": lambda machine, key: machine._remember(key),
    "MEMOIZE": lambda machine, _: machine._remember(None),
    "BINGET": lambda machine, key: machine._push(machine._memo[key]),
    "LONG_BINGET": lambda machine, key: machine._push(machine._memo[key]),
    "GLOBAL": lambda machine, argument: machine._name(argument),
    "STACK_GLOBAL": lambda machine, _: machine._name(None),
    "SETITEM": lambda machine, _: machine._set_items(machine._pop(2)),
    "SETITEMS": lambda machine, _: machine._set_items(machine._since_mark()),
    "APPEND": lambda machine, _: machine._append(machine._pop(1)),
    "APPENDS": lambda machine, _: machine._append(machine._since_mark()),
    "ADDITEMS": lambda machine, _: machine._since_mark(),
    "REDUCE": lambda machine, _: machine._call(),
    "NEWOBJ": lambda machine, _: machine._call(),
    "BUILD": lambda machine, _: machine._pop(1),
    "BINPERSID": lambda machine, _: machine._refer(),
}
"""What each operation does; every other one must only push its own argument."""
