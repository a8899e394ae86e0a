"""A user's mistakes, as opposed to defects of this package."""

import difflib
import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path

from mixup_jax.escapes import one_line

LONGEST = 2000
"""Characters of a message; longer ones are cut."""

NEAR = 0.75
"""The least ratio of `difflib` of names that are near in spelling; "sed" and "seed" have 0.86."""

UNUSABLE = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENXIO)
"""Of operations on files: it is the path that is wrong, not the machine."""

MANY = 40
"""The most choices that a message lists if a page of the documentation lists them too."""


class InputError(ValueError):
    """Something the user gave is wrong.

    The message is one line that names the thing, its value, and what would be right.  Commands print it and exit with
    code 2; every other exception is a defect of this package and keeps its traceback.  Text of files or of the
    command line is escaped in it, so that it can neither break the line nor control a terminal.
    """

    def __init__(self, message: str) -> None:
        line = one_line(message)
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}...")


class DiskFullError(InputError):
    """There is no space to write something: a command exits with code 3, since nothing that was given is wrong."""


def about_a_path(error: BaseException) -> str | None:
    """Returns one line about an exception that a path of the user's has caused, and None for any other."""
    number = getattr(error, "errno", None)
    if isinstance(error, OSError) and number in UNUSABLE:
        where = str(error.filename or "a path")
        where = where if len(where) <= 200 else f"{where[:197]}..."
        return f"{where} cannot be used ({error.strerror}); expected the path of a file or folder, as it is asked for"
    if isinstance(error, RuntimeError) and str(error).startswith(("Symlink loop", "Could not determine home")):
        return f"a path cannot be followed ({error}); expected the path of a file or folder"
    return None


def local_path(text: str | os.PathLike[str]) -> Path:
    """Returns a path with `~` expanded.

    Raises:
      InputError: it is the address of an object store, or of anything else that is not on this machine, or in the
        home of an unknown user.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", str(text)):
        raise InputError(
            f"{str(text)!r} is an address; expected a path, such as that of a mounted bucket (docs/launch.md)"
        )
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise InputError(f"{str(text)!r} is in the home of an unknown user; expected a path") from error


def not_a_file(path: Path) -> str:
    """Returns why a path is not a regular file, as the end of a sentence about it."""
    if path.is_dir():
        return "is a folder"
    return "is a pipe or a device, not a regular file" if path.exists() else "does not exist"


def not_a_folder(path: Path) -> str:
    """Returns why a path is not a folder, as the end of a sentence about it."""
    return "is not a folder" if os.path.lexists(path) else "does not exist"


def unknown_name(kind: str, name: str, choices: Iterable[str], page: str | None = None) -> InputError:
    """Returns the error for a name that is not among `choices`; it suggests the nearest one, if one is near.

    Args:
      kind: what is being named, such as "data set"; it opens the message.
      name: the unknown name.
      choices: every name that would be right.
      page: of the documentation, which lists the choices; where there are many, the message names it instead of them.
    """
    names = sorted(choices)
    name = name if len(name) <= 60 else f"{name[:57]}..."
    near = _nearest(name, names)
    if page is not None and len(names) > MANY:
        hint = f" (did you mean {' or '.join(map(repr, near[:3]))}?)" if near else ""
        return InputError(f"unknown {kind} {name!r}{hint}; see {page} for all {len(names)}")
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return InputError(f"unknown {kind} {name!r}{hint}; choose one of: {', '.join(names)}")


def _nearest(name: str, choices: Iterable[str]) -> list[str]:
    """Returns the choices that `name` may stand for, the best first.

    Of keys with dots the last parts are compared, so that "model.pretrained" does not suggest "model.stem"; where the
    group in front is right, only its keys are suggested.
    """
    group, _, last = name.rpartition(".")
    ranked = []
    for choice in choices:
        its_group, _, its_last = choice.rpartition(".")
        likeness = _likeness(last.removeprefix("--").lower(), its_last.removeprefix("--").lower())
        if likeness:
            whole = difflib.SequenceMatcher(None, name, choice).ratio()
            ranked.append((bool(group) and group == its_group, likeness, whole, choice))
    ranked.sort(reverse=True)
    return [choice for in_group, *_, choice in ranked if in_group == ranked[0][0]]


def _likeness(name: str, choice: str) -> float:
    """Returns how likely `name` is a misspelt or shortened `choice`, 0 if it is not.

    It is 2 where one is the beginning of the other, or has some of its words or its initials, and else the likeness in
    spelling, if that is at least NEAR.
    """
    if name == choice:
        return 2
    words = [re.split(r"[-_ ]+", text) for text in (name, choice)]
    if len(words[1]) > 1 and name == "".join(word[:1] for word in words[1]):
        return 2
    short, long = sorted((name, choice), key=len)
    contained = set(words[0]) <= set(words[1]) or set(words[1]) <= set(words[0])
    if len(short) >= 3 and (long.startswith(short) or contained):
        return 2
    ratio = difflib.SequenceMatcher(None, name, choice).ratio()
    return ratio if ratio >= NEAR else 0


def require(condition: bool, key: str, value: object, expected: str) -> None:
    """Raises InputError, "`key` is `value`; expected `expected`", unless the condition holds."""
    if not condition:
        raise InputError(f"{key} is {value!r}; expected {expected}")


def require_choice(key: str, value: str, choices: Iterable[str]) -> None:
    """Raises InputError, with the choices, unless the value is one of them."""
    if value not in choices:
        raise unknown_name(key, value, choices)
