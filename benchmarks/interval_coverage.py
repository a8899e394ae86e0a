"""How often the intervals, differences, floors and tests that the package prints cover what their sentences say.

    python benchmarks/interval_coverage.py [--only=WORDS] [--replicates=1000] [--resamples=500] [--write]

Each setting draws test sets from a known population, and computes the numbers of the table of metrics with intervals
as `metrics.measuring` does, but with the resamples of one compiled loop.  What an interval should cover is the mean of
its number over test sets of this size.  The results of a setting are kept in docs/benchmarks-coverage.json; a setting
that is there is not simulated again.  `--write` writes the tables of docs/metrics.md from that file.

(It is not called coverage.py because numba would then load it instead of the package of that name.)
"""

import argparse
import json
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from document import table, write_between
from interval_classes import on_request
from interval_simulation import detections, mean_of_folded_normal, pairs, test_sets

from mixup_jax.metrics import calibration
from mixup_jax.metrics import table as metric_table

DOCS = Path(__file__).resolve().parents[1] / "docs"
RESULTS = DOCS / "benchmarks-coverage.json"
GAPS = {
    "calibrated": 0.0,
    "2 points over": 0.02,
    "5 points over": 0.05,
    "2 points under": -0.02,
    "5 points under": -0.05,
}


def settings() -> dict[str, tuple[Callable[..., dict], tuple]]:
    """Returns what to simulate by the name of each setting, the cheap ones first."""
    found: dict[str, tuple[Callable[..., dict], tuple]] = {}
    for n in (300, 2000, 10_000):
        kinds = [(10, False), (2, False), (100, False), (10, True)]
        for classes, ties in kinds if n < 10_000 else kinds[::3]:
            for name, gap in GAPS.items() if not ties else [("calibrated", 0.0), ("5 points over", 0.05)]:
                setting = f"one record, n={n}, K={classes}, {name}{', ties' if ties else ''}"
                found[setting] = (test_sets, (n, classes, gap, ties, n > 300))
        if n > 300:
            for name in ("calibrated", "5 points over"):
                found[f"one record, n={n}, K=10, {name}, all numbers"] = (
                    test_sets,
                    (n, 10, GAPS[name], False, False),
                )
        if n < 10_000:
            for name in ("calibrated", "5 points over"):
                found[f"one record, n={n}, K=10, {name}, on request"] = (on_request, (n, 10, GAPS[name]))
            for name in ("calibrated", "5 points over", "5 points under"):
                found[f"two networks, n={n}, K=10, {name}"] = (pairs, (n, 10, GAPS[name], False))
            for name, distance, ties in (("near", 0.5, False), ("far", 2.0, False), ("ties", 1.0, True)):
                found[f"two sets, n={n}, {name}"] = (detections, (n, distance, ties))
    return found


def simulate(only: str, repeats: int, resamples: int) -> None:
    """Simulates the settings that are not among the results yet, and keeps each when it is done."""
    calibration._mean_of_folded_normal = mean_of_folded_normal
    for name, (simulation, arguments) in settings().items():
        kept = results()
        if name in kept or not any(words in name for words in only.split(";")):
            continue
        start = time.process_time()
        # The seed is that of the name, so that a setting is the same whatever stands before it.
        found = simulation(*arguments, repeats, resamples, zlib.crc32(name.encode()))
        found |= {"replicates": repeats, "resamples": resamples}
        kept = results() | {name: rounded(found)}
        lines = [f"{json.dumps(key)}: {json.dumps(kept[key])}" for key in settings() if key in kept]
        RESULTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        print(f"{name}: {time.process_time() - start:.0f} s of one core", flush=True)


def results() -> dict[str, dict]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def rounded(found):
    if isinstance(found, dict):
        return {key: rounded(value) for key, value in found.items()}
    return round(found, 5) if isinstance(found, float) else found


