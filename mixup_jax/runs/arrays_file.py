"""Arrays of `.npz` and `.npy` files, read without trusting them.

Nothing is unpickled.  Before an array is read, the size that its header claims is compared with the bytes in the file
and with a limit, so that a false header allocates nothing.
"""

import contextlib
import csv
import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError

GIB = 1 << 30
DEFAULT_LIMIT = 2 * GIB
"""Bytes that the arrays of one file may take in memory, unless the user says otherwise."""

UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,  # an encrypted archive
    NotImplementedError,  # a compression that Python does not know
    SyntaxError,  # a header that is no Python literal
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    MemoryError,
    tokenize.TokenError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What Python and numpy raise for a damaged file."""


@contextlib.contextmanager
def explained(path: Path, expected: str) -> Iterator[None]:
    """Makes what a damaged or forbidden file of predictions raises in the block one line that names the file."""
    try:
        yield
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(
            f"predictions file {path} may not be read ({error.strerror}); expected a readable file"
        ) from error
    except (*UNREADABLE, csv.Error) as error:
        reason = " ".join(str(error).split())[:300]  # messages of libraries may span lines
        raise InputError(f"predictions file {path} cannot be read ({reason}); expected {expected}") from error


READ_AT_ONCE = 1 << 20
MAPPED = 1 << 26
"""Bytes from which on an array that may be memory-mapped is, if it is stored without compression."""


def read_npz(
    path: Path, wanted: Sequence[str], limit: int = DEFAULT_LIMIT, mapped: Sequence[str] = ()
) -> tuple[dict[str, npt.NDArray[Any]], list[str]]:
    """Returns those of the wanted arrays that an `.npz` holds, and the names of all that it holds.

    Other arrays are not decompressed.  Large ones of those named in `mapped` are read-only memory maps, if they are
    stored without compression (as by `numpy.savez`); they do not count towards the limit.

    Raises:
      InputError: the wanted arrays together exceed `limit` bytes.
      one of UNREADABLE: the file is damaged, no `.npz`, or holds pickled objects.
    """
    with path.open("rb") as file:
        if file.read(6) == b"\x93NUMPY":
            raise ValueError("it holds a single array")
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            members: dict[str, zipfile.ZipInfo] = {}
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if name in members:
                    raise ValueError(f"it holds the array {name[:60]!r} twice")
                members[name] = info
            chosen = {name: members[name] for name in wanted if name in members}
            in_place = {name for name, info in chosen.items() if name in mapped and _may_be_mapped(info)}
            check_size(path, sum(info.file_size for name, info in chosen.items() if name not in in_place), limit)
            for info in chosen.values():
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    # numpy writes no others, and LZMA allocates as much memory as the file claims to need.
                    raise ValueError(f"compression method {info.compress_type} is not one that numpy writes")
            arrays = {
                name: _map_member(path, file, info) if name in in_place else _read_member(archive, info)
                for name, info in chosen.items()
            }
            return arrays, sorted(members)


def _may_be_mapped(info: zipfile.ZipInfo) -> bool:
    plain = info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1  # bit 0: encrypted
    return plain and info.file_size == info.compress_size >= MAPPED


def _map_member(path: Path, file: IO[bytes], info: zipfile.ZipInfo) -> npt.NDArray[Any]:
    """Returns an array of an archive as a read-only map of its bytes in the file."""
    shape, fortran, dtype = _find_member(path, file, info)
    array = np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran else "C")
    return np.asarray(array)


def _find_member(path: Path, file: IO[bytes], info: zipfile.ZipInfo) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Sets the file to the first number of an array that is stored as it is; returns shape, order and dtype."""
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER.size)
    mark, name_size, extra_size = _LOCAL_HEADER.unpack(header)
    if mark != b"PK\3\4":
        raise ValueError("its directory names a place that holds no array")
    start = info.header_offset + len(header) + name_size + extra_size
    if start + info.file_size > path.stat().st_size:
        raise ValueError("it ends within an array")
    file.seek(start)
    return _check_header(file, start + info.file_size)


_LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Of a member of a ZIP archive: its mark, and the lengths of its name and of what follows it, before the bytes."""


def map_npy(path: Path) -> npt.NDArray[Any]:
    """Returns the array of an `.npy` as a read-only memory map of the file."""
    with path.open("rb") as file:
        _check_header(file, path.stat().st_size)
    with _quiet():
        return np.asarray(np.lib.format.open_memmap(path, mode="r"))


def open_array(
    path: Path, name: str, scratch: Callable[[], IO[bytes]]
) -> tuple[IO[bytes], tuple[int, ...], bool, np.dtype]:
    """Returns an open file at the first number of an array of an `.npz`, and the array's shape, order and dtype.

    Nothing large is held in memory.  The file is the `.npz` itself if the array is stored in it as it is; a compressed
    array is unpacked into a file of `scratch`.  All bytes are read once, to compare their checksum.

    Raises:
      one of UNREADABLE: the file is damaged, or holds pickled objects.
    """
    with zipfile.ZipFile(path) as archive:
        info = next(info for info in archive.infolist() if info.filename.removesuffix(".npy") == name)
        plain = info.compress_type == zipfile.ZIP_STORED
        file = path.open("rb") if plain else scratch()
        try:
            with archive.open(info) as member:
                while some := member.read(READ_AT_ONCE):
                    if not plain:
                        file.write(some)
            if plain:
                return file, *_find_member(path, file, info)
            file.seek(0)
            return file, *_check_header(file, info.file_size)
        except BaseException:
            file.close()
            raise


def from_bfloat16(bits: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Returns the numbers of bfloat16 as float32, exactly; numpy knows them only as two bytes each, "V2" or uint16."""
    return (np.ascontiguousarray(bits).view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def limit_of(max_gib: float) -> int:
    """Returns --max_gib in bytes; raises InputError if it is no size."""
    if not 0 < max_gib < float("inf"):
        raise InputError(f"--max_gib={max_gib} is not a size; expected a number above 0, such as 8")
    return int(max_gib * GIB)


def check_size(path: Path | str, size: int, limit: int) -> None:
    """Raises InputError if the `size` bytes to be read from `path` exceed `limit`."""
    if size > limit:
        raise InputError(
            f"predictions file {path} would take {size / GIB:.3g} GiB in memory; "
            f"expected at most {limit / GIB:.3g} GiB (--max_gib raises that; an .npy is memory-mapped and has no limit)"
        )


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> npt.NDArray[Any]:
    with archive.open(info) as file:
        _check_header(file, info.file_size)
    with archive.open(info) as file, _quiet():
        array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):
            raise ValueError("bytes follow the array")
        return array


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences numpy's warnings about headers of old versions, which are read or refused anyway."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Returns shape, order and dtype from a header; the array ends at byte `size`.

    Raises ValueError unless it describes an array of exactly the bytes that follow it.
    """
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"its format version {version} is unknown")
    try:
        with _quiet():
            shape, fortran, dtype = readers[version](file)
    except (*UNREADABLE,) as error:
        if isinstance(error, OSError):
            raise
        raise ValueError("its header is damaged") from error
    if dtype.hasobject:
        raise ValueError("it holds pickled objects")
    if min(shape, default=0) < 0:
        raise ValueError(f"its header has the negative shape {list(shape)}")
    promised = math.prod(shape) * dtype.itemsize
    if promised != size - file.tell():
        raise ValueError(
            f"an array of shape {list(shape)} and {dtype} takes {promised} bytes, not {size - file.tell()}"
        )
    return shape, fortran, dtype
