"""Mistakes that a user can make, as opposed to mistakes of ours."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from mixup_jax.escapes import one_line

LONGEST = 2000
"""Marks of a message; the longest of ours lists every key of a config."""


class InputError(ValueError):
    """Something the user gave is wrong.

    The message is one line that names the thing, its value, and what would be right.  The commands
    print it and exit with code 2; every other exception is a defect of ours and keeps its traceback.
    What is in it of files or of the command line cannot break the line nor command a terminal: it is escaped.
    """

    def __init__(self, message: str) -> None:
        line = one_line(message)
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}...")


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> InputError:
    """Returns the error for a name that is not among `choices`, with the nearest one pointed out.

    Args:
      kind: what is being named, such as "data set"; it opens the message.
      name: the unknown name.
      choices: every name that would be right.
    """
    names = sorted(choices)
    name = name if len(name) <= 60 else f"{name[:57]}..."
    nearest = difflib.get_close_matches(name, names, n=1)
    hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
    return InputError(f"unknown {kind} {name!r}{hint}; choose one of: {', '.join(names)}")
