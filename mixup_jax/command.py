"""The common parts of all commands: flags, one-line messages for a user's mistakes, and exit codes."""

import argparse
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from mixup_jax.errors import DiskFullError, InputError, about_a_path, local_path, unknown_name
from mixup_jax.escapes import UnreadError, escaped_output, one_line

EXIT_DEFECT = 1
EXIT_BAD_INPUT = 2
EXIT_ENVIRONMENT = 3
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141
"""A shell's code for a program that ends because nobody reads its output any more, as after `| head`."""


def run_command(command: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Runs one of the package's commands and returns its exit code.

    What it prints is escaped (`escapes.escaped_output`).  An `InputError`, or a path that cannot be used, becomes one
    line on stderr and exit code 2; `--debug` anywhere among the arguments shows its traceback as well.  A failure of
    the machine, such as a full disk, becomes one line and exit code 3 (see `environment.explain`).  Ctrl-C gives exit
    code 130, and output that nobody reads any more 141, as in a shell.

    The command takes the arguments, `sys.argv[1:]` by default, without `--debug`, and returns an exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    with escaped_output():
        code = _exit_code(command, arguments, debug)
    _end_if_joined(code)
    return code


def _exit_code(command: Callable[[Sequence[str]], int], arguments: Sequence[str], debug: bool) -> int:
    try:
        _check_working_directory()
        try:
            return command(arguments)
        finally:
            sys.stdout.flush()
    except InputError as error:
        return _failed(str(error), EXIT_ENVIRONMENT if isinstance(error, DiskFullError) else EXIT_BAD_INPUT, debug)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except UnreadError:
        for stream in (sys.stdout, sys.stderr):  # which Python flushes at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return EXIT_UNREAD
    except Exception as error:
        # Imported here, since a command that succeeds does not need it.
        from mixup_jax.environment import explain

        if (line := about_a_path(error)) is not None:
            return _failed(line, EXIT_BAD_INPUT, debug)
        line = explain(error)
        if line is None:
            if _joined():
                traceback.print_exc()
            _end_if_joined(EXIT_DEFECT)
            raise
        return _failed(line, EXIT_ENVIRONMENT, debug)


def _check_working_directory() -> None:
    try:
        os.getcwd()
    except OSError as error:
        raise InputError("the working directory has been deleted; expected one that exists: cd to it again") from error


def _joined() -> bool:
    """Returns whether this process is connected to other processes of its run."""
    jax = sys.modules.get("jax")  # without loading it
    return jax is not None and bool(jax.distributed.is_initialized())


def _end_if_joined(code: int) -> None:
    """Ends a connected process at once; at a normal exit jax would wait for the others, which wait for this one."""
    if _joined():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _failed(line: str, code: int, debug: bool) -> int:
    """Prints the line, after the traceback of the current exception if `debug`, and returns the code."""
    if debug:
        traceback.print_exc()
    print(f"error: {one_line(line)}", file=sys.stderr)
    return code


def callable_module(name: str, function: Callable[..., Any]) -> None:
    """Makes a command's module callable, as its function of the same name.

    Importing the module `mixup_jax.evaluate` sets the attribute `evaluate` of the package to it, where users expect
    the function of this name: so the module can be called like it.  The signature and docstring of `function` become
    those of the module called `name`.
    """
    module = sys.modules[name]
    module.__class__ = type("CallableModule", (ModuleType,), {"__call__": staticmethod(function)})
    module.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]  # read by inspect
    module.__doc__ = function.__doc__


