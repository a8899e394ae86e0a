import base64
import csv
import hashlib
import json
import re
import subprocess
import sys
from functools import partial
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from report_runs import make_run, rewrite
from scipy import stats

from mixup_jax import escapes
from mixup_jax.errors import InputError
from mixup_jax.report import formatting
from mixup_jax.report.__main__ import main
from mixup_jax.report.comparisons import make_comparisons
from mixup_jax.report.figure_table import FIGURES, plan_figures
from mixup_jax.report.filters import Filters
from mixup_jax.report.groups import best_of, make_groups, reach
from mixup_jax.report.page import facts_of, five_numbers
from mixup_jax.report.page_sections import SECTIONS
from mixup_jax.report.quantities import Quantity
from mixup_jax.report.runs import load_run, load_runs
from mixup_jax.report.sentences import below_chance
from mixup_jax.report.workers import serially, workers

HOSTILE = "\"><script>alert('1')</script>|../../../../tmp/evil\\ $x_1$ {{ 7*7 }}\n# title"


class Page(HTMLParser):
    """The elements of a page, and the text of its table cells and of all of it."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.cells, self.text, self._open = [], [], "", []
        self.links, self.headings = [], {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.cells.append("")
        if tag == "a":
            self.links.append((dict(attrs)["href"], ""))
        if tag == "h2":
            self.headings[dict(attrs)["id"]] = ""
        if tag not in ("meta", "img", "wbr", "input"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if "a" in self._open:
            self.links[-1] = (self.links[-1][0], self.links[-1][1] + data)
        if "h2" in self._open:
            self.headings[list(self.headings)[-1]] += data
        if {"td", "th"} & set(self._open):
            self.cells[-1] += f" {data.strip()}" if data.strip() else ""

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return [
        make_run(root / "erm-0", seed=0, n=400),
        make_run(root / "erm-1", seed=1, n=400),
        make_run(root / "odd", alpha=0.2, seed=0, n=400, experiment=HOSTILE, notes=f"<b>{HOSTILE}"),
    ]


@pytest.fixture(scope="module")
def output(folders, tmp_path_factory):
    target = tmp_path_factory.mktemp("report") / "deep" / "report"
    assert main([*map(str, folders), f"--output={target}"]) == 0
    return target


@pytest.fixture(scope="module")
def page(output):
    return Page((output / "index.html").read_text())


def test_command_prints_the_path_of_the_page(folders, tmp_path, capsys):
    assert main([str(folders[0]), f"--output={tmp_path / 'one'}"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'one' / 'index.html'}\n"
    assert "No verdict: none of these runs was trained with mixup." in (tmp_path / "one" / "index.html").read_text()


def test_the_page_needs_nothing_from_outside(page, output):
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form", "img", "foreignobject")
        for name in ("src", "href", "xlink:href", "action", "srcset", "background"):
            assert (attributes.get(name) or "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    text = "".join(str(attributes) for _, attributes in page.elements) + page.text
    assert not re.search(r"https?:|url\((?!#)|@import", text)


def test_the_only_script_is_the_one_whose_hash_the_policy_names(page, output):
    text = (output / "index.html").read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(page.all("script")) == 1
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def test_every_link_leads_somewhere_and_ids_are_unique(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in page.all("a")} <= set(ids)


def test_every_picture_has_its_numbers_in_words(page):
    pictures = [picture for picture in page.all("svg") if "aria-hidden" not in picture]  # the letters of all figures
    assert len(pictures) == len(page.all("svg")) - 1 == 3 * 5 + 2 + 2 + 3 + 3
    for picture in pictures:
        assert re.search(r"\d\.\d{4}", picture["aria-label"])
        assert picture["role"] == "img"


def test_parts_of_figures_refer_to_their_own_figure(page):
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    referred = {attributes["href"][1:] for tag, attributes in page.elements if tag == "use"}
    referred |= {found for _, attributes in page.elements for found in re.findall(r"url\(#([^)]+)\)", str(attributes))}
    assert len(referred) > 100
    assert referred <= ids


def test_colours_of_figures_are_colours(page):
    colours = {attributes["fill"] for tag, attributes in page.elements if tag == "rect" and "fill" in attributes}
    assert "#d55e00" in colours  # of the hatching of bars
    assert all(re.fullmatch(r"#[0-9a-f]{6}|none", colour) for colour in colours)


def test_every_token_on_the_page_has_its_switch(page):
    switches = {box["value"] for box in page.all("input") if box["type"] == "checkbox"}
    used = {token for _, attributes in page.elements for token in (attributes.get("data-for") or "").split()}
    assert switches == {"group-0", "group-1", "seed-0", "seed-1", "ood-0", "ood-1"}
    assert switches <= used
    assert used - switches <= {
        "method-0",
        "method-1",
        "test-0",
        "state-raw",
        "state-scaled",
        "scale-linear",
        "scale-log",
    }


def test_table_headers_have_scopes_and_headings_descend_by_one(page):
    assert all(header.get("scope") in ("col", "row", "rowgroup") for header in page.all("th"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_hostile_names_are_shown_as_text_and_stay_inside_the_output(page, output, folders):
    assert "<script>alert('1')</script>" in page.text
    assert "{{ 7*7 }}" in page.text
    written = sorted(path.relative_to(output) for path in output.rglob("*") if path.is_file())
    assert len(written) == 5 + 3 * (3 * 5 + 2 + 2 + 3 + 3) + 1
    assert all(
        re.fullmatch(r"(figures/[a-z0-9-]+\.(svg|png|csv)|index\.html|results\.json|table\.(md|tex|csv))", str(path))
        for path in written
    )
    assert not (output.parent / "evil").exists()


def test_markdown_table_has_one_shape_and_no_markup_of_strangers(output):
    table = (output / "table.md").read_text().split("\n\n")[0].splitlines()
    columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table}
    assert columns == {5}
    assert "<script>" not in "\n".join(table)
    assert "0.2" not in table[0]
    assert "2 seeds (0, 1)" in table[0]


def test_latex_table_has_one_shape_and_no_command_of_strangers(output):
    text = (output / "table.tex").read_text()
    lines = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {3}
    assert r"\textbackslash{} \$x\_1\$ \{\{ 7*7 \}\} \# title" in text
    assert text.count(r"\begin{tabular}{lrrr}") == text.count(r"\end{tabular}") == 1
    assert re.search(r"ECE, 15 bins & 400 & 0\.\d{4} \$\\pm\$ 0\.\d{4} & 0\.\d{4} ", text)


def test_csv_table_has_every_number_of_results_json_to_the_last_digit(output):
    results = json.loads((output / "results.json").read_text())
    with (output / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    groups = {escapes.spreadsheet(group["name"]): group["metrics"] for group in results["groups"]}
    assert len(rows) == sum(len(metrics) for metrics in groups.values())
    for row in rows:
        numbers = groups[row["group"]][row["metric"]]
        assert float(row["mean"]) == numbers["mean"]
        assert (float(row["std"]) if row["std"] else None) == numbers["std"]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@cmd", " \n=1"])
def test_no_name_is_a_formula_of_a_spreadsheet(name):
    assert escapes.spreadsheet(name).startswith("'")
    assert escapes.spreadsheet(f"a{name}").startswith("a")


def planned(groups, section):
    return [plan for name, plan in plan_figures(groups, Filters(groups)) if name == section]


def test_alpha_is_swept_where_nothing_else_differs(folders, tmp_path):
    make = partial(make_run, n=100, ood=())
    erm, other = make(tmp_path / "a"), make(tmp_path / "b", alpha=0.3, epochs=31)
    swept = [make(tmp_path / str(alpha), alpha=alpha) for alpha in (0.2, 1.0)]
    groups = make_groups(load_runs([erm, swept[1], other]))
    assert planned(groups, "alpha") == []
    groups = make_groups(load_runs([erm, swept[1], other, swept[0]]))
    plans = planned(groups, "alpha")
    assert [plan.file_name for plan in plans] == ["alpha-accuracy", "alpha-ece-15", "alpha-oe-15"]
    assert re.findall(r"alpha (\S+):", plans[0].draw().alt) == ["0", "0.2", "1"]


def test_seeds_of_runs_without_twins_are_not_drawn(folders):
    groups = make_groups(load_runs([folders[0], folders[2]]))
    assert planned(groups, "seeds") == []


def test_the_run_card_says_what_it_ran_on(output):
    text = (output / "index.html").read_text()
    assert "<dt>Hardware</dt><dd>1 device</dd>" in text


def test_numbers_on_the_page_are_those_of_evaluation_json(folders, page):
    for folder in folders:
        evaluation = json.loads((folder / "evaluation.json").read_text())
        test = evaluation["results"]["fashion_mnist/test"]
        for key in ("accuracy", "nll", "brier", "ece_15", "ece_100", "oe_15", "oe_100", "mce_15", "temperature"):
            assert any(formatting.number(test[key]) in cell for cell in page.cells), key
        assert any(formatting.number(test["after_temperature"]["ece_15"]) in cell for cell in page.cells)
        assert any(formatting.number(test["confidence_minus_accuracy"], signed=True) in cell for cell in page.cells)
        for numbers in evaluation["ood"].values():
            for key in ("auroc", "aupr_in", "aupr_out", "fpr95_ood", "fpr95_id", "mean_confidence"):
                assert any(formatting.number(numbers[key]) in cell for cell in page.cells), key


def test_group_numbers_are_mean_and_spread_and_single_seeds_say_so(folders, page):
    first, second = (
        json.loads((folder / "evaluation.json").read_text())["results"]["fashion_mnist/test"]["ece_15"]
        for folder in folders[:2]
    )
    mean, std = (first + second) / 2, abs(first - second) / 2**0.5
    assert any(f"{mean:.4f} ± {std:.4f}" in cell for cell in page.cells)
    assert any("1 seed (0): no spread" in cell for cell in page.cells)


def test_results_json_holds_what_the_page_shows(output, folders):
    results = json.loads((output / "results.json").read_text())
    assert results["schema"] == 1
    assert [(group["kind"], group["n_seeds"]) for group in results["groups"]] == [("baseline", 2), ("mixup", 1)]
    evaluation = json.loads((folders[0] / "evaluation.json").read_text())
    run = results["runs"][0]
    assert run["metrics"]["ece_15"]["value"] == evaluation["results"]["fashion_mnist/test"]["ece_15"]
    assert (run["metrics"]["ece_15"]["n"], run["metrics"]["ece_15"]["bins"]) == (400, 15)
    assert run["metrics"]["ood/mnist/auroc"]["n"] == {"in": 400, "out": 200}
    for one in results["runs"]:
        assert all((output / path).is_file() for path in one["figures"].values())
    (verdict,) = results["verdict"]
    assert (verdict["baseline"], verdict["mixup"]) == ("quickstart/erm", HOSTILE)
    by_metric = {finding["metric"]: finding for finding in verdict["findings"]}
    assert by_metric["ece_15"]["outcome"] == "as the paper says"
    low, high = by_metric["ece_15"]["interval"]
    assert low < by_metric["ece_15"]["difference"] < high < 0


def test_the_same_runs_give_the_same_bytes(folders, output, tmp_path):
    main([*map(str, folders), f"--output={tmp_path}"])
    for path in output.rglob("*"):
        if path.suffix in (".html", ".json", ".md", ".tex", ".csv", ".svg", ".png"):
            assert (tmp_path / path.relative_to(output)).read_bytes() == path.read_bytes(), path


def test_a_verdict_needs_the_same_test_examples(folders, tmp_path):
    other = make_run(tmp_path / "other", alpha=0.2, n=300)
    comparisons, reason = make_comparisons(make_groups(load_runs([folders[0], other])))
    assert comparisons == []
    assert "test examples" in reason


def test_the_baseline_most_like_the_mixup_run_is_taken_and_differences_are_told(folders, tmp_path):
    longer = make_run(tmp_path / "longer", n=400, epochs=60, experiment="longer/erm")
    mixup = make_run(tmp_path / "mixup", n=400, epochs=60, alpha=0.4)
    groups = make_groups(load_runs([folders[0], longer, mixup]))
    (comparison,), _ = make_comparisons(groups)
    assert comparison.baseline.name == "longer/erm"
    assert not [remark for remark in comparison.remarks if remark.about == "Not like for like"]
    (unequal,), _ = make_comparisons(make_groups(load_runs([folders[0], mixup])))
    assert "epochs (30 without mixup, 60 with it)" in " ".join(remark.text for remark in unequal.remarks)


def test_a_run_without_temperature_ood_and_progress_still_has_a_page(folders, tmp_path):
    folder = make_run(tmp_path / "bare", n=100, ood=())
    (folder / "metrics.jsonl").unlink()

    def strip(evaluation):
        for name in ("temperature", "after_temperature", "intervals", "noise_floor"):
            evaluation["results"]["fashion_mnist/test"].pop(name)

    rewrite(folder / "evaluation.json", strip)
    main([str(folder), f"--output={tmp_path / 'out'}"])
    assert len(Page((tmp_path / "out" / "index.html").read_text()).all("svg")) == 1 + 4
    assert load_run(folder).temperature is None


def test_further_numbers_have_rows_where_they_are_and_only_there(folders, tmp_path):
    folder = make_run(tmp_path / "run", n=100, ood=("mnist",))
    further = {"classwise_ece_15": 0.01236, "tace_15": None, "adaptive_ece_15": None}

    def change(evaluation):
        test, mnist = evaluation["results"]["fashion_mnist/test"], evaluation["ood"]["mnist"]
        test.update(further, accuracy_at_coverage=None)
        test["after_temperature"].update(further, accuracy_at_coverage=None)
        mnist["scores"] = {"energy": mnist["scores"]["energy"]}
        evaluation["training_seconds"] = 3725

    rewrite(folder / "evaluation.json", change)
    main([str(folder), f"--output={tmp_path / 'out'}"])
    page = Page((tmp_path / "out" / "index.html").read_text())
    rows = " ".join(page.cells)
    assert "0.0124" in rows
    for words, there in (
        ("Class-wise ECE", True),
        ("Smooth ECE", True),
        ("E-AURC", True),
        ("AUROC by energy", True),
        ("AUROC by entropy", False),
        ("Thresholded adaptive ECE", False),
        ("Adaptive ECE", False),
        ("surest 80 %", False),
    ):
        assert (words in rows) == there, words
    assert "1 h 2 min" in page.text
    results = json.loads((tmp_path / "out" / "results.json").read_text())["runs"][0]
    assert results["training_seconds"] == 3725
    assert results["metrics"]["classwise_ece_15"]["value"] == 0.01236
    assert "| Class-wise ECE, 15 bins | 100 | 0.0124 |" in (tmp_path / "out" / "table.md").read_text()


def test_slugs_are_safe_and_unique():
    taken = set()
    names = ["A/b", "a b", "../..", "", "é", "x" * 500, "a-b-2"]
    slugs = [formatting.slug(name, taken) for name in names]
    assert slugs[:5] == ["a-b", "a-b-2", "run", "run-2", "e" if "e" in slugs[4:5] else slugs[4]]
    assert len(set(slugs)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug) and len(slug) < 70 for slug in slugs)


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [
        (0.12345, False, "0.1235"),
        (-0.5, False, "\N{MINUS SIGN}0.5000"),
        (0.5, True, "+0.5000"),
        (-1e-9, True, "0.0000"),
    ],
)
def test_numbers_have_four_decimals_and_no_negative_zero(value, signed, text):
    assert formatting.number(value, signed=signed) == text
    assert formatting.number(None) == "\N{EN DASH}"


def test_the_report_loads_neither_jax_nor_tensorflow_nor_ml_collections():
    code = (
        "import sys, mixup_jax.report.__main__, mixup_jax.report.build; "
        "print(sorted({'jax', 'tensorflow', 'ml_collections', 'matplotlib.pyplot', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.home())
    assert done.stdout.strip() == "[]"


def test_figures_state_the_ece_of_evaluation_json_before_and_after_scaling(folders, page):
    alts = [picture.get("aria-label", "") for picture in page.all("svg")]
    for folder in folders:
        test = json.loads((folder / "evaluation.json").read_text())["results"]["fashion_mnist/test"]
        for numbers in (test, test["after_temperature"]):
            expected = f"ECE {numbers['ece_15']:.4f} and OE {numbers['oe_15']:.4f} with 15 bins on 400 test examples"
            assert any(expected in alt for alt in alts)


def test_every_row_of_the_table_of_figures_has_its_part_of_the_page():
    blocks = {block.anchor for section in SECTIONS for block in section.blocks}
    assert {row.section for row in FIGURES} == blocks | {"first", "runs"}
    assert [section.anchor for section in SECTIONS if not section.blocks] == ["differences", "text"]


def test_headings_and_navigation_say_the_same_words(page):
    assert page.links
    for address, words in page.links:
        assert page.headings[address.removeprefix("#")] == words


def test_the_first_table_has_five_numbers_and_marks_the_best_with_its_ties(folders, page):
    groups = make_groups(load_runs(folders))
    five = five_numbers(groups)
    assert [one.key for one in five.quantities] == [
        "accuracy", "ece_15", "oe_15", "after_temperature/ece_15", "ood/mnist/auroc"
    ]  # fmt: skip
    for column, quantity in enumerate(five.quantities):
        means = [group.summary(quantity).mean for group in groups]
        best = (max if quantity.aim == "higher" else min)(means)
        marked = [cells[column].best for _, cells in five.rows]
        assert marked[means.index(best)]
        assert [cells[column].text for _, cells in five.rows] == [f"{mean:.3f}" for mean in means]


def test_ties_are_groups_whose_intervals_overlap(folders, tmp_path):
    ece = Quantity("ece_15", "ECE", "lower")
    erm, mixup = make_groups(load_runs(folders))
    low, high = reach(erm, ece)
    values = [group.runs[0].result["ece_15"] for group in (erm,)] + [erm.runs[1].result["ece_15"]]
    assert (low, high) == pytest.approx(stats.t.interval(0.95, 1, np.mean(values), np.std(values, ddof=1) / 2**0.5))
    assert reach(mixup, ece) == tuple(mixup.first.result["intervals"]["ece_15"])
    tied = reach(mixup, ece)[1] >= low
    assert best_of([erm, mixup], ece) == ([erm, mixup] if tied else [mixup])
    (alone,) = make_groups(load_runs([folders[0]]))
    assert best_of([alone, mixup], ece) == [mixup]  # 0.2 against 0.05, with intervals that are far apart
    assert best_of([mixup], ece) == []


def test_an_auroc_below_chance_is_remarked(tmp_path):
    low = make_run(tmp_path / "low", n=200, signals=(9.0, 1.1))  # surer of mnist than of its own test set
    (sentence,) = below_chance(make_groups(load_runs([low])))
    assert sentence.startswith("Below chance on mnist: quickstart/erm (0.")
    main([str(low), f"--output={tmp_path / 'out'}"])
    assert sentence in Page((tmp_path / "out" / "index.html").read_text()).text


def test_a_card_shows_first_what_differs_and_only_settings_with_an_effect(folders):
    runs = load_runs(folders)
    shared, own = facts_of(runs)
    name, told = own[runs[2].folder][0]
    assert (name, told) == ("Differs in", "mixup alpha 0.2")
    facts = dict(shared) | dict(own[runs[0].folder])
    assert facts["Method"] == "as ERM"
    assert dict(own[runs[2].folder])["Method"] == "mixup alpha 0.2"
    assert "step epochs" not in facts["Optimiser"]  # of another schedule
    assert not {name for name, _ in shared} & {name for name, _ in own[runs[0].folder]}
    assert ("Batch size", "128") in shared


def test_work_is_the_same_in_one_process_and_in_two():
    tasks = [partial(divmod, 17, number) for number in range(1, 5)]
    with workers(2) as run_all:
        assert run_all(tasks) == serially(tasks) == [(17, 0), (8, 1), (5, 2), (4, 1)]


def test_jobs_that_are_none_are_refused(folders, tmp_path):
    with pytest.raises(InputError, match="--jobs is 0; expected at least 1"):
        main([str(folders[0]), f"--output={tmp_path / 'out'}", "--jobs=0"])
