"""The tables of numbers, ready to be printed: blocks of rows, with a cell for each column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mixup_jax.report import wording
from mixup_jax.report.groups import Group
from mixup_jax.report.quantities import Quantity, Section, examples, interval
from mixup_jax.report.quantities import value as value_of
from mixup_jax.report.runs import Run


@dataclass(frozen=True)
class Cell:
    """A number of the table, and what is said below it in small print."""

    text: str
    small: str = ""


@dataclass(frozen=True)
class Row:
    """A line of the table: a number's key, its name, what is better, and a cell for each column."""

    key: str
    label: str
    aim: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Block:
    """A block of the table: the key of its first number, its heading, the examples it rests on, and its lines."""

    key: str
    title: str
    examples: str
    rows: tuple[Row, ...]


def group_blocks(sections: Sequence[Section], groups: Sequence[Group]) -> list[Block]:
    """Returns the main table, one column a group: mean and spread, or a single seed's number and interval."""

    def cell(group: Group, quantity: Quantity) -> Cell:
        summary = group.summary(quantity)
        small = "" if summary is None or summary.n_seeds == len(group.runs) else f"{summary.n_seeds} seeds"
        if len(group.runs) == 1:
            small = wording.interval(interval(group.first, quantity), signed=quantity.signed)
        return Cell(wording.spread(summary, signed=quantity.signed), small)

    leaders = [group.first for group in groups]
    return _blocks(sections, leaders, lambda quantity: tuple(cell(group, quantity) for group in groups))


def run_blocks(sections: Sequence[Section], runs: Sequence[Run]) -> list[Block]:
    """Returns the table of single runs, one column a run, with the interval over test examples below each number."""

    def cell(run: Run, quantity: Quantity) -> Cell:
        ends = interval(run, quantity)
        return Cell(
            wording.number(value_of(run, quantity), signed=quantity.signed),
            wording.interval(ends, signed=quantity.signed),
        )

    return _blocks(sections, runs, lambda quantity: tuple(cell(run, quantity) for run in runs))


def _blocks(
    sections: Sequence[Section], runs: Sequence[Run], cells: Callable[[Quantity], tuple[Cell, ...]]
) -> list[Block]:
    blocks = []
    for section in sections:
        rows = [Row(quantity.key, quantity.label, quantity.aim, cells(quantity)) for quantity in section.quantities]
        rows = [row for row in rows if any(cell.text != wording.NONE for cell in row.cells)]
        counted = list(dict.fromkeys(filter(None, (examples(run, section.quantities[0]) for run in runs))))
        if rows:
            blocks.append(Block(section.quantities[0].key, section.title, "; ".join(counted), tuple(rows)))
    return blocks
