"""Images and labels in a file of numpy arrays, `.npz`."""

import math
import sys
import zipfile
from collections.abc import Sequence, Sized
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.data.sources import SPLITS, Blocks, Found, Rows, scratch, stamp_of
from mixup_jax.errors import InputError
from mixup_jax.runs.arrays_file import UNREADABLE, open_array, read_npz

WANTED = "images uint8 [N, H, W] or [N, H, W, C] with C 1 or 3, and labels [N]"


def stamp(place: str, data_dir: Path) -> str:
    """Returns a string that changes when the file does."""
    return stamp_of([_path(place)])


def find(place: str, data_dir: Path, labelled: bool) -> Found:
    """Finds the images and labels of a file, of which only the labels are in memory.

    The arrays are named `images` and `labels`, or `x` and `y`.  If there are several splits, the name of the split
    comes before or after: `train_images`, `x_train`, `val_labels`, `y_test`, ...
    """
    path = _path(place)
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is no .npz file; expected one of numpy.savez with {WANTED}")
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
        images, labels = _by_split(names, ("images", "image", "x")), _by_split(names, ("labels", "label", "y"))
        found = read_npz(path, list(labels.values()), sys.maxsize)[0]
        splits = {}
        for split, name in images.items():
            pixels, where = _pixels(path, name, data_dir), f"{name} of {path}"
            if labelled and split not in labels:
                raise InputError(f"{path} has {name} without labels; expected {WANTED}")
            splits[split] = Rows(pixels, _checked_labels(found[labels[split]], pixels, where) if labelled else None)
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(f"{path} cannot be read ({error}); expected a file of numpy.savez with {WANTED}") from error
    if not splits:
        raise InputError(f"{path} holds {', '.join(names) or 'nothing'}; expected {WANTED}")
    return Found(splits, None)


def _by_split(names: Sequence[str], kinds: tuple[str, ...]) -> dict[str, str]:
    """Returns the names of arrays of images or of labels, by the split in the name ("all" if it has none)."""
    found = {}
    for name in names:
        words = name.lower().split("_")
        if len(words) == 1 and words[0] in kinds:
            found["all"] = name
        for kind, split in (words, words[::-1]) if len(words) == 2 else ():
            if kind in kinds and split in SPLITS:
                found[SPLITS[split]] = name
    return found


def _pixels(path: Path, name: str, data_dir: Path) -> Blocks | npt.NDArray[np.uint8]:
    """Returns the images of an array as pixels `[h, w, c]`; in memory only if the array is in Fortran's order."""
    file, shape, fortran, dtype = open_array(path, name, partial(scratch, data_dir))
    count, *size = shape if len(shape) == 4 else (*shape, 1)
    if dtype != np.uint8 or len(size) != 3 or size[-1] not in (1, 3) or not math.prod(shape):
        file.close()
        raise InputError(f"{name} of {path} are {dtype} {list(shape)}; expected {WANTED}")
    if fortran:
        file.close()
        return np.ascontiguousarray(read_npz(path, [name], sys.maxsize)[0][name]).reshape(count, *size)
    each = math.prod(size)
    return Blocks(file, file.tell() + each * np.arange(count), np.full(count, each), tuple(size))


def _checked_labels(labels: npt.NDArray[Any], images: Sized, where: str) -> list[int] | list[str]:
    """Returns one label per example; a column `[N, 1]` is flattened, and one-hot rows become class numbers."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        if not np.isin(labels, (0, 1)).all() or not (labels.sum(axis=1) == 1).all():
            raise InputError(
                f"the labels beside {where} are {list(labels.shape)}: several classes an example, which is not "
                "supported; expected one class an example, whole numbers [N]"
            )
        labels = labels.argmax(axis=1)
    if labels.shape != (len(images),) or labels.dtype.kind not in "iuU":
        raise InputError(
            f"the labels beside {where} are {labels.dtype} {list(labels.shape)}; expected one class an example, whole "
            f"numbers or names [{len(images)}]"
        )
    listed: list[int] | list[str] = labels.tolist()
    return listed


def _path(place: str) -> Path:
    path = Path(place).expanduser()
    if not path.is_file():
        raise InputError(f"arrays:{place} is no file; expected one of numpy.savez with {WANTED}")
    return path
