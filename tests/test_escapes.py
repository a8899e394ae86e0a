import ast
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mixup_jax
from mixup_jax.escapes import is_file_name, latex, markdown, one_line, spreadsheet

FIT = ["fashion_mnist", "CIFAR-10 (ours)", "Größe", "配列", "x" * 200, "control", "nullity", "a.b"]
UNFIT = [
    *("", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "C:x", "a\0", "a\nb", "a*", "a?", "x" * 201, "ü" * 101),
    *("NUL", "nul", "Con.npz", "com1", "LPT9.x", "aux.a.b", "a.", "a ", "\uff0e\uff0e", "\uff0fetc", "a\u202eb"),
    *("\u2024\u2024", "\ufeffa", "\ud800", "COM\u00b9", "\uff2e\uff35\uff2c", "a\u200bb", "\uff5c", "\u2100"),
]


@pytest.mark.parametrize("name", FIT)
def test_names_that_are_fit(name):
    assert is_file_name(name)


@pytest.mark.parametrize("name", UNFIT)
def test_names_that_are_not(name):
    assert not is_file_name(name)


@settings(deadline=None)
@given(st.text(max_size=8) | st.text(alphabet="./\\:nulNULcon \u2024\uff0e", max_size=6))
def test_a_fit_name_is_one_part_of_a_path_on_every_system(name):
    if is_file_name(name):
        for kind in (PurePosixPath, PureWindowsPath):
            assert kind("folder", name).parts == ("folder", name)
        assert not PureWindowsPath(name).is_reserved()
        assert name not in (".", "..")


@settings(deadline=None)
@given(st.text())
def test_one_line_is_printable_and_leaves_printable_text_alone(text):
    assert one_line(text).isprintable()
    assert one_line(one_line(text)) == one_line(text)
    if text.isprintable():
        assert one_line(text) == text


@settings(deadline=None)
@given(st.text() | st.text(alphabet="\x1b\u202e\u2066\u200b\n\x00|a"))
def test_no_table_cell_holds_what_cannot_be_seen(text):
    for cell in (markdown(text), latex(text), spreadsheet(text)):
        assert cell.isprintable()


PRINTS = {
    "escapes.py": "print_line itself",
    "command.py": "an escaped line",
    "evaluate.py": "the table, whose names were escaped",
    "compile_ahead.py": "the table of a config that was checked",
    "checkpoints.py": "escaped lines",
    "sweep.py": "numbers, and names of runs, which PlannedRun checks",
    "grid.py": "names of runs, which PlannedRun checks",
    "data/__main__.py": "the catalogue",
    "training/stop.py": "names of signals",
    "devices/processes.py": "numbers of processes, an InputError, and an error of the operating system",
}
"""Modules that print otherwise than by `print_line`, and what.  In a command `escaped_output` escapes that too."""


def test_what_is_printed_goes_through_one_function():
    package = Path(mixup_jax.__file__).parent
    found, handed_on = set(), []
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called == "print" or called.startswith(("sys.stdout.write", "sys.stderr.write")):
                found.add(str(path.relative_to(package)))
            passed = [*node.args, *(key.value for key in node.keywords)] if isinstance(node, ast.Call) else []
            defaults = [*node.defaults, *node.kw_defaults] if isinstance(node, ast.arguments) else []
            names = [part.id for part in (*passed, *defaults) if isinstance(part, ast.Name)]
            handed_on += [path.name] if "print" in names else []
    assert handed_on == []
    assert found == set(PRINTS)
