"""Judging several networks by their records, for a comparison."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mixup_jax.errors import InputError
from mixup_jax.escapes import is_plain
from mixup_jax.evaluation.measure import evaluate_records
from mixup_jax.evaluation.numbers import Wording, check_numbers
from mixup_jax.runs.records import Predictions


class Evaluated(NamedTuple):
    """A network, what evaluation.json would hold of it, and the records it was computed from."""

    name: str
    document: dict[str, Any]
    test: Predictions
    ood: dict[str, Predictions]


def evaluate_networks(
    tests: Mapping[str, Predictions],
    validation: Mapping[str, Predictions],
    ood: Mapping[str, Mapping[str, Predictions]],
    probabilities: bool | None,
    wording: Wording,
) -> list[Evaluated]:
    """Evaluates records by the names of their networks, in the order of the test records.

    Args:
      tests: the test records.
      validation: held-out records, of some or all networks; a temperature is fitted on them.
      ood: out-of-distribution records, by the name of the set and of the network.
      probabilities: what all records hold; None refuses those that look like probabilities.
      wording: how a refusal names the arguments.

    Raises:
      InputError: there is no network, a name is not that of one, or a record is one that `evaluate` refuses.
    """
    if not tests:
        raise InputError("no network given; expected at least one, such as resnet=test.npz")
    for what, names in (("validation", validation), *((f"ood {one}", by_name) for one, by_name in ood.items())):
        for name in names:
            if name not in tests:
                raise InputError(f"{what} names {name!r}, which is no network here; expected one of {', '.join(tests)}")
    found = []
    for name, test in tests.items():
        if not is_plain(name):
            raise InputError(f"name {name!r} of a network has characters that cannot be printed; expected plain text")
        outside = {one: by_name[name] for one, by_name in ood.items() if name in by_name}
        held_out = validation.get(name)
        records = {name: test, f"validation of {name}": held_out}
        records |= {f"{one} of {name}": record for one, record in outside.items()}
        check_numbers({what: record for what, record in records.items() if record}, probabilities, wording)
        try:
            document = evaluate_records(test, validation=held_out, ood=outside, test_name="test", config={}, step=0)
        except InputError as error:
            raise InputError(f"network {name}: {error}") from error
        found.append(Evaluated(name, document, test, outside))
    return found
