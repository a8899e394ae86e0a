"""From sentences to tokens: cleaning, a vocabulary of the training split, and padded rows of integers."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

PADDING, UNKNOWN = 0, 1
_RESERVED = ("<padding>", "<unknown>")
_TYPOGRAPHIC = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201b": "'", "\u02bc": "'"})


def tokenise(text: str) -> list[str]:
    """Splits a text by the cleaning rules of Kim (EMNLP 2014), in lower case.

    Letters, digits and the characters ( ) , ! ? ' ` stay; every other character separates words.
    Clitics ('s 've n't 're 'd 'll) and each of , ! ( ) ? are tokens of their own.  Three additions, for
    texts that were not tokenised before: typographic apostrophes count as plain ones, a doubled
    apostrophe is a quotation mark and separates, and 'm is a clitic too.  Lower case always, as the
    vectors' words are (Kim keeps capitals on TREC).
    """
    text = text.translate(_TYPOGRAPHIC).lower().replace("''", " ")
    text = re.sub(r"[^a-z0-9(),!?'`]", " ", text)
    text = re.sub(r"('s|'ve|n't|'re|'d|'ll|'m)\b", r" \1", text)
    return re.sub(r"([,!()?])", r" \1 ", text).split()


@dataclass(frozen=True)
class Vocabulary:
    """The words that a network knows; a word's place is its token.

    Attributes:
      words: distinct; the first two stand for the end of a text (0) and for any other word (1).
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
    """Makes rows of tokens of texts.

    Attributes:
      vocabulary: that a network was trained with.
      max_tokens: L, the length of every row.
    """

    vocabulary: Vocabulary
    max_tokens: int

    @cached_property
    def _tokens(self) -> dict[str, int]:
        return {word: token for token, word in enumerate(self.vocabulary.words) if token > UNKNOWN}

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.int32]:
        """Returns tokens int32 `[N, L]`: longer texts are cut, shorter ones filled up with 0."""
        rows = np.full((len(texts), self.max_tokens), PADDING, np.int32)
        for row, text in zip(rows, texts, strict=True):
            tokens = [self._tokens.get(word, UNKNOWN) for word in tokenise(text)[: self.max_tokens]]
            row[: len(tokens)] = tokens
        return rows


def build_vocabulary(texts: Iterable[str], common_words: Iterable[str] = ()) -> Vocabulary:
    """Returns the words of `texts`, commonest first (equals in alphabetical order), then the `common_words` they lack.

    Args:
      texts: of the training split alone, so that nothing is known of the others.
      common_words: words that need not occur in training: such as have a vector, so that the network
        sees more than "unknown" where another set uses them.
    """
    counts = Counter(word for text in texts for word in tokenise(text))
    seen = sorted(counts, key=lambda word: (-counts[word], word))
    return Vocabulary((*_RESERVED, *seen, *(word for word in dict.fromkeys(common_words) if word not in counts)))
