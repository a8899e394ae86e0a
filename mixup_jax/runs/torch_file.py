"""Tensors of files that `torch.save` wrote, read without torch and without running what they hold.

Such a file is a ZIP: a pickle that says which tensors there are, and their numbers.  A pickle is a program for Python's
unpickler; here its instructions are only followed as far as they make dicts, lists, tuples, numbers, texts and tensors.
A file of predictions that asks for anything else is refused; in a network's checkpoint everything else is passed over.
Before torch 1.6 such a file was several pickles, and the numbers after them.  A damaged file raises one of
`arrays_file.UNREADABLE`, and one of more than `limit` bytes InputError.
"""

import math
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mixup_jax.runs.arrays_file import check_size, from_bfloat16

LARGEST_PICKLE = 1 << 22
"""Bytes of the pickle, which names the tensors; their numbers are elsewhere."""
MOST_DIMENSIONS = 64
OLDER = 0x1950A86A20F9469CFC6C
"""What the first pickle of a file from before torch 1.6 holds."""
_UNKNOWN = object()
"""Stands for what a checkpoint holds besides tensors, such as an optimiser; nothing is known of it."""
_DTYPES = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BFloat16Storage": "u2", "LongStorage": "i8",
    "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip


@dataclass(frozen=True)
class _Name:
    """What a pickle calls by its name, such as a function; it is never imported."""

    text: str


@dataclass(frozen=True)
class Tensor:
    """Where the numbers of a tensor are: in which part of the file, and how its elements lie there."""

    kind: str
    part: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a file: those of a dict by its keys, of a tuple by place, one alone as "tensor"."""
    with _archive(path) as archive:
        content = _followed(_description(archive))
    if isinstance(content, Tensor):
        content = {"tensor": content}
    elif isinstance(content, list | tuple):
        content = {str(place): value for place, value in enumerate(content)}
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not tensors")
    return {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}


def read_checkpoint(path: Path, limit: int) -> tuple[Any, Callable[[Tensor], npt.NDArray[Any]]]:
    """Returns the dicts, lists and tensors of a checkpoint, and what reads a tensor of it."""
    if zipfile.is_zipfile(path):
        with _archive(path) as archive:
            return _followed(_description(archive), lenient=True), lambda tensor: read_tensor(path, tensor, limit)
    with path.open("rb") as file:
        if _followed(file, lenient=True) != OLDER:
            raise ValueError("it is neither an archive nor of the format of before torch 1.6")
        _, _, content, parts = (_followed(file, lenient=True) for _ in range(4))
        kinds = {tensor.part: tensor.kind for tensor in _tensors(content)}
        numbers = {}
        for part in parts:
            dtype, count = np.dtype(_DTYPES[kinds[part]]), int.from_bytes(file.read(8), "little")
            numbers[part] = np.frombuffer(file.read(min(count * dtype.itemsize, limit)), dtype, count)
    return content, lambda tensor: _array(numbers[tensor.part], tensor)


def _tensors(content: Any) -> list[Tensor]:
    """Returns all tensors of dicts, lists and tuples, which may hold each other."""
    found, waiting, seen = list[Tensor](), [content], set[int]()
    while waiting:
        one = waiting.pop()
        if isinstance(one, Tensor):
            found.append(one)
        elif isinstance(one, dict | list | tuple) and id(one) not in seen:
            seen.add(id(one))
            waiting += list(one.values()) if isinstance(one, dict) else one
    return found


def _description(archive: zipfile.ZipFile) -> bytes:
    """Returns the pickle of a file."""
    name = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
    if name is None or archive.getinfo(name).file_size > LARGEST_PICKLE:
        raise ValueError("it has no data.pkl of at most 4 MiB")
    return _member(archive, name)


def read_tensor(path: Path, tensor: Tensor, limit: int) -> npt.NDArray[Any]:
    """Returns the array of a tensor; bfloat16 becomes float32."""
    dtype = np.dtype(_DTYPES[tensor.kind])
    with _archive(path) as archive:
        prefix = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
        name = f"{prefix}data/{tensor.part}"
        # A tensor may repeat its numbers, so it can be larger than the part that it comes from.
        size = math.prod(tensor.shape) * max(dtype.itemsize, 4)
        check_size(path, max(size, archive.getinfo(name).file_size), limit)
        big = f"{prefix}byteorder" in archive.namelist() and _member(archive, f"{prefix}byteorder") == b"big"
        numbers = np.frombuffer(_member(archive, name), dtype.newbyteorder(">" if big else "<"))
    return _array(numbers, tensor)


def _array(numbers: npt.NDArray[Any], tensor: Tensor) -> npt.NDArray[Any]:
    """Returns the array that a tensor makes of the numbers of its part of the file."""
    dtype = np.dtype(_DTYPES[tensor.kind])
    shape, strides = tensor.shape, tensor.strides
    if len(shape) != len(strides) or min((tensor.offset, *shape, *strides)) < 0:
        raise ValueError("a tensor has a negative size or stride")
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if math.prod(shape) and last >= len(numbers):
        raise ValueError("a tensor has more elements than the file")
    if not math.prod(shape):
        return np.empty(shape, dtype)
    steps = tuple(stride * dtype.itemsize for stride in strides)
    view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], shape, steps)
    array = np.ascontiguousarray(view).astype(dtype, copy=False).reshape(shape)
    return from_bfloat16(array) if tensor.kind == "BFloat16Storage" else array


def _archive(path: Path) -> zipfile.ZipFile:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is damaged, or in torch's format of before 1.6, a pickle: save it again with torch.save")
    return zipfile.ZipFile(path)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"compression method {archive.getinfo(name).compress_type} is not one that torch writes")
    return archive.read(name)


def _followed(pickled: bytes | IO[bytes], *, lenient: bool = False) -> Any:
    """Returns what a pickle makes, of dicts, lists, tuples, numbers, texts and tensors.

    With `lenient`, everything else is `_UNKNOWN`; otherwise it is refused.  A file is left behind the pickle's end.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        place = marks.pop()
        taken = stack[place:]
        del stack[place:]
        return taken

    value: Any
    for operation, value, _ in pickletools.genops(pickled):
        match operation.name:
            case "PROTO" | "FRAME":
                pass
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(value)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[operation.name])
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[operation.name]())
            case "MARK":
                marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                size = int(operation.name[-1])
                stack[-size:] = [tuple(stack[-size:])]
            case "APPEND" | "APPENDS":
                items = [stack.pop()] if operation.name == "APPEND" else since_mark()
                if not (lenient and stack[-1] is _UNKNOWN):
                    _made(stack, list).extend(items)
            case "SETITEM" | "SETITEMS":
                pairs = [stack.pop(-2), stack.pop()] if operation.name == "SETITEM" else since_mark()
                if not (lenient and stack[-1] is _UNKNOWN):
                    _made(stack, dict).update(zip(pairs[::2], pairs[1::2], strict=True))
            case "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                memo[len(memo) if value is None else value] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[value])
            case "GLOBAL":
                stack.append(_Name(value))
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                known = isinstance(function, _Name) and function.text in _CALLS
                stack.append(_called(function, arguments) if known or not lenient else _UNKNOWN)
            case "BUILD" if lenient:  # the attributes of an object, such as the versions of a state dict's modules
                stack.pop()
            case "NEWOBJ" if lenient:
                stack[-2:] = [_UNKNOWN]
            case "EMPTY_SET" if lenient:
                stack.append(_UNKNOWN)
            case "ADDITEMS" if lenient:
                since_mark()
            case "STACK_GLOBAL" if lenient:
                stack[-2:] = [_Name(" ".join(map(str, stack[-2:])))]
            case "LONG4" | "SHORT_BINSTRING" | "BINSTRING" | "SHORT_BINBYTES" | "BINBYTES" if lenient:
                stack.append(value)
            case "STOP":
                return stack.pop()
            case other:
                raise ValueError(f"it holds more than tensors: the instruction {other}")
    raise ValueError("its pickle has no end")


