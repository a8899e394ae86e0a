"""Mistakes that a user can make, as opposed to mistakes of ours."""

from __future__ import annotations

import argparse
import difflib
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence

EXIT_BAD_INPUT = 2


class InputError(ValueError):
    """Something the user gave is wrong.

    The message is one line that names the thing, its value, and what would be right.  The commands
    print it and exit with code 2; every other exception is a defect of ours and keeps its traceback.
    """


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> InputError:
    """Returns the error for a name that is not among `choices`, with the nearest one pointed out.

    Args:
      kind: what is being named, such as "data set"; it opens the message.
      name: the unknown name.
      choices: every name that would be right.
    """
    names = sorted(choices)
    nearest = difflib.get_close_matches(name, names, n=1)
    hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
    return InputError(f"unknown {kind} {name!r}{hint}; choose one of: {', '.join(names)}")


def run_command(command: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Runs one of the package's commands and returns its exit code.

    An `InputError` becomes one line on stderr and exit code 2; `--debug` anywhere among the
    arguments shows its traceback as well.  Ctrl-C exits with 130, the shell's code for it.

    Args:
      command: takes the arguments (without `--debug`) and returns an exit code.
      argv: the arguments, `sys.argv[1:]` by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        return command(arguments)
    except InputError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def add_debug_flag(parser: argparse.ArgumentParser) -> None:
    """Documents `--debug` in a command's `--help`; `run_command` is what acts on it."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of a bad-input error")