KINDS = ("one record", "two networks", "two sets")
OWN_VALUE = {row.key for row in (*metric_table.METRICS, *metric_table.DETECTION) if row.covered == "population"}
OWN_VALUE |= {"mean_confidence", "auroc_difference"}


def write() -> None:
    """Writes the tables of docs/metrics.md from the results."""
    kept = results()
    sizes = sorted({int(name.partition("n=")[2].partition(",")[0]) for name in kept})
    lines = []
    for kind in KINDS:
        of_kind = {name: found for name, found in kept.items() if name.startswith(kind)}
        keys = list(dict.fromkeys(key for found in of_kind.values() for key in found["intervals"]))
        if not keys:
            lines += [f"Not simulated yet: {kind}.", ""]
            continue
        header = [f"{kind}: coverage in %", *(f"n = {n:,}" for n in sizes), "holds", "the number covered"]
        rows = [
            [
                f"`{key}`" if kind != "two networks" else f"`{key}`, difference",
                *(spread([found for name, found in of_kind.items() if f"n={n}," in name], key) for n in sizes),
                verdict(
                    [found["intervals"][key]["coverage"] for found in of_kind.values() if key in found["intervals"]]
                ),
                covered(key),
            ]
            for key in keys
        ]
        lines += [*table(header, rows), ""]
    lines += [
        *table(["noise floor, calibrated networks", "number above `p95`, %", "mean of it / `mean`"], floors(kept)),
        "",
        *(
            f"{name.removeprefix('one record, ')}: p of `calibration_test` is at most 0.05 in "
            f"{100 * found['calibration_test']['p at most 0.05']:.1f} %."
            for name, found in kept.items()
            if "calibration_test" in found
        ),
        "",
    ]
    repeats = {found["replicates"] for found in kept.values()}
    drawn = " to ".join(str(number) for number in sorted({found["resamples"] for found in kept.values()}))
    lines.append(
        f"{len(kept)} settings, {min(repeats):,} test sets each, {drawn} resamples: a share of 95 % "
        "is known within 1.4 points.\nFrom the lowest to the highest of the settings of a size; `holds`: how often it "
        "is 93 to 97 %."
    )
    write_between(DOCS / "metrics.md", "coverage", "\n".join(lines) + "\n")


def covered(key: str) -> str:
    if key == "conformal_coverage":
        return "the coverage of its threshold"
    return "of the population" if key in OWN_VALUE else "the mean at this n"


def spread(found: list[dict], key: str) -> str:
    shares = [100 * one["intervals"][key]["coverage"] for one in found if key in one["intervals"]]
    ends = sorted({f"{share:.1f}" for share in (min(shares), max(shares))}, key=float) if shares else []
    return " to ".join(ends)


def verdict(shares: list[float]) -> str:
    """Returns in how many settings the coverage is 93 to 97 %, and where the others lie."""
    within = sum(0.93 <= share <= 0.97 for share in shares)
    below, above = sum(share < 0.93 for share in shares), sum(share > 0.97 for share in shares)
    others = ", ".join(f"{count} {where}" for count, where in ((below, "below"), (above, "above")) if count)
    return f"{within} of {len(shares)}" + (f" ({others})" if others else "")


def floors(kept: dict[str, dict]) -> list[list[str]]:
    found = [(name, one["floors"]) for name, one in kept.items() if "floors" in one]
    return [
        [
            f"{name.removeprefix('one record, ')}, `{key}`",
            f"{100 * floor['above p95']:.1f}",
            f"{floor['mean'] / floor['floor']:.3f}",
        ]
        for name, of_keys in found
        for key, floor in of_keys.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", default="", metavar="WORDS", help="only settings whose names contain one of these; with ; between"
    )
    parser.add_argument("--replicates", type=int, default=1000, help="test sets of a setting (default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=500, help="of a bootstrap (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="write the tables of docs/metrics.md from the results")
    arguments = parser.parse_args()
    if arguments.write:
        write()
        return
    simulate(arguments.only, arguments.replicates, arguments.resamples)


if __name__ == "__main__":
    main()
