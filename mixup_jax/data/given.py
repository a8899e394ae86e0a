"""Images that a user gives to a trained network: files, folders, arrays, and own data sets by name."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mixup_jax.data.images import cut, fit, open_upright
from mixup_jax.data.own import ORIGINS, is_own
from mixup_jax.data.sets import DatasetSpec
from mixup_jax.data.sources import arrays, folder
from mixup_jax.errors import InputError, local_path, not_a_file

Pixels = npt.NDArray[np.uint8]


class Given(NamedTuple):
    """An image that was given.

    Attributes:
      name: the path of its file, or the name of its array with its split and row, such as `x.npz[test 3]`.
      items: of which it is one: paths, the bytes of image files, or pixels uint8 `[h, w, c]`; read when accessed.
      row: its place in them.
    """

    name: str
    items: Any
    row: int = 0


def given_images(arguments: Sequence[str], data_dir: Path) -> list[Given]:
    """Returns the images that the arguments name, in their order; nothing is decoded.

    An argument is an image file, a folder (all images in it), a file of arrays `.npz`, or the name of an own data set.
    """
    found: list[Given] = []
    for argument in arguments:
        origin, _, place = argument.partition(":") if is_own(argument) else ("", "", argument)
        path = local_path(place)
        if path.is_dir() and origin in ("", "folder"):
            found += [Given(str(file), (file,)) for file in folder.images(path)]
        elif origin or path.suffix == ".npz":
            rows = (ORIGINS[origin] if origin else arrays).find(place, data_dir, False)
            if rows.task != "image":
                raise InputError(f"{argument} holds {rows.task}s; expected images")
            for split, part in rows.splits.items():
                found += [Given(f"{argument}[{split} {row}]", part.items, row) for row in range(len(part.items))]
        elif path.is_file():
            found.append(Given(str(path), (path,)))
        else:
            raise InputError(f"{argument} {not_a_file(path)}; expected an image, a folder of images or an .npz of them")
    if not found:
        endings = ", ".join(folder.ENDINGS)
        raise InputError(f"{', '.join(arguments)} has no images; expected files ending in {endings}")
    return found


def decoded(given: Sequence[Given], spec: DatasetSpec, at_once: int) -> Iterator[tuple[list[Given], Pixels, list[str]]]:
    """Yields images as the evaluation of a network trained on `spec` sees them, at most `at_once` together.

    Yields:
      (the images that could be decoded, their pixels uint8 `[n, H, W, C]`, and the others, each with the reason).
    """
    read = partial(_seen, spec=spec)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(given), at_once):
            some = given[start : start + at_once]
            made = list(pool.map(partial(_tried, read), some))
            whole = [(one, pixels) for one, pixels in zip(some, made, strict=True) if not isinstance(pixels, str)]
            images = np.stack([pixels for _, pixels in whole]) if whole else np.empty((0, *spec.shape), np.uint8)
            yield [one for one, _ in whole], images, [reason for reason in made if isinstance(reason, str)]


def _seen(item: Any, spec: DatasetSpec) -> Pixels:
    """Returns an image as evaluation sees it."""
    picture = open_upright(item)
    return cut(picture, spec.shape, None) if spec.always_cut else fit(picture, spec.shape)


def _tried(read: Callable[[Any], Pixels], given: Given) -> Pixels | str:
    """Returns the pixels of an image, or why there are none."""
    try:
        return read(given.items[given.row])
    except Exception as error:  # Pillow may raise any exception here
        return f"{given.name} ({type(error).__name__}: {error})"
