from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from mixup_jax.errors import InputError
from mixup_jax.methods.method import VARIANTS, Method, Variant, variant


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("mixup_alpha", -0.1, "method.mixup_alpha is -0.1; expected a finite number >= 0"),
        ("mixup_alpha", float("nan"), "method.mixup_alpha is nan"),
        ("mixup_alpha", float("inf"), "method.mixup_alpha is inf"),
        ("label_smoothing", 1.0, r"method.label_smoothing is 1.0; expected a number in \[0, 1\)"),
        ("label_smoothing", -0.01, "method.label_smoothing is -0.01"),
        ("label_smoothing", float("nan"), "method.label_smoothing is nan"),
        ("entropy_weight", -1.0, "method.entropy_weight is -1.0"),
        ("entropy_weight", float("nan"), "method.entropy_weight is nan"),
        ("group_size", -1, "method.group_size is -1"),
        ("smooth_over", "other", "unknown method.smooth_over 'other' .did you mean 'others'"),
        ("layer", "hidden", "unknown method.layer 'hidden'; choose one of: input, random"),
        ("clean_weight", 1.5, r"method.clean_weight is 1.5; expected a share in \[0, 1\]"),
        ("clean_weight", float("nan"), "method.clean_weight is nan"),
        ("arc_weight", -0.1, "method.arc_weight is -0.1; expected a finite number >= 0"),
        ("arc_weight", float("inf"), "method.arc_weight is inf"),
        ("brier_weight", 1.5, r"method.brier_weight is 1.5; expected a share in \[0, 1\]"),
        ("focal_gamma", 0.5, r"method.focal_gamma is 0.5; expected 0 \(cross-entropy\) or a number >= 1"),
        ("logit_norm", -1.0, "method.logit_norm is -1.0; expected a finite number >= 0"),
        ("rank_weight", 0.1, r"method.clean_weight is 0 with method.rank_weight 0.1; expected a share in \(0, 1\]"),
        (
            "kernel_spread",
            0.5,
            "method.kernel_spread is 0.5 with another way of drawing lambda; expected scope='example'",
        ),
        ("decouple_gap", 1.0, r"method.decouple_gap is 1.0; expected a difference in \[0, 1\)"),
        ("scope", "batch", "unknown method.scope 'batch'; choose one of: example, group"),
    ],
)
def test_a_wrong_number_is_named_with_what_would_be_right(field: str, value: object, message: str):
    with pytest.raises(InputError, match=message):
        Method(**{field: value})


def test_a_box_is_pasted_at_the_input_only():
    with pytest.raises(InputError, match=r"method\.layer is 'random' with method\.cut; expected 'input'"):
        Method(cut=True, layer="random")


@pytest.mark.parametrize("other", [{"clean_weight": 0.5}, {"cut": True}, {"layer": "random"}, {"mix_labels": False}])
def test_mixtures_are_decoupled_only_if_they_are_blended_at_the_input(other: dict[str, Any]):
    with pytest.raises(InputError, match=r"method\.decouple is True with another way of mixing"):
        Method(decouple=True, **other)


def test_classes_are_chosen_for_blended_examples_only():
    with pytest.raises(InputError, match=r"method\.adapt_classes is True with another way of drawing lambda"):
        Method(adapt_classes=True, cut=True)


def test_the_defaults_are_plain_risk_minimisation():
    assert not Method().mixes
    assert variant("erm").method == Method()


def test_mixing_neither_inputs_nor_labels_is_no_mixing():
    assert not Method(mixup_alpha=0.2, mix_inputs=False, mix_labels=False).mixes
    assert Method(mixup_alpha=0.2, mix_inputs=False).mixes


@pytest.mark.parametrize(("batch", "asked", "group"), [(128, 0, 128), (32, 0, 32), (256, 0, 128), (64, 16, 16)])
def test_the_whole_batch_is_a_group_up_to_the_papers_batch(batch: int, asked: int, group: int):
    assert Method(group_size=asked).group(batch) == group


def test_a_batch_of_broken_groups_is_refused():
    with pytest.raises(InputError, match="batch_size is 200, which is no whole number of mixing groups of 128"):
        Method().group(200)


def test_an_unknown_variant_lists_the_known():
    with pytest.raises(InputError, match=r"unknown config variant 'mixpu' .did you mean 'mixup'.*erl, erm, feature"):
        variant("mixpu")
    assert [name for name, row in VARIANTS.items() if row.method == Method()] == ["erm", "dropout"]


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        (Method(), "baseline"),
        (Method(smooth_over="all"), "baseline"),
        (Method(cut=True, clean_weight=0.5, rank_weight=0.1), "baseline"),
        (Method(focal_gamma=2.0), "other"),
        (Method(mixup_alpha=0.4, scope="example", group_size=8), "mixup"),
        (Method(mixup_alpha=0.2, mix_inputs=False, mix_labels=False), "baseline"),
        (Method(mixup_alpha=0.2, mix_labels=False), "other"),
        (Method(mixup_alpha=0.2, entropy_weight=0.1), "other"),
        (Method(label_smoothing=0.1), "other"),
    ],
)
def test_the_papers_claims_take_a_method_for_what_it_does(method: Method, kind: str):
    assert method.kind == kind


def test_the_named_methods_are_of_these_kinds():
    kinds = {name: row.method.kind for name, row in VARIANTS.items()}
    assert [name for name, kind in kinds.items() if kind == "baseline"] == ["erm", "dropout"]
    assert [name for name, kind in kinds.items() if kind == "mixup"] == ["mixup"]


def numbers(row: Variant) -> str:
    """What a method changes, written as it is set."""
    settings = {f"method.{each.name}": getattr(row.method, each.name) for each in fields(Method)}
    changed = {key: value for key, value in settings.items() if value != getattr(Method(), key.partition(".")[2])}
    changed |= {"model.dropout": row.dropout} if row.dropout else {}
    return ", ".join(f"`{key}={value}`" for key, value in changed.items())


def test_the_page_lists_the_methods_as_the_table_has_them():
    page = (Path(__file__).parents[1] / "docs" / "methods.md").read_text()
    rows = [f"| `{name}` | {row.origin} | {row.label} | {numbers(row)} |" for name, row in VARIANTS.items()]
    table = "\n".join(["| variant | origin | what it is | numbers |", "| --- | --- | --- | --- |", *rows])
    assert table in page, f"expected in docs/methods.md:\n{table}"
