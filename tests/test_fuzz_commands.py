"""A sample of the command lines that tests/fuzz_commands.py makes, and every one that it once found."""

import io
from unittest import mock

import fuzz_commands
import pytest

from mixup_jax.errors import InputError
from mixup_jax.escapes import EscapedStream, escaped_output, print_line

FOUND = [
    ("report", ["run", "--jobs=--"]),
    ("checkpoints", ["x" * 300]),
    ("checkpoints", ["~nobody/x"]),
    ("evidence", ["validation.npz"]),
    ("evidence", ["/proc/self/mem"]),
    ("evidence", ["a\u202egpj.exe.md"]),
    ("data", ["arrays:scans.npz", "--data_dir=new"]),
    ("compile_ahead", ["--config=configs/quickstart.py", "--topology=cpu:1", "--output=dir.json"]),
    ("checkpoints", ["line\nerror: forged.run", "run"]),
    ("evaluate", ["--predictions=line\nerror: forged.npz"]),
    ("evaluate", ["--predictions=\x1b[31mred\x1b[2J.npz", "--ood=a\u202egpj.exe.npz"]),
    ("evaluate", ["--predictions=/", "--labels=labels.npy"]),
    ("main", ["--config=configs/quickstart.py:mixup", "--workdir=trained", "--data_dir=data"]),
    (
        "main",
        [
            "--config=configs/quickstart.py:mixup",
            "--workdir=new",
            "--data_dir=data",
            "--config.model.weights=/dev/full",
        ],
    ),
    ("main", ["--config=quickstart", "--workdir=line\nerror: forged.run", "--data_dir=data"]),
    ("report", ["line\nerror: forged.run", "\x1b[31mred\x1b[2J.run"]),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz").resolve()
    with fuzz_commands.without_the_long_work(folder / "here" / "home"):
        yield fuzz_commands.Folder(folder)


@pytest.mark.parametrize(("door", "arguments"), FOUND, ids=lambda part: ascii(part)[:60])
def test_what_was_found_once_stays_right(door, arguments, files):
    try:
        assert fuzz_commands.failure(door, arguments, files) is None
    finally:
        files.mend()


def test_random_command_lines_are_refused_or_accepted():
    wrong = []
    done = fuzz_commands.fuzz(7, range(300), wrong.append)
    assert wrong == []
    assert set(done) == set(fuzz_commands.DOORS)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda _: 1 // 0, "ZeroDivisionError"),
        (lambda _: 4, "exit code 4"),
        (lambda _: print("a\u202eb") or 0, "not printable"),
        (lambda _: print("done\nerror: forged") or 0, "forged line"),
        (lambda _: 2, "no single line"),
    ],
)
def test_what_is_wrong_is_found(run, message, files):
    runs_it = mock.patch("fuzz_commands.run_command", lambda command, arguments: command(arguments))
    with runs_it, mock.patch("mixup_jax.main.main", run):
        assert message in fuzz_commands.failure("main", [], files)


def test_a_file_that_a_refusal_leaves_is_found(files):
    def run(_):
        (files.folder / "left.txt").write_text("x")
        raise InputError("no; expected yes")

    try:
        with mock.patch("mixup_jax.main.main", run):
            assert "files changed by a refusal" in fuzz_commands.failure("main", [], files)
    finally:
        files.mend()


def test_all_that_a_command_writes_is_escaped(capsys):
    with escaped_output():
        print("\x1b[2Ja\u202eb\u200b\r\ud800\tc\nd")
        print_line("e\nf")
    assert capsys.readouterr().out == "\\x1b[2Ja\\u202eb\\u200b\\r\\ud800\tc\nd\ne\\nf\n"


def test_a_character_that_the_terminal_lacks_is_escaped():
    raw = io.BytesIO()
    stream = EscapedStream(io.TextIOWrapper(raw, encoding="ascii"))
    assert stream.write("Größe \N{MINUS SIGN}1") == 8
    stream.flush()
    assert raw.getvalue() == b"Gr\\xf6\\xdfe \\u22121"
