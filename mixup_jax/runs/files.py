"""Files of a run: writing them atomically, and reading JSON from any source within limits of size and depth."""

import json
import math
import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mixup_jax.errors import InputError
from mixup_jax.escapes import is_text

MIB = 1 << 20
LARGEST = 64 * MIB
"""The most bytes of a file that are read; parsed JSON takes about ten times as much memory."""

DEEPEST = 40
"""How deeply lists and objects may be nested; a config and an evaluation have less than ten levels."""

LONGEST_INTEGER = 18
"""The most digits of a whole number; longer ones are read as floating point."""


def read_object(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file, which `check_values` has passed."""
    try:
        value = parse(read_bytes(path))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; expected the folder of a run of mixup_jax.main") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); expected a whole file of mixup_jax") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a {type(value).__name__}; expected a JSON object")
    try:
        check_values(value)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return value


def read_lines(path: Path) -> tuple[dict[str, Any], ...]:
    """Returns the objects in a file of JSON lines, in order; a missing file has none.

    An incomplete last line, which a killed run may leave, is ignored.  NaN, which a diverged run may log, is kept.
    """
    try:
        lines = read_bytes(path).split(b"\n")
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error})") from error
    objects = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = parse(line)
        except ValueError as error:
            if number == len(lines):
                break
            raise InputError(
                f"{path}, line {number} is not JSON ({error}); expected one JSON object per line: delete this line"
            ) from error
        if isinstance(value, dict):
            objects.append(value)
    return tuple(objects)


def read_bytes(path: Path) -> bytes:
    """Returns the content of a regular file; raises ValueError for a pipe or device, or for more than 64 MiB."""
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError("it is not a regular file")
    if facts.st_size > LARGEST:
        raise ValueError(f"it has {facts.st_size / MIB:.0f} MiB; expected at most {LARGEST // MIB}")
    return path.read_bytes()


def parse(text: bytes) -> Any:
    """Returns JSON as Python values; raises ValueError for text that is not JSON, nests too deeply or repeats a key."""
    try:
        return json.loads(text.decode("utf-8"), parse_int=_whole_number, object_pairs_hook=unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns the members of a JSON object; raises ValueError if two have one key."""
    members = dict(pairs)
    if len(members) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise ValueError(f"the key {shown(twice)} stands twice in an object")
    return members


def check_values(value: Any, root: str = "") -> None:
    """Checks that all numbers in a value are finite and that all text can be printed.

    Raises:
      InputError: a number is not finite (JSON has no NaN and no infinity) or beyond float64, a text holds half a
        character, or it is nested more than 40 levels deep; the message names the key, which `root` begins.
    """
    for place, found in _everything(value):
        if len(place) - 1 > DEEPEST:
            raise InputError(f"{_shown_place(root, place)[:60]}... is nested more than {DEEPEST} levels deep")
        if isinstance(found, float) and not math.isfinite(found):
            raise InputError(
                f"{_shown_place(root, place)} is {found}; expected a finite number (JSON has no NaN and no infinity)"
            )
        if isinstance(found, str) and not is_text(found):
            where = _shown_place(root, place)
            raise InputError(f"{where} is {shown(found)}; expected Unicode text without control characters")


def shown(value: Any) -> str:
    """Returns a value as text for a message: on one line, at most 60 characters."""
    text = ascii(value) if isinstance(value, str) and not is_text(value) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def key(where: str, name: str) -> str:
    """Returns the name of a part of a value, such as `results['mnist/test'].n`."""
    if name.isidentifier():
        return f"{where}.{name}" if where else name
    return f"{where}[{shown(name)}]"


Place = tuple[str | int, ...]


def _everything(value: Any) -> Iterator[tuple[Place, Any]]:
    """Yields the place and the value of each part of a value, keys included, without recursion."""
    waiting: list[tuple[Place, Iterator[tuple[str | int, Any]]]] = [((), iter([("", value)]))]
    while waiting:
        where, parts = waiting[-1]
        for name, found in parts:
            place = (*where, name)
            yield place, found
            if isinstance(found, dict):
                yield from (((*place, key), key) for key in found)
            if isinstance(found, dict | list):
                waiting.append((place, iter(found.items() if isinstance(found, dict) else enumerate(found))))
                break
        else:
            waiting.pop()


def _shown_place(root: str, place: Place) -> str:
    for part in place[1:]:
        root = f"{root}[{part}]" if isinstance(part, int) else key(root, part)
    return root


def _whole_number(text: str) -> int | float:
    # Numbers with thousands of digits become infinite as floating point, and are then refused.
    return int(text) if len(text) <= LONGEST_INTEGER else float(text)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file that appears complete or not at all; creates its folder if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically; NaN and infinity are refused (they are not JSON)."""
    write_atomically(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())
