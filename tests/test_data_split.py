import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixup_jax.data.sets import train_validation_split
from mixup_jax.errors import InputError

seeds = st.integers(0, 2**32)


@st.composite
def sizes(draw):
    n = draw(st.integers(1, 300))
    validation = draw(st.integers(0, n - 1))
    return n, draw(st.integers(0, n - validation)), validation


@settings(max_examples=100, deadline=None)
@given(sizes(), seeds)
def test_parts_are_disjoint_of_the_asked_size_and_within_range(size, seed):
    n, train_examples, validation_examples = size
    train, validation = train_validation_split(
        n, train_examples=train_examples, validation_examples=validation_examples, seed=seed
    )
    assert len(validation) == validation_examples
    assert len(train) == (train_examples or n - validation_examples)
    both = np.concatenate([train, validation])
    assert len(np.unique(both)) == len(both)
    assert both.min() >= 0
    assert both.max() < n


@settings(max_examples=50, deadline=None)
@given(sizes(), seeds)
def test_validation_is_the_same_for_every_training_size_and_training_sets_are_nested(size, seed):
    n, train_examples, validation_examples = size
    some, held_out = train_validation_split(
        n, train_examples=train_examples, validation_examples=validation_examples, seed=seed
    )
    every, held_out_again = train_validation_split(
        n, train_examples=0, validation_examples=validation_examples, seed=seed
    )
    np.testing.assert_array_equal(held_out, held_out_again)
    np.testing.assert_array_equal(some, every[: len(some)])


def test_seeds_give_different_splits_and_one_seed_the_same():
    def held_out(seed):
        return train_validation_split(1000, train_examples=0, validation_examples=100, seed=seed)[1]

    np.testing.assert_array_equal(held_out(3), held_out(3))
    assert len(np.intersect1d(held_out(3), held_out(4))) < 40


def test_every_example_is_held_out_equally_often():
    counts = np.zeros(20)
    for seed in range(2000):
        counts[train_validation_split(20, train_examples=0, validation_examples=5, seed=seed)[1]] += 1
    # Binomial(2000, 1/4): mean 500, standard deviation 19.4; five of them.
    assert np.abs(counts - 500).max() < 97


def test_the_split_of_seed_0_never_changes():
    _, validation = train_validation_split(60_000, train_examples=5000, validation_examples=5000, seed=0)
    digest = hashlib.sha256(validation.astype("<i8").tobytes()).hexdigest()
    assert digest == "c5560f2de323be4a19bda795f0dfad25092bfedf9f909d2fe21d7d97652752fc"


@pytest.mark.parametrize(
    ("train_examples", "validation_examples", "message"),
    [
        (-1, 0, "data.train_examples is -1"),
        (0, -2, "data.validation_examples is -2"),
        (0, 10, "data.validation_examples is 10; the set has 10 examples, so at most 9"),
        (0, 11, "data.validation_examples is 11"),
        (8, 3, "data.train_examples is 8; the set has 10 examples, of which 3 .* at most 7"),
    ],
)
def test_impossible_sizes_name_the_field(train_examples, validation_examples, message):
    with pytest.raises(InputError, match=message):
        train_validation_split(10, train_examples=train_examples, validation_examples=validation_examples, seed=0)


def test_negative_seed_is_refused():
    with pytest.raises(InputError, match=r"seed .* is -1"):
        train_validation_split(10, train_examples=0, validation_examples=1, seed=-1)
