"""Image files in folders of classes: PATH/{train,val,test}/CLASS/*, or PATH/CLASS/*."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mixup_jax.data.sources import SPLITS, Found, Rows, stamp_of
from mixup_jax.errors import InputError

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")


def stamp(place: str, data_dir: Path) -> str:
    """Returns a string that changes when the files of a folder do."""
    return stamp_of(images(_root(place)))


def find(place: str, data_dir: Path, labelled: bool) -> Found:
    """Lists the images of a folder; their classes are the names of the folders that they are in.

    Hidden files, and files without the ending of an image, are ignored; a note says which.  If no classes are wanted,
    images may lie anywhere in the folder.
    """
    root = _root(place)
    parts = {SPLITS[path.name.lower()]: path for path in _folders(root) if path.name.lower() in SPLITS}
    if "train" not in parts and not (parts.keys() == {"test"} and not labelled):
        parts = {"all": root}
    splits = {split: _rows(path, labelled) for split, path in sorted(parts.items())}
    notes = [_ignored(root)]
    if labelled:
        names = [path.name for part in parts.values() for path in _folders(part) if not any(images(path))]
        notes.append(f"folders without images are no classes: {', '.join(names)}" if names else "")
    return Found(splits, None, notes=tuple(filter(None, notes)))


def _ignored(root: Path) -> str:
    """Returns a line about the files that are no images, by their endings; empty if there are none."""
    counts = Counter(Path(file).suffix.lower() or "none" for file in _files(root) if not _is_image(file))
    kinds = ", ".join(f"{ending} {count:,}" for ending, count in counts.most_common(5))
    return f"{counts.total():,} files without the ending of an image are ignored ({kinds})" if counts else ""


def _rows(folder: Path, labelled: bool) -> Rows:
    if not labelled:
        files = list(images(folder))
        labels = None
    else:
        classes = _folders(folder)
        # Some systems write an accent as a character of its own; the class is the same.
        named = [(unicodedata.normalize("NFC", path.name), path) for path in classes]
        pairs = [(file, name) for name, path in named for file in images(path)]
        files, labels = [file for file, _ in pairs], [name for _, name in pairs]
    if not files:
        wanted = "a folder for each class, with images in it" if labelled else "images"
        raise InputError(f"{folder} has no images ({', '.join(ENDINGS)}); expected {wanted}")
    return Rows(files, labels, files=True)


def _root(place: str) -> Path:
    root = Path(place).expanduser()
    if not root.is_dir():
        raise InputError(
            f"folder:{place} is no folder; expected a folder of images, CLASS/* or {{train,val,test}}/CLASS/*"
        )
    return root


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _is_image(file: str | Path) -> bool:
    return str(file).lower().endswith(ENDINGS)


def images(root: Path) -> Iterator[Path]:
    """Yields the images at any depth of a folder, sorted by name."""
    return (Path(file) for file in _files(root) if _is_image(file))


def _files(root: Path) -> Iterator[str]:
    """Yields the paths of all files that are not hidden; no folder is visited twice through links.

    Raises:
      InputError: a folder cannot be read.
    """
    seen = set()

    def refuse(error: OSError) -> None:  # os.walk would ignore the folder
        raise InputError(
            f"folder {error.filename} cannot be read ({error.strerror}); expected folders that may be read"
        ) from error

    for folder, below, files in os.walk(root, onerror=refuse, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith("."))
        yield from (os.path.join(folder, name) for name in sorted(files) if not name.startswith("."))
