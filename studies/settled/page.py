"""`python -m studies.settled.page [FOLDER]`: writes README.md and figures/*.svg of the study from its records.

It also writes the answers into the README.md of the folder above, after `<!-- settled -->`.
"""

import sys
from pathlib import Path

from mixup_jax.report import formatting
from mixup_jax.runs.files import write_atomically
from studies.settled.answers import ALPHAS, SECTIONS, enough, gaps_of_erm, later_blocks, signed
from studies.settled.intervals import FEWEST
from studies.settled.numbers import Study, load_study, mean_of
from studies.settled.records import FOLDER, OF_LATER

MAIN = ("plain", "augmented")
"""Plans of the grid itself; others are later blocks, and are reported apart."""
PLANNED, PLANNED_LATER = 275, 50

BREAK = "\n\n"
NOT_YET = (
    f"Fewer than {FEWEST} pairs in every regime: no interval and no verdict yet. "
    "What the seeds so far show stands below."
)
OPENING = """\
# Does mixup help once a temperature is fitted?

Hypotheses, settings, pairs and corrections are those of the [protocol](protocol.md), which was written before the first
run. This page and its figures are written from the records beside it by `python -m studies.settled.page`; the runs are
those of `configs/grids/settled.py`. Changes are mixup (alpha 0.2) minus ERM, paired by seed, with 95 % t intervals over
the seeds; *lower* and *higher* are verdicts at 5 % after Holm's correction over the regimes. Nothing here speaks of
regimes that were not run.

## What is here
"""
RECORDS = """\
## The records
A folder for each network: `config.json`; `training.json`, the last of every number in its training log;
`predictions/*.npz`, logits and labels of the first rows of each set. Logits are float16, and
from each the largest of its row is subtracted: so energy and the largest logit are not defined for them. Against
float32 no number of a network moved by the last digit that is printed, 0.001 (`python -m studies.settled.rounding
RUNS`; ECE moves most, by the one example that crosses the edge of a bin, and the rest by less than 0.0005).
Judge any of them:

```
python -m mixup_jax.evaluate --predictions=docs/results/settled/NAME/predictions/fashion_mnist-test-STEP.npz \\
    --validation=docs/results/settled/NAME/predictions/fashion_mnist-validation-STEP.npz
```

Of ten networks of seed 0 the checkpoint is kept once they have run: ERM and mixup (alpha 0.2) without augmentation at
each size, and with it at 10,000 images. It predicts any set, for example
`python -m mixup_jax.evaluate --workdir=docs/results/settled/NAME --datasets=kmnist`.
"""


def state(study: Study) -> str:
    """Returns how many seeds of each cell are there, and what ERM is like in each regime."""
    count = sum(map(len, study.values()))
    lines = [
        f"{count} of {PLANNED} networks are here" + (": **preliminary**." if count < PLANNED else "."),
        "Numbers of ERM are means over its seeds.",
        "",
        "| regime | seeds of alpha 0, "
        + ", ".join(f"{alpha:g}" for alpha in ALPHAS)
        + " | training loss | accuracy | gap | ECE | ECE, after | NLL | NLL, after | gap, corrupted |",
        "| --- | --- |" + " ---: |" * 8,
    ]
    keys = ("train_loss", "acc", "gap", "ece", "ece_t", "nll", "nll_t", "shift_gap")
    for regime in gaps_of_erm(study):
        seeds = ", ".join(str(len(study.get((regime, alpha), {}))) for alpha in (0.0, *ALPHAS))
        first = next(iter(study[regime, 0.0].values()))
        cells = [
            formatting.NONE
            if key not in first
            else signed(mean_of(study, regime, 0.0, key))
            if "gap" in key
            else f"{mean_of(study, regime, 0.0, key):.3f}"
            for key in keys
        ]
        lines.append(f"| {regime} | {seeds} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def written(study: Study) -> tuple[str, dict[str, bytes], str]:
    """Returns the page, its figures and a list of its answers."""
    later = {key: value for key, value in study.items() if key[0].plan not in MAIN}
    study = {key: value for key, value in study.items() if key[0].plan in MAIN}
    sections = {title: section(study) for title, section in SECTIONS.items()}
    parts, answers = [OPENING + state(study)], [state(study).partition("\n")[0] + "\n"]
    figures: dict[str, bytes] = {}
    for title, (text, drawn) in sections.items():
        answer, _, rest = text.partition(BREAK)
        if not enough(study):
            answer = NOT_YET
        parts.append(f"## {title}\n{answer}{BREAK}{rest}")
        answers.append(f"- *{title}* {answer}")
        figures |= drawn
    if later:
        text = later_blocks(study, later)
        kept = f"with {OF_LATER['fashion_mnist/test']:,} test images of each"
        count = f"{sum(map(len, later.values()))} of {PLANNED_LATER} networks are here, {kept}."
        parts.append(f"## Later blocks: wider networks, longer training\n{count} {text}")
        answers.append(f"- *Later blocks: wider networks, longer training* {text.partition(BREAK)[0]}")
    return "\n\n".join([*parts, RECORDS]), figures, "\n".join(answers)


def between(document: str, text: str) -> str:
    """Returns a document with what stands between its two marks replaced; without the marks, as it is."""
    start, mark, rest = document.partition("<!-- settled -->\n")
    _, end, after = rest.partition("<!-- settled end -->")
    return f"{start}{mark}{text}\n{end}{after}" if end else document


def main(arguments: list[str]) -> int:
    """Writes the page."""
    folder = Path(arguments[0]) if arguments else FOLDER
    text, figures, answers = written(load_study(folder))
    for name, content in figures.items():
        write_atomically(folder / "figures" / name, content)
    write_atomically(folder / "README.md", text.encode())
    above = folder.parent / "README.md"
    if above.is_file():
        write_atomically(above, between(above.read_text(), answers).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
