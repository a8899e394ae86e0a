"""TREC's questions from the published files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mixup_jax.data.sets import ExampleSet, text_set

FILES = {"train": "train_5500.label", "test": "TREC_10.label"}
CLASSES = ("DESC", "ENTY", "ABBR", "HUM", "NUM", "LOC")
"""In the order of tensorflow-datasets."""


def read_questions(folder: Path) -> Mapping[str, ExampleSet]:
    """Reads both splits; a line is `COARSE:fine question`.

    The one byte in the files that is no ASCII stands for a space, as tensorflow-datasets reads it.
    """
    return {split: parse_questions((folder / name).read_bytes()) for split, name in FILES.items()}


def parse_questions(table: bytes) -> ExampleSet:
    """Parses lines of label and question; the class is the label's part before the colon."""
    lines = [line.replace(b"\xf0", b" ").decode("ascii").partition(" ") for line in table.splitlines() if line.strip()]
    labels = [CLASSES.index(label.partition(":")[0]) for label, _, _ in lines]
    return text_set([" ".join(text.split()) for _, _, text in lines], labels, "TREC's published files")
