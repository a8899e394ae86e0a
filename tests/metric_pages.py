"""docs/evaluation-json.md and the tables of docs/metrics.md, written from the table of metrics:

python tests/metric_pages.py --write
"""

import math
import re
import sys
from pathlib import Path

from mixup_jax.evaluation.extras import EXTRAS
from mixup_jax.evaluation.recalibration import POSTHOC
from mixup_jax.metrics import table
from mixup_jax.metrics.table import Metric

DOCS = Path(__file__).parents[1] / "docs"
METRICS_PAGE, SCHEMA_PAGE = DOCS / "metrics.md", DOCS / "evaluation-json.md"
BLOCK = re.compile(
    r"(?P<opening><!-- from the table of metrics: (?P<heading>.*?) -->\n).*?(?P<closing><!-- table ends -->)", re.DOTALL
)
SCORES_HEADING = "Out-of-distribution scores"


def line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def rows_table(rows: list[Metric]) -> str:
    """Returns the rows as a Markdown table: definition, range, what is better, interval and what it covers, source."""
    header = ["key", "name", "definition", "range", "better", "95 % interval", "it covers", "source"]
    return (
        line(header)
        + line(["---"] * len(header))
        + "".join(
            line(
                [f"`{row.key}`", row.label, row.equation, limits(row), row.aim, interval(row), row.covered, row.source]
            )
            for row in rows
        )
    )


def scores_table() -> str:
    """Returns the scores of the table as a Markdown table."""
    header = ["key", "name", "equation, higher = more foreign", "adding c to a row", "source"]
    return (
        line(header)
        + line(["---"] * len(header))
        + "".join(
            line(
                [
                    f"`{score.key}`",
                    score.label,
                    score.equation,
                    "lowers it by c" if score.level else "nothing",
                    score.source,
                ]
            )
            for score in table.SCORES
        )
    )


def limits(row: Metric) -> str:
    low, high = (f"{limit:g}" for limit in row.limits)
    return f"[{low}, inf)" if row.limits[1] == math.inf else f"[{low}, {high}]"


def slow(row: Metric) -> bool:
    return row.interval is not None and row.interval.slow


def interval(row: Metric) -> str:
    if row.interval is None or row.interval.withheld:
        return ""
    when = "with `--all_intervals`" if row.interval.slow else "always"
    return f"{when} ({row.interval.name})" if row.interval.name else when


def metrics_page(text: str) -> str:
    """Returns docs/metrics.md with each marked table as the rows have it."""

    def filled(match: re.Match[str]) -> str:
        heading = match["heading"]
        rows = [row for row in (*table.METRICS, *table.DETECTION) if row.where == heading]
        return match["opening"] + (scores_table() if heading == SCORES_HEADING else rows_table(rows)) + match["closing"]

    return BLOCK.sub(filled, text)


