"""Tables of docs/scaling.md: what a ResNet-50 step needs on 4 to 256 chips of a TPU v5e, compiled without a TPU.

    python benchmarks/scaling.py [--only=v5e-2x2,v5e-4x4] [--write=docs/scaling.md]

makes the records that are missing in docs/results/scaling, in order of importance (6 minutes each on an idle core; it
needs libtpu), and writes the tables from all records.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixup_jax.ahead.record import all_reduce_seconds
from mixup_jax.ahead.topology import CHIPS

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "docs" / "results" / "scaling"
BLOCK = re.compile(r"(<!-- scaling: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
PER_CHIP = 128
LARGER = 256
TOGETHER = 1024
"""The batch of configs/imagenet.py, shared by more and more chips."""
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Compilation:
    """A record of a topology, a variant of configs/imagenet.py, and a number of images per chip."""

    name: str
    layout: tuple[int, int]
    variant: str = "mixup"
    per_chip: int = PER_CHIP
    steps: str = "train"

    def command(self) -> list[str]:
        """Returns the command that makes the record."""
        down, across = self.layout
        return [
            *(sys.executable, "-m", "mixup_jax.compile_ahead", f"--config=configs/imagenet.py:{self.variant}"),
            *(f"--topology=v5e:{down}x{across}", f"--config.batch_size={self.per_chip * down * across}"),
            *(f"--steps={self.steps}", f"--output={RECORDS / self.name}.json"),
        ]


BY_SCALE = {4: (2, 2), 16: (4, 4), 64: (8, 8), 256: (16, 16)}
COMPILATIONS = [
    Compilation("v5e-2x2", (2, 2)),
    Compilation("v5e-2x2-erm", (2, 2), variant="erm"),
    *(Compilation(f"v5e-{down}x{across}", (down, across)) for down, across in list(BY_SCALE.values())[1:]),
    Compilation(f"v5e-2x2-{LARGER}", (2, 2), per_chip=LARGER),
    Compilation("v5e-2x2-eval", (2, 2), steps="eval"),
    *(
        Compilation(f"v5e-{down}x{across}-{TOGETHER}", (down, across), per_chip=TOGETHER // chips)
        for chips, (down, across) in list(BY_SCALE.items())[1:]
    ),
]


def load(name: str) -> dict[str, Any] | None:
    """Returns a record, or None if it is missing."""
    path = RECORDS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def memory_of(record: Record) -> float:
    """Returns the bytes that a training step holds on a chip."""
    return record["steps"]["train"]["memory"]["total"]


def largest_batch(small: Record, large: Record) -> int:
    """Returns the most images that fit a chip, in whole mixing groups, if memory grows linearly as in two records."""
    images = [record["steps"]["train"]["examples"] for record in (small, large)]
    each = (memory_of(large) - memory_of(small)) / (images[1] - images[0])
    fixed = memory_of(small) - each * images[0]
    return int((small["topology"]["device"]["memory"] - fixed) / each) // PER_CHIP * PER_CHIP


def confirming() -> Compilation | None:
    """Returns the compilation at the predicted largest batch, or None without a prediction."""
    small, large = load("v5e-2x2"), load(f"v5e-2x2-{LARGER}")
    if small is None or large is None or not large["steps"]["train"]["fits"]:
        return None
    return Compilation("v5e-2x2-largest", (2, 2), per_chip=largest_batch(small, large))


def compile_missing(chosen: Sequence[str] | None) -> None:
    """Makes the missing records, all or the chosen ones."""
    for one in COMPILATIONS:
        _compile(one, chosen)
    last = confirming()
    if last is not None:
        _compile(last, chosen)


def _compile(one: Compilation, chosen: Sequence[str] | None) -> None:
    if (chosen is None or one.name in chosen) and load(one.name) is None:
        print(f"{one.name}: {' '.join(one.command()[1:])}", flush=True)
        subprocess.run(one.command(), cwd=ROOT, check=True)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table in which all columns but the first are numbers."""
    if not rows:
        return "No records here yet.\n"
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def steps_table() -> str:
    """Returns the table of steps on 2x2 chips."""
    named = {
        "the flax example, without mixing": "flax-example",
        "before, with mixing": "before",
        "now, without mixing": "v5e-2x2-erm",
        "now, with mixing": "v5e-2x2",
    }
    rows = []
    for label, name in named.items():
        record = load(name)
        if record is not None:
            step = record["steps"]["train"]
            cycles, moved = step["cycles"] / 1e6, step["accessed"] / 1e9
            held = step["memory"]["temporaries"] / 1e9
            rows.append(
                [
                    label,
                    f"{cycles:.1f}",
                    f"{cycles / 1.5:.1f}",
                    f"{moved:.1f}",
                    f"{step['flops'] / 1e12:.2f}",
                    f"{held:.2f}",
                ]
            )
    header = ["step, 128 images a chip on v5e 2x2", "cycles, M", "ms", "GB accessed", "TFLOP", "GB of temporaries"]
    return table(header, rows)


