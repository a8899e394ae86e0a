"""Numbers of tables: CSV, Parquet and Arrow files, read a block of rows at a time.

Memory holds the numbers that are wanted and one block more, so a file may be larger than memory if what is wanted of it
is not.  What a file claims to hold is never allocated before it is there.
"""

import csv
import gzip
import re
import struct
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError
from mixup_jax.escapes import is_file_name
from mixup_jax.runs.arrays_file import check_size
from mixup_jax.runs.files import read_object

Array = npt.NDArray[Any]
SEPARATORS = (",", ";", "\t")
LONGEST_LINE = 1 << 24
"""Characters of a line; 200,000 numbers have about 4 million."""
MOST_BLANK = 1000
MOST_COLUMNS = 20_000
"""Columns of a Parquet file: pyarrow takes a second for as many, and longer than that for each further thousand."""
LARGEST_FOOTER = 1 << 22
"""Bytes of a text, and number of entries of a list, in the metadata of a Parquet file."""
PAGES = 1 << 16
"""Bytes of a column that are read from a Parquet file at a time, instead of its whole part of a row group."""
BLOCK = 1 << 20
"""Numbers that are read at a time."""


class Columns(NamedTuple):
    """The columns to read: those of the matrix (or the one that holds a list in each row), and single ones."""

    matrix: Sequence[int]
    vectors: Sequence[int]


class Table(NamedTuple):
    """A matrix [N, K] and vectors [N]; of a CSV file all float64."""

    matrix: Array
    vectors: list[Array]


Choose = Callable[[Sequence[str], frozenset[int]], Columns]
"""Takes the names of all columns, and the places of those that hold lists; returns the columns to read."""


