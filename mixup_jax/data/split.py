"""The seeded division of a training set into training and validation examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mixup_jax.errors import InputError


def train_validation_split(
    n: int, *, train_examples: int, validation_examples: int, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Divides the indices 0..n-1 at random into training and validation.

    Validation is the head of a seeded permutation and training what follows it, so the validation set
    does not depend on `train_examples`, and a smaller training set is part of every larger one.

    Args:
      n: the size of the whole set.
      train_examples: how many to train on; 0 means all that validation leaves.
      validation_examples: how many to hold out; 0 for none.
      seed: any non-negative integer.

    Returns:
      (train, validation): disjoint int64 indices in random order, `[train_examples]` (or
      `[n - validation_examples]`) and `[validation_examples]`.

    Raises:
      InputError: a number is negative, or more examples are asked for than there are.
    """
    for field, value in (("train_examples", train_examples), ("validation_examples", validation_examples)):
        if value < 0:
            raise InputError(f"data.{field} is {value}; expected 0 or more")
    if seed < 0:
        raise InputError(f"the seed of the training and validation split is {seed}; expected 0 or more")
    left = n - validation_examples
    if left < 1:
        raise InputError(
            f"data.validation_examples is {validation_examples}; the set has {n} examples, "
            f"so at most {n - 1} can be held out"
        )
    if train_examples > left:
        raise InputError(
            f"data.train_examples is {train_examples}; the set has {n} examples, of which {validation_examples} are "
            f"held out for validation, so at most {left} are left (0 takes them all)"
        )
    order = permutation(n, seed)
    return order[validation_examples : validation_examples + (train_examples or left)], order[:validation_examples]


def permutation(n: int, seed: int | Sequence[int]) -> npt.NDArray[np.int64]:
    """Returns 0..n-1 in a random order, int64 `[n]`: a function of the seed, on any machine and with any numpy."""
    # numpy promises that raw bits never change between versions, and promises nothing about Generator.permutation:
    # ranking raw bits keeps the validation set the same wherever and whenever it is drawn.
    return np.argsort(raw_bits(n, seed), kind="stable").astype(np.int64)


def raw_bits(n: int, seed: int | Sequence[int]) -> npt.NDArray[np.uint64]:
    """Returns n random words of 64 bits for a seed of one or more non-negative integers."""
    return np.random.PCG64(seed).random_raw(n)