def _made(stack: list[Any], kind: type) -> Any:
    if type(stack[-1]) is not kind:
        raise ValueError(f"its pickle puts something into a {type(stack[-1]).__name__}")
    return stack[-1]


def _storage(named: Any) -> tuple[str, str]:
    """Returns the kind and the part of the file of `('storage', torch.FloatStorage, '0', 'cpu', 12)`."""
    _, kind, part, *_ = named
    name = kind.text.removeprefix("torch ") if isinstance(kind, _Name) else ""
    if name not in _DTYPES or not isinstance(part, str):
        raise ValueError(f"it holds numbers of an unknown kind {name[:40]!r}")
    return name, part


def _size(sizes: Any) -> tuple[Any, ...]:
    if not isinstance(sizes, tuple) or len(sizes) > MOST_DIMENSIONS:
        raise ValueError(f"a size is no tuple of at most {MOST_DIMENSIONS} numbers")
    return sizes


def _ordered(*pairs: Any) -> dict[Any, Any]:
    # torch writes it empty and fills it afterwards; a copy of a long list for each call would fill the memory.
    if pairs:
        raise ValueError("it holds an OrderedDict that is made of a list")
    return {}


def _tensor(storage: tuple[str, str], offset: int, shape: Any, strides: Any, *_: Any) -> Tensor:
    kind, part = storage
    if not (isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= MOST_DIMENSIONS):
        raise ValueError(f"a tensor has no sizes and strides of at most {MOST_DIMENSIONS} dimensions")
    if not all(type(number) is int and abs(number) < 1 << 63 for number in (offset, *shape, *strides)):
        raise ValueError("a tensor has a size that is not a whole number")
    return Tensor(kind, part, offset, tuple(shape), tuple(strides))


_CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": lambda tensor, *_: tensor,
    "collections OrderedDict": _ordered,
    "torch Size": _size,
}


def _called(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Name) or function.text not in _CALLS:
        name = function.text.replace(" ", ".") if isinstance(function, _Name) else type(function).__name__
        raise ValueError(f"it holds more than tensors: {name[:80]}")
    return _CALLS[function.text](*arguments)
