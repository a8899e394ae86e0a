"""Every case of docs/errors.md happens as that page says."""

import re

import jax
import pytest
from error_cases import CASES, DOCUMENT, HEAD, UNHARMED, outcome, shown, write_files

from mixup_jax.command import EXIT_BAD_INPUT, EXIT_ENVIRONMENT

EVERY = [(section, case) for section, cases in CASES.items() for case in cases]
REMEDY = re.compile(
    r"expected|choose|run:|write it with|see |put |delete|give each|at most|name at least one|evaluate again"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    jax.devices()  # now: a case that compiles for other devices would decide how many later tests see
    folder = tmp_path_factory.mktemp("files")
    write_files(folder)
    return folder


@pytest.mark.parametrize("case", [case for _, case in EVERY], ids=lambda case: case.title)
def test_the_message_is_that_of_the_document(case, files):
    code, message = outcome(case, files)
    assert code in (EXIT_BAD_INPUT, EXIT_ENVIRONMENT)
    assert message.count("\n") == 1
    assert message.rstrip("\n").isprintable()
    assert REMEDY.search(message)
    assert shown(case, code, message) in DOCUMENT.read_text(), "if it is meant: python tests/error_cases.py --write"


@pytest.mark.parametrize("case", UNHARMED, ids=lambda case: case.title)
def test_what_does_no_harm_prints_nothing(case, files):
    assert outcome(case, files) == (0, "")
    assert shown(case, 0, "") in DOCUMENT.read_text()


def test_the_document_has_these_cases_and_no_others():
    text = DOCUMENT.read_text()
    assert text.startswith(HEAD)
    assert text.count("```") == 2 * (len(EVERY) + len(UNHARMED))
    assert re.findall("^## (.*)", text, re.MULTILINE) == [*CASES, "What does no harm"]
    assert len({case.title for _, case in EVERY}) == len(EVERY) >= 60