def path(text: str) -> Path:
    """Returns the path that a flag names, with `~` expanded; refuses the address of an object store."""
    try:
        return local_path(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def split_at_commas(text: str) -> list[str]:
    """Returns the parts of a text between commas, without splitting at commas in an existing path.

    Such a path is a whole part, or follows the kind of a data set, as in `folder:PATH`.
    """
    parts, found = text.split(","), list[str]()
    while parts:
        for end in range(len(parts), 0, -1):
            name = ",".join(parts[:end]).strip()
            kind, _, place = name.partition(":")
            places = (name, place if "," not in kind else "")
            if end == 1 or any(place and os.path.exists(os.path.expanduser(place)) for place in places):
                break
        found.append(name)
        del parts[:end]
    return found


def names(text: str) -> tuple[str, ...]:
    """Returns names that a flag lists with commas between."""
    found = tuple(split_at_commas(text))
    if "" in found:
        raise argparse.ArgumentTypeError(
            f"{text!r} holds an empty name; expected names with commas between, such as test,mnist"
        )
    return found


def paths(text: str) -> tuple[Path, ...]:
    """Returns paths that a flag lists with commas between."""
    return tuple(path(name) for name in names(text))


@dataclass(frozen=True)
class Flag:
    """A flag of a command.

    Attributes:
      name: without its dashes.
      metavar: what its value is called; None for a switch, which takes none.
      help: a line for --help.
      type: makes its value of the text; raises `argparse.ArgumentTypeError`.
      repeats: it may be given several times, and its value is the list of them.
      needs: the flag that it must be given with.
    """

    name: str
    metavar: str | None
    help: str
    type: Callable[[str], Any] = str
    repeats: bool = False
    needs: str = ""


@dataclass(frozen=True)
class Mode:
    """One of several ways to use a command: the flag that chooses it, all flags that it takes, and what it does.

    `help` is the title of its flags in --help; `run` takes the values of its flags by their names.
    """

    name: str
    help: str
    run: Callable[..., Any]
    flags: tuple[Flag, ...]


class CommandParser(argparse.ArgumentParser):
    """An argument parser whose errors are `InputError`s.

    Flags must have their full names, occur once unless they may be repeated, and have no empty value, so that an unset
    variable in a script does not become the current folder.
    """

    def __init__(self, **settings: Any) -> None:
        """Takes argparse's settings; the description and epilog are printed as they are."""
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)
        self.add_argument("--debug", action="store_true", help="show the traceback of a bad-input error")

    def add_flags(self, title: str, flags: Iterable[Flag]) -> None:
        """Adds a group of flags; those that are not given have the value None."""
        group = self.add_argument_group(title)
        for flag in flags:
            help = f"{flag.help} (needs --{flag.needs})" if flag.needs else flag.help
            if flag.metavar is None:
                group.add_argument(f"--{flag.name}", action="store_true", default=None, help=help)
            else:
                action = "append" if flag.repeats else "store"
                group.add_argument(f"--{flag.name}", action=action, metavar=flag.metavar, type=flag.type, help=help)

    def parse_mode(self, argv: Sequence[str], modes: Sequence[Mode]) -> tuple[Mode, dict[str, Any]]:
        """Adds the flags of all modes and parses; returns the mode that was chosen, and the values of the flags given.

        Raises:
          InputError: no mode or several are chosen, or a flag is given that the mode does not take or without the flag
            that it needs.
        """
        owners: dict[Flag, list[str]] = {}
        for mode in modes:
            self.add_flags(f"with --{mode.name}: {mode.help}", [flag for flag in mode.flags if flag not in owners])
            for flag in mode.flags:
                owners.setdefault(flag, []).append(f"--{mode.name}")
        values = vars(self.parse_args(argv))
        given = {flag.name: values[flag.name] for flag in owners if values[flag.name] is not None}
        chosen = [mode for mode in modes if mode.name in given]
        if len(chosen) != 1:
            found = " and ".join(f"--{mode.name}" for mode in chosen) or "none of them"
            raise InputError(f"expected exactly one of {', '.join(f'--{mode.name}' for mode in modes)}; found {found}")
        for flag in owners:
            if flag.name in given and flag not in chosen[0].flags:
                owner = " or ".join(owners[flag])
                raise InputError(f"--{flag.name} given without {owner}; expected it with {owner} only")
            if flag.name in given and flag.needs and flag.needs not in given:
                raise InputError(f"--{flag.name} given without --{flag.needs}; expected both")
        return chosen[0], given

    def error(self, message: str) -> NoReturn:
        """Raises argparse's complaint as an InputError."""
        raise InputError(f"{message} (see {self.prog} --help)")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses as argparse does, after checking the flags' names and values."""
        arguments = list(sys.argv[1:] if args is None else args)
        seen: set[str] = set()
        for argument in arguments:
            name, equals, value = argument.partition("=")
            if not name.startswith("--") or name.startswith("--config."):
                continue
            action = self._option_string_actions.get(name)
            if action is None:
                raise unknown_name("argument", name, (flag for flag in self._option_string_actions if flag[:2] == "--"))
            if equals and value == "--":  # which argparse would take for the end of the flags
                raise InputError(f"{name} is '--'; expected {name}={action.metavar or 'VALUE'}")
            if equals and not value:
                raise InputError(f"{name} is empty; expected {name}={action.metavar or 'VALUE'}")
            if name in seen and not isinstance(action, argparse._AppendAction):
                raise InputError(f"{name} is given twice; expected it once")
            seen.add(name)
        return super().parse_known_args(arguments, namespace)
