"""Images and labels in a file of numpy arrays, `.npz`."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.data.sources.rows import SPLITS, Found, Rows, stamp_of
from mixup_jax.errors import InputError

WANTED = "images uint8 [N, H, W] or [N, H, W, C] with C 1 or 3, and labels [N]"


def stamp(place: str, data_dir: Path) -> str:
    """Returns a string that changes when the file does."""
    return stamp_of([_path(place)])


def find(place: str, data_dir: Path, labelled: bool) -> Found:
    """Reads the images and labels of a file.

    The arrays are named `images` and `labels`, or `x` and `y`.  If there are several splits, the name of the split
    comes before or after: `train_images`, `x_train`, `val_labels`, `y_test`, ...
    """
    path = _path(place)
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is no .npz file; expected one of numpy.savez with {WANTED}")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read ({error}); expected a file of numpy.savez with {WANTED}") from error
    splits = {}
    for name, images in arrays.items():
        split = _split_of(name, ("images", "image", "x"))
        if split is None:
            continue
        labels = next((arrays[key] for key in arrays if _split_of(key, ("labels", "label", "y")) == split), None)
        if labels is None and labelled:
            raise InputError(f"{path} has {name} without labels; expected {WANTED}")
        where = f"{name} of {path}"
        pixels = _checked_images(images, where)
        splits[split] = Rows(pixels, None if labels is None or not labelled else _checked_labels(labels, pixels, where))
    if not splits:
        raise InputError(f"{path} holds {', '.join(arrays) or 'nothing'}; expected {WANTED}")
    return Found(splits, None)


def _split_of(name: str, kinds: tuple[str, ...]) -> str | None:
    """Returns the split in the name of an array of images or labels ("all" if it has none); None for other names."""
    words = name.lower().split("_")
    if len(words) == 1:
        return "all" if words[0] in kinds else None
    for kind, split in (words, words[::-1]) if len(words) == 2 else ():
        if kind in kinds and split in SPLITS:
            return SPLITS[split]
    return None


def _checked_images(images: npt.NDArray[Any], where: str) -> npt.NDArray[np.uint8]:
    pixels = images[..., None] if images.ndim == 3 else images
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] not in (1, 3) or not pixels.size:
        raise InputError(f"{where} are {images.dtype} {list(images.shape)}; expected {WANTED}")
    return pixels


def _checked_labels(labels: npt.NDArray[Any], images: npt.NDArray[np.uint8], where: str) -> list[int] | list[str]:
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
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iuU":
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