class _Growing:
    """An array of rows that grows as they come."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path, self._limit, self._rows = path, limit, 0
        self._array: Array | None = None

    def add(self, block: Array) -> None:
        """Appends the rows of a block; raises InputError beyond the limit."""
        if self._array is None:
            self._array = np.empty((0, *block.shape[1:]), block.dtype)
        if block.shape[1:] != self._array.shape[1:]:
            raise ValueError(f"rows hold {block.shape[1]} and {self._array.shape[1]} numbers")
        if block.dtype != self._array.dtype:  # whole numbers where none is missing, else floating point
            self._array = self._array.astype(np.result_type(block, self._array))
        rows = self._rows + len(block)
        check_size(self._path, rows * max(self._array[:1].nbytes, block[:1].nbytes), self._limit)
        if rows > len(self._array):
            size = max(rows, min(len(self._array) * 5 // 4, len(self._array) + (BLOCK << 4) // block[:1].size))
            self._array.resize((size, *self._array.shape[1:]), refcheck=False)
        self._array[self._rows : rows] = block
        self._rows = rows

    def whole(self) -> Array:
        """Returns all rows; an empty vector if none came."""
        if self._array is None:
            return np.empty(0)
        self._array.resize((self._rows, *self._array.shape[1:]), refcheck=False)
        return self._array


def _joined(path: Path, limit: int, blocks: Iterable[Table], shape: Columns) -> Table:
    matrix, vectors = _Growing(path, limit), [_Growing(path, limit) for _ in shape.vectors]
    for block in blocks:
        if block.matrix.size:
            matrix.add(block.matrix)
        for one, values in zip(vectors, block.vectors, strict=True):
            one.add(values)
    found = matrix.whole()
    return Table(found if found.ndim == 2 else np.empty((0, len(shape.matrix))), [one.whole() for one in vectors])


def read_csv(path: Path, choose: Choose, limit: int) -> Table:
    """Returns the chosen columns of a CSV file, which may be compressed by gzip; `,`, `;` or a tab separates them."""
    opened: Any = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        first = _line(file)
        separator = max(SEPARATORS, key=first.count)
        names = next(csv.reader([first], delimiter=separator), [])
        columns = choose(names, frozenset())
        return _joined(path, limit, _csv_blocks(path, file, separator, len(names), columns), columns)


def _line(file: TextIO) -> str:
    line = file.readline(LONGEST_LINE)
    if len(line) == LONGEST_LINE:
        raise ValueError(f"a line has more than {LONGEST_LINE:,} characters")
    return line


def _csv_blocks(path: Path, file: TextIO, separator: str, width: int, columns: Columns) -> Iterator[Table]:
    chosen = [*columns.matrix, *columns.vectors]
    some = len(set(chosen)) < width

    def lines() -> Iterator[str]:
        blank = 0
        while line := _line(file):
            blank += line.isspace()
            if blank > MOST_BLANK:
                raise ValueError(f"it has more than {MOST_BLANK} blank lines")
            # numpy does not count the columns if it takes some of them; a quoted text may hold separators.
            if some and '"' not in line and not line.isspace() and line.count(separator) != width - 1:
                raise ValueError(f"a row has {line.count(separator) + 1} columns, the first line {width}")
            yield line

    rows, source = max(1, BLOCK // max(width, 1)), lines()
    options: dict[str, Any] = {"delimiter": separator, "comments": None, "quotechar": '"', "ndmin": 2}
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # no data is no mistake after the last row
            block = np.loadtxt(source, dtype=np.float64, max_rows=rows, usecols=chosen if some else None, **options)
        if block.size == 0:
            return
        if not some and block.shape[1] != width:
            raise InputError(
                f"predictions file {path} has {width} names but {block.shape[1]} columns; expected as many"
            )
        ordered = block if some else block[:, chosen]
        k = len(columns.matrix)
        yield Table(ordered[:, :k], [ordered[:, place] for place in range(k, len(chosen))])
        if len(block) < rows:
            return


def read_parquet(path: Path, choose: Choose, limit: int) -> Table:
    """Returns the chosen columns of a Parquet file; needs pyarrow."""
    arrow = _arrow(path)
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(
            path,
            pre_buffer=False,
            buffer_size=PAGES,
            thrift_string_size_limit=LARGEST_FOOTER,
            thrift_container_size_limit=LARGEST_FOOTER,
        ) as file:
            if file.metadata.num_columns > MOST_COLUMNS:
                raise InputError(
                    f"predictions file {path} has {file.metadata.num_columns} columns; expected at most "
                    f"{MOST_COLUMNS}: one column of lists, or an .npy, is read many times faster"
                )
            columns, names = _chosen(path, file.schema_arrow, choose)
            rows = max(file.metadata.num_rows, 1)
            check_size(path, 4 * rows * len(columns.matrix), limit)
            groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
            # How long the lists of a column are is known only after reading; their bytes tell it roughly, unless equal
            # numbers are stored once.  A first row tells it, and must be of the length of all.
            wide = max(len(columns.matrix), sum(group.total_byte_size for group in groups) // (4 * rows), 1)
            if len(columns.matrix) == 1 and file.metadata.num_rows:
                first = next(file.iter_batches(batch_size=1, columns=names, use_threads=False))
                wide = max(wide, _of_batch(first, names, columns).matrix.shape[1])
                check_size(path, 4 * rows * wide, limit)
            batches = file.iter_batches(batch_size=max(1, BLOCK // wide), columns=names, use_threads=False)
            return _joined(path, limit, (_of_batch(batch, names, columns) for batch in batches), columns)
    except arrow.ArrowException as error:
        raise ValueError(str(error)) from error
    except OSError as error:
        if "Exceeded size limit" not in str(error):
            raise
        raise ValueError("its list of columns is too long: save one column of lists instead") from error


def read_arrow(path: Path, choose: Choose, limit: int) -> Table:
    """Returns the chosen columns of an Arrow stream, or of the folder that the library `datasets` saves to disk."""
    arrow = _arrow(path)
    files = _saved_files(path) if path.is_dir() else [path]

    def blocks() -> Iterator[Table]:
        for file in files:
            with arrow.memory_map(str(file)) as mapped:
                _refuse_compressed(arrow, mapped)
                mapped.seek(0)
                with arrow.ipc.open_stream(mapped) as stream:
                    columns, names = _chosen(path, stream.schema, choose)
                    for batch in stream:
                        batch.validate(full=True)
                        if batch.num_rows:
                            yield _of_batch(batch, names, columns)

    try:
        with arrow.memory_map(str(files[0])) as mapped, arrow.ipc.open_stream(mapped) as stream:
            columns, _ = _chosen(path, stream.schema, choose)
        return _joined(path, limit, blocks(), columns)
    except arrow.ArrowException as error:
        raise ValueError(str(error)) from error


def _saved_files(folder: Path) -> list[Path]:
    state = read_object(folder / "state.json")
    if state.get("_indices_files"):
        raise InputError(f"{folder} selects rows by indices; expected a data set saved after flatten_indices()")
    parts = state.get("_data_files")
    names = [part.get("filename") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    if not names or not all(isinstance(name, str) and is_file_name(name) for name in names):
        raise ValueError("its state.json names no data files")
    return [folder / str(name) for name in names]


def _refuse_compressed(arrow: Any, mapped: Any) -> None:
    """Raises ValueError if a batch of an Arrow stream is compressed: how large it unfolds is not known before it does.

    `RecordBatch.compression` is the fourth field of the table in the third field of `Message` (FlatBuffers).
    """
    for message in arrow.ipc.MessageReader.open_stream(mapped):
        metadata = message.metadata.to_pybytes()
        (root,) = struct.unpack_from("<I", metadata)
        header = _field(metadata, root, 2)
        if message.type == "dictionary":
            raise ValueError("it has a column of categories: save numbers, or texts in full")
        if message.type == "record batch" and header is not None:
            (step,) = struct.unpack_from("<I", metadata, header)
            if _field(metadata, header + step, 3) is not None:
                raise ValueError("it is compressed: save it without compression, or as Parquet")


def _field(metadata: bytes, table: int, number: int) -> int | None:
    """Returns where a field of a FlatBuffers table is, or None if the table does not have it."""
    (back,) = struct.unpack_from("<i", metadata, table)
    size, *_ = struct.unpack_from("<H", metadata, table - back)
    if 4 + 2 * number >= size:
        return None
    (offset,) = struct.unpack_from("<H", metadata, table - back + 4 + 2 * number)
    return table + offset if offset else None


def _chosen(path: Path, schema: Any, choose: Choose) -> tuple[Columns, list[str]]:
    """Returns the columns to read and their names, after checking that they hold numbers."""
    import pyarrow as arrow

    lists = (arrow.types.is_list, arrow.types.is_large_list, arrow.types.is_fixed_size_list)
    of_lists = frozenset(place for place, field in enumerate(schema) if any(test(field.type) for test in lists))
    columns = choose(schema.names, of_lists)
    for place in (*columns.matrix, *columns.vectors):
        kind = schema.field(place).type
        inner = kind.value_type if place in of_lists and place in columns.matrix else kind
        if not (arrow.types.is_integer(inner) or arrow.types.is_floating(inner)):
            name = schema.names[place]
            raise InputError(f"predictions file {path}: column {name[:40]!r} is {kind}; expected numbers")
    names = [schema.names[place] for place in (*columns.matrix, *columns.vectors)]
    if len(set(names)) < len(names) or len(set(schema.names)) < len(schema.names):
        raise ValueError("it has two columns of one name")
    return columns, names


def _of_batch(batch: Any, names: Sequence[str], columns: Columns) -> Table:
    arrays = [batch.column(name) for name in names]
    k = len(columns.matrix)
    with np.errstate(invalid="ignore"):  # for signalling NaNs; any NaN is refused later, with its position
        if k == 1 and hasattr(arrays[0], "flatten") and hasattr(arrays[0].type, "value_type"):
            matrix = _of_lists(arrays[0])
        else:  # missing values become NaN, which is refused
            numbers = [array.to_numpy(zero_copy_only=False) for array in arrays[:k]]
            kind = np.result_type(*numbers) if k else np.dtype(float)
            matrix = np.empty((len(batch), k), kind if kind.kind == "f" else np.float64)
            for place, column in enumerate(numbers):
                matrix[:, place] = column
    return Table(matrix, [array.to_numpy(zero_copy_only=False) for array in arrays[k:]])


def _of_lists(lists: Any) -> Array:
    """Returns the rows of a column of lists, which must be of one length."""
    if lists.null_count:
        raise ValueError("a row holds no list")
    rows, numbers = len(lists), lists.flatten().to_numpy(zero_copy_only=False)
    lengths = {len(numbers) // rows} if rows and len(numbers) % rows == 0 else set()
    if hasattr(lists, "offsets"):
        lengths = set(np.unique(np.diff(lists.offsets.to_numpy())).tolist())
    if rows and len(lengths) != 1:
        raise ValueError(f"its rows hold lists of {len(lengths)} lengths, such as {sorted(lengths)[:2]}")
    matrix: Array = numbers.reshape(rows, -1)
    return matrix if matrix.dtype.kind == "f" else matrix.astype(np.float64)


def _arrow(path: Path) -> Any:
    """Returns pyarrow, of a version with which no file can run code."""
    try:
        import pyarrow as arrow
    except ImportError as error:
        raise InputError(f"predictions file {path} needs pyarrow; expected `pip install pyarrow`, or a .csv") from error
    if tuple(int(part) for part in re.findall(r"[0-9]+", arrow.__version__)[:3]) < (14, 0, 1):
        raise InputError(
            f"predictions file {path} is not read with pyarrow {arrow.__version__}, in which such a file could run "
            "code; expected at least 14.0.1: pip install 'pyarrow>=14.0.1'"
        )
    return arrow