def scale_table() -> str:
    """Returns the table of 4 to 256 chips."""
    rows = []
    for chips, (down, across) in BY_SCALE.items():
        record = load(f"v5e-{down}x{across}")
        if record is not None:
            rows.append([str(chips), *_scaled(record)])
    header = [
        *("chips", "batch", "GB a chip", "computing, ms", "all-reduces", "MB", "of it, ms", "share"),
        *("images/s, all hidden", "none hidden"),
    ]
    return table(header, rows)


def _scaled(record: Record) -> list[str]:
    step, chips = record["steps"]["train"], record["topology"]["chips"]
    computing, reducing = step["bounds"]["estimated_seconds"], step["bounds"]["all_reduce_seconds"]
    reduced = next(group for group in step["collectives"] if group["kind"] == "all-reduce")
    batch = step["examples"] * chips
    return [
        *(f"{batch:,}", f"{memory_of(record) / 1e9:.2f}", f"{computing * 1e3:.1f}"),
        *(str(reduced["count"]), f"{reduced['bytes'] / 1e6:.1f}", f"{reducing * 1e3:.2f}"),
        f"{reducing / (computing + reducing):.1%}",
        *(f"{batch / computing:,.0f}", f"{batch / (computing + reducing):,.0f}"),
    ]


def shared_table() -> str:
    """Returns the table of the config's batch on more and more chips, which its mixing groups then span."""
    rows = []
    for chips, (down, across) in BY_SCALE.items():
        per_chip = TOGETHER // chips
        record = load(f"v5e-2x2-{LARGER}" if per_chip == LARGER else f"v5e-{down}x{across}-{TOGETHER}")
        if record is not None:
            step = record["steps"]["train"]
            exchanged = sum(group["bytes"] for group in step["collectives"] if group["kind"] != "all-reduce")
            computing = step["bounds"]["estimated_seconds"]
            # An estimate without some of the convolutions is none.
            estimated = not any(group["kind"] == "fusion" for group in step["unestimated"])
            rows.append(
                [
                    *(str(chips), str(per_chip), f"{step['flops'] / 1e12:.3f}", f"{step['model_flops'] / 1e12:.3f}"),
                    *(f"{step['flops'] / step['model_flops']:.2f}", f"{exchanged / 1e6:.1f}"),
                    *((f"{computing * 1e3:.1f}", f"{TOGETHER / computing:,.0f}") if estimated else ("-", "-")),
                ]
            )
    header = ["chips", "images a chip", "TFLOP", "the network's own", "ratio", "MB gathered", "computing, ms"]
    return table([*header, "images/s, all hidden"], rows)


def balance_table() -> str:
    """Returns the table of images per chip for which computing takes as long as communication."""
    record = load("v5e-2x2")
    if record is None:
        return "No records here yet.\n"
    step = record["steps"]["train"]
    reduced = next(group for group in step["collectives"] if group["kind"] == "all-reduce")
    sizes = [reduced["bytes"] / reduced["count"]] * reduced["count"]
    each = step["bounds"]["estimated_seconds"] / step["examples"]
    rows = []
    for chips, layout in BY_SCALE.items():
        seconds = all_reduce_seconds(sizes, layout, CHIPS["TPU v5 lite"])
        rows.append([str(chips), f"{seconds * 1e3:.2f}", f"{seconds / each:.1f}", f"{9 * seconds / each:.0f}"])
    return table(["chips", "communication, ms", "images a chip: as much", "a tenth of the step"], rows)


def memory_table() -> str:
    """Returns the table of the memory of a step by images per chip."""
    rows = []
    for name in ("v5e-2x2", f"v5e-2x2-{LARGER}", "v5e-2x2-largest"):
        record = load(name)
        if record is not None:
            step = record["steps"]["train"]
            held = step["memory"]["total"] if "memory" in step else step["needed"]
            rows.append([str(step["examples"]), f"{held / 1e9:.2f}", "yes" if step["fits"] else "no"])
    return table(["images a chip", "GB", "fits 17.18 GB"], rows)


TABLES = {
    "steps": steps_table,
    "scale": scale_table,
    "shared": shared_table,
    "balance": balance_table,
    "memory": memory_table,
}


def written(text: str) -> str:
    """Returns a document with new tables."""
    return BLOCK.sub(lambda match: f"{match[1]}{TABLES[match[2]]()}{match[3]}", text)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="NAMES", help="records to make, if they are missing; empty makes none")
    parser.add_argument("--write", type=Path, default=ROOT / "docs" / "scaling.md", metavar="FILE")
    arguments = parser.parse_args()
    RECORDS.mkdir(parents=True, exist_ok=True)
    compile_missing(None if arguments.only is None else arguments.only.split(","))
    arguments.write.write_text(written(arguments.write.read_text()))
    print(f"{arguments.write}: tables written")


if __name__ == "__main__":
    main()