SCHEMA_TEXT = """\
# evaluation.json, schema {schema}

Written by `python tests/metric_pages.py --write` from the table of metrics, `mixup_jax/metrics/table.py`. \
Every number is a fraction,
never a percentage. No key changes its meaning without a new schema number; keys may be added. A reader takes \
a key that is
missing for a number that was not computed, and null for one that is not finite, since JSON has no infinity.

## The document

| key | content |
| --- | --- |
| `schema` | {schema} |
| `step`, `config` | of the checkpoint, or null where the record does not say |
| `temperature_fitted_on` | the key in `results` of the record the temperature was fitted on, or null |
| `posthoc` | what else was fitted: {posthoc}; without arrays of more than 10,000 numbers; \
empty where nothing was asked for |
| `temperature_fit` | what is remarkable about the fit: `left_out`, examples whose true class \
has probability 0; `at_bound`, the bound that T is at; only where something is |
| `test_rows_in` | {{record: how many of its rows have the logits of a row of the test record}}; only where some do |
| `numbers` | what the given files or arrays were taken for: `taken_for`, `logits` or `probabilities`, and `stated`, \
whether their user said so; not of a run, whose records are logits |
| `results` | an entry for each set of labelled examples, such as `fashion_mnist/test` |
| `ood` | an entry for each out-of-distribution set, such as `mnist` |
| `ood_groups` | where near sets were named: `near` and `far`, each {{`sets`, `scores`: {{score: the mean \
over the sets of the numbers of an entry of `ood`}}}} |
| `features` | where scores of features were asked for: `size` of a feature vector, `train_examples` they \
were fitted on |
| `odin` | where it was asked for: `temperature`, `epsilon`, and what `epsilon` was chosen on |
| `checkpoint`, `training_seconds`, `versions`, `commit`, `machine` | of a run: which checkpoint was asked \
for, how long it had trained, and what evaluated it |

## An entry of `results`

| key | content |
| --- | --- |
| `n` | labelled examples |
| `intervals` | {{key: [low, high]}}, 95 %, for the mean of the numbers below over test sets of this size |
| `noise_floor` | {{key: {{`mean`, `p95`}}}}: what a perfectly calibrated network of the same confidences \
would show; of {floors}, and with `--all_intervals` of {slow_floors} |
| `unlabelled` | examples left out because they have no label (-1) |
| `images` | with `--flatten`: `n` images of the `fewest`, `mean`, `most` examples; intervals resample them |
| `temperature` | T, fitted on the validation record, or null without one |
| `after_temperature` | `n`, `intervals`, `noise_floor` and the numbers below for logits / T, or null; \
without {unscaled}, and without intervals of {of_classes} |
| `posthoc` | {{method: the numbers after it}}; after {of_confidence} those that need \
confidence and correctness alone |
| `ensemble` | of the mean of several records or runs: `mutual_information` in nats and `disagreement` of the members |
| `extra` | what was asked for by `--extra`: {extras} |

{metrics}
A slash in a key stands for an object within an object.

## An entry of `ood`

Every example of the test record counts as in-distribution, labelled or not.

| key | content |
| --- | --- |
| `score` | the score the entry's own numbers are of: `{score}`; with `--scores` `confidence` or `score` |
| `n_in`, `n_out` | examples of the test record, and of the out-of-distribution record |
| `mean_confidence` | of the out-of-distribution set |
| `intervals` | {{key: [low, high]}}, 95 %, of the numbers below |
| `scores` | {{score: the numbers below, their `intervals`, and the mean score of each set, `mean_in` and \
`mean_out` (null where infinite)}}, of {scores}; on request `gen`, and \
of features {of_features}; `odin` where it was asked for, without means |
| `no_information` | {{score: why it is null in `scores`}}; only where one is |
| `temperature`, `after_temperature` | as in an entry of `results`; without scores of features |

{detection}
"""


def schema_page() -> str:
    """Returns docs/evaluation-json.md."""

    def keys(rows: list[Metric]) -> str:
        return ", ".join(f"`{row.key}`" for row in rows)

    def numbers(rows: tuple[Metric, ...]) -> str:
        header = ["key", "content", "95 % interval", "always there where there are logits"]
        return (
            line(header)
            + line(["---"] * len(header))
            + "".join(
                line(
                    [
                        f"`{row.key}`",
                        f"[{row.label}](metrics.md#{anchor(row.where)})",
                        interval(row),
                        "yes" if row.required else "",
                    ]
                )
                for row in rows
            )
        )

    scaled = [row for row in table.METRICS if row.full_vector]
    return (
        SCHEMA_TEXT.format(
            schema=1,
            floors=keys([row for row in table.METRICS if row.floor is not None and not slow(row)]),
            slow_floors=keys([row for row in table.METRICS if row.floor is not None and slow(row)]),
            unscaled=keys([row for row in scaled if row.unscaled]),
            of_classes=keys([row for row in scaled if not row.unscaled]),
            metrics=numbers(table.METRICS),
            score=table.SCORES[0].key,
            posthoc=", ".join(f"`{name}` {{{row.fields}}}" for name, row in POSTHOC.items()),
            of_confidence=", ".join(f"`{name}`" for name, row in POSTHOC.items() if not row.of_logits),
            extras="; ".join(f"`{name}`, {extra.content}" for name, extra in EXTRAS.items()),
            scores=", ".join(f"`{score.key}`" for score in table.SCORES[1:] if score.field is not None),
            of_features=", ".join(f"`{score.key}`" for score in table.SCORES if score.fit is not None),
            detection=numbers(table.DETECTION),
        ).rstrip("\n")
        + "\n"
    )


def anchor(heading: str) -> str:
    """Returns the anchor that a heading has on a page."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


if __name__ == "__main__":
    pages = {METRICS_PAGE: metrics_page(METRICS_PAGE.read_text()), SCHEMA_PAGE: schema_page()}
    if "--write" in sys.argv:
        for path, text in pages.items():
            path.write_text(text)
    elif stale := [path for path, text in pages.items() if not path.exists() or path.read_text() != text]:
        sys.exit(
            f"{', '.join(map(str, stale))}: not what the table says; write with: python tests/metric_pages.py --write"
        )
