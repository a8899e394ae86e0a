"""What every command shares: one line for a user's mistake, and a parser that makes no guesses."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from mixup_jax.errors import InputError, unknown_name
from mixup_jax.escapes import one_line

EXIT_DEFECT = 1
EXIT_BAD_INPUT = 2
EXIT_ENVIRONMENT = 3
EXIT_INTERRUPTED = 130


def run_command(command: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Runs one of the package's commands and returns its exit code.

    An `InputError` becomes one line on stderr and exit code 2; `--debug` anywhere among the
    arguments shows its traceback as well.  So does what the machine is to blame for, such as a full disk (see
    `environment.explain`), with exit code 3.  Ctrl-C exits with 130, the shell's code for it.

    Args:
      command: takes the arguments (without `--debug`) and returns an exit code.
      argv: the arguments, `sys.argv[1:]` by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    code = _exit_code(command, arguments, debug)
    _end_if_joined(code)
    return code


def _exit_code(command: Callable[[Sequence[str]], int], arguments: Sequence[str], debug: bool) -> int:
    try:
        return command(arguments)
    except InputError as error:
        return _failed(str(error), EXIT_BAD_INPUT, debug)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        # Only now: a command that goes well does not load what explains failures.
        from mixup_jax.environment import explain

        line = explain(error)
        if line is None:
            if _joined():
                traceback.print_exc()
            _end_if_joined(EXIT_DEFECT)
            raise
        return _failed(line, EXIT_ENVIRONMENT, debug)


def _joined() -> bool:
    """Returns whether this process is one of several that have not taken leave of each other."""
    jax = sys.modules.get("jax")  # not loaded for it
    return jax is not None and bool(jax.distributed.is_initialized())


def _end_if_joined(code: int) -> None:
    """Ends one of several processes that fails at once: jax would wait at its exit for the others, and they for it."""
    if _joined():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _failed(line: str, code: int, debug: bool) -> int:
    """Prints the line, and with `debug` the traceback of the exception at hand before it; returns the code."""
    if debug:
        traceback.print_exc()
    print(f"error: {one_line(line)}", file=sys.stderr)
    return code


class CommandParser(argparse.ArgumentParser):
    """An argument parser whose complaints are `InputError`s.

    It takes flags by their full names only, each once (unless it collects), and never an empty value:
    an unset variable in a script must not silently become the current folder.
    """

    def __init__(self, **settings: Any) -> None:
        """Takes argparse's settings; the description and epilog are printed as they are."""
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)
        self.add_argument("--debug", action="store_true", help="show the traceback of a bad-input error")

    def error(self, message: str) -> NoReturn:
        """Raises what argparse has to complain of."""
        raise InputError(f"{message} (see {self.prog} --help)")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses as argparse does, after looking at the flags themselves."""
        arguments = list(sys.argv[1:] if args is None else args)
        seen: set[str] = set()
        for argument in arguments:
            name, equals, value = argument.partition("=")
            if not name.startswith("--") or name.startswith("--config."):
                continue
            action = self._option_string_actions.get(name)
            if action is None:
                raise unknown_name("argument", name, (flag for flag in self._option_string_actions if flag[:2] == "--"))
            if equals and not value:
                raise InputError(f"{name} is empty; expected {name}={action.metavar or 'VALUE'}")
            if name in seen and not isinstance(action, argparse._AppendAction):
                raise InputError(f"{name} is given twice; expected it once")
            seen.add(name)
        return super().parse_known_args(arguments, namespace)
