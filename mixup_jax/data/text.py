"""Text for a network: tokenising, vocabularies, rows of tokens, and word vectors."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mixup_jax.data.cache import Vectors, prepare_command, read_cache, vectors_folder
from mixup_jax.data.sets import ExampleSet
from mixup_jax.errors import InputError, local_path, not_a_file

GLOVE = "glove_6b_50d"
"""The word vectors that `python -m mixup_jax.data` prepares."""
UNKNOWN_RANGE = 0.25
"""The initial vector of a word without one is uniform in (-0.25, 0.25), as in Kim (EMNLP 2014)."""
PADDING, UNKNOWN = 0, 1
_RESERVED = ("<padding>", "<unknown>")
_TYPOGRAPHIC = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201b": "'", "\u02bc": "'"})


def tokenise(text: str) -> list[str]:
    """Splits a text by the cleaning rules of Kim (EMNLP 2014), in lower case.

    Letters, digits and the characters ( ) , ! ? ' ` stay; every other character separates words.
    Clitics ('s 've n't 're 'd 'll) and each of , ! ( ) ? are separate tokens.  Three rules are added, for
    texts that were not tokenised before: typographic apostrophes become plain ones, a doubled apostrophe
    is a quotation mark and separates, and 'm is a clitic too.  Text is always in lower case, as the words
    of the vectors are (Kim keeps capitals on TREC).
    """
    text = text.translate(_TYPOGRAPHIC).lower().replace("''", " ")
    text = re.sub(r"[^a-z0-9(),!?'`]", " ", text)
    text = re.sub(r"('s|'ve|n't|'re|'d|'ll|'m)\b", r" \1", text)
    return re.sub(r"([,!()?])", r" \1 ", text).split()


@dataclass(frozen=True)
class Vocabulary:
    """The words that a network knows; the position of a word is its token.

    Attributes:
      words: distinct words; the first two are the padding after the end of a text (0) and any unknown word (1).
    """

    words: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.words)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the words in their order, in hexadecimal."""
        return hashlib.sha256("\n".join(self.words).encode()).hexdigest()


@dataclass(frozen=True)
class Encoder:
    """Turns texts into rows of tokens.

    Attributes:
      max_tokens: L, the length of every row.
    """

    vocabulary: Vocabulary
    max_tokens: int

    @cached_property
    def _tokens(self) -> dict[str, int]:
        return {word: token for token, word in enumerate(self.vocabulary.words) if token > UNKNOWN}

    def encode(self, texts: Sequence[str] | npt.NDArray[Any]) -> npt.NDArray[np.int32]:
        """Returns tokens int32 `[N, L]`: longer texts are cut, shorter ones padded with 0."""
        rows = np.full((len(texts), self.max_tokens), PADDING, np.int32)
        for row, text in zip(rows, texts, strict=True):
            tokens = [self._tokens.get(word, UNKNOWN) for word in tokenise(text)[: self.max_tokens]]
            row[: len(tokens)] = tokens
        return rows

    def encoded(self, examples: ExampleSet) -> ExampleSet:
        """Returns a set of texts as tokens."""
        return ExampleSet(self.encode(examples.array), examples.labels, examples.source)


def build_vocabulary(texts: Iterable[str], common_words: Iterable[str] = ()) -> Vocabulary:
    """Returns the words of `texts` by falling frequency (ties in alphabetical order), then the other `common_words`.

    `texts` must be those of the training split only, so that nothing leaks from other splits.
    """
    counts = Counter(word for text in texts for word in tokenise(text))
    seen = sorted(counts, key=lambda word: (-counts[word], word))
    return Vocabulary((*_RESERVED, *seen, *(word for word in dict.fromkeys(common_words) if word not in counts)))


def load_vectors(name: str, data_dir: str | os.PathLike[str]) -> Vectors:
    """Reads word vectors: "glove_6b_50d", which must be prepared, or the path of a text file in GloVe's format."""
    if name != GLOVE:
        return read_text_file(local_path(name))
    found = read_cache(vectors_folder(data_dir, GLOVE), "all")
    if not isinstance(found, Vectors):
        raise InputError(f"data.vectors {GLOVE!r} is not prepared; run: {prepare_command(GLOVE, data_dir)}")
    return found


def read_text_file(path: Path) -> Vectors:
    """Reads a whole GloVe text file: `word x_1 ... x_E` on each line, with the same E on all lines."""
    if not path.is_file():
        raise InputError(
            f"data.vectors {str(path)!r} {not_a_file(path)}; expected {GLOVE!r} or the path of a GloVe text file"
        )
    words: list[str] = []
    rows: list[npt.NDArray[np.float32]] = []
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            # Words with spaces occur in some files, but not on the first line.
            word, *values = line.rstrip("\n").rsplit(" ", rows[0].size if rows else -1)
            try:
                row = np.array(values, np.float32)
            except ValueError:
                row = np.empty(0, np.float32)
            if row.size == 0 or (rows and row.shape != rows[0].shape):
                expected = f"{rows[0].size} numbers" if rows else "numbers"
                raise InputError(f"{path} line {number} is {line.strip()[:60]!r}; expected a word and {expected}")
            words.append(word)
            rows.append(row)
    if not rows:
        raise InputError(f"{path} is empty; expected a word and its numbers on each line")
    return Vectors(tuple(words), np.stack(rows), f"vectors of {path.name}")


def embedding_table(vocabulary: Vocabulary, vectors: Vectors, seed: int) -> npt.NDArray[np.float32]:
    """Returns the initial embedding of every word of a vocabulary, float32 `[V, E]`.

    Words with a vector have it, the padding is 0, and all others are uniform in (-0.25, 0.25).  The
    result depends only on (words, vectors, seed).
    """
    size = (len(vocabulary), vectors.vectors.shape[1])
    table = np.random.default_rng(seed).uniform(-UNKNOWN_RANGE, UNKNOWN_RANGE, size).astype(np.float32)
    rows = {word: row for row, word in enumerate(vectors.words)}
    known = [(token, rows[word]) for token, word in enumerate(vocabulary.words) if word in rows]
    if known:
        tokens, found = np.array(known).T
        table[tokens] = vectors.vectors[found]
    table[PADDING] = 0
    return table
