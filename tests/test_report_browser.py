"""The page as a browser shows it: no errors, nothing too wide, and its choices and values at work."""

import shutil

import pytest
from report_runs import make_run

from mixup_jax.report.__main__ import main

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (pip install 'mixup_jax[dev]')")
# Imported only after the check that selenium is installed.
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROME = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(not (CHROME and DRIVER), reason="needs Chromium or Chrome, and chromedriver, on the PATH"),
    pytest.mark.xdist_group("browser"),
]

HOSTILE = "\"><script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">\n# x" + "W" * 80
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    root = tmp_path_factory.mktemp("browser")
    folders = [
        make_run(root / "erm-0", n=200),
        make_run(root / "erm-1", n=200, seed=1),
        make_run(root / "odd", n=200, alpha=0.4, experiment=HOSTILE, notes=HOSTILE),
    ]
    main([*map(str, folders), f"--output={root / 'report'}"])
    return (root / "report" / "index.html").as_uri()


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROME
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, address):
    browser.set_window_size(1400, 900)
    # On a busy machine `get` may return while the tab still leaves the page of the test before, and shows nothing.
    browser.get("about:blank")
    browser.get(address)
    WebDriverWait(browser, 30).until(lambda tab: tab.find_elements(By.CSS_SELECTOR, "#said + script"))
    browser.execute_script("for (const fold of document.querySelectorAll('.fold')) fold.open = true")
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def shown(page, selector):
    script = "return [...document.querySelectorAll(arguments[0])].filter(e => e.getClientRects().length).length"
    return page.execute_script(script, selector)


def open_choices(page):
    page.find_element(By.CSS_SELECTOR, ".choices summary").click()


def test_hostile_names_stay_text_and_the_script_runs(page):
    assert page.title.startswith("Calibration: ")
    assert "<script>document.title = 'taken'</script>" in page.find_element(By.TAG_NAME, "body").text
    assert page.execute_script("return document.scripts.length") == 1
    # The script took the titles away, so that the browser does not show them beside its own box.
    assert page.execute_script("return document.querySelectorAll('svg title').length") == 0


@pytest.mark.parametrize("width", [400, 800, 1000, 1200, 1400])
def test_nothing_is_wider_than_the_page_and_nothing_overlaps(page, width):
    # Not the window's size: a window has a least width.
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    open_choices(page)
    try:
        inner, scroll, wide, overlapping = page.execute_script(MEASURE)
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert inner == width
    assert scroll <= width
    assert wide == []
    assert overlapping == []


MEASURE = """
const name = (element) => element.outerHTML.slice(0, 90);
const box = (element) => element.getBoundingClientRect();
// What scrolls on its own, or is there for the ear alone, may be wider.
const parts = [...document.querySelectorAll("body *")].filter((element) =>
  element.getClientRects().length && !element.closest(".scroll, .unseen, svg *, .verdict thead"));
const wide = parts.filter((element) => box(element).right > innerWidth + 1);
const overlapping = [];
for (const parent of parts.filter((element) => element.closest("main, .choices"))) {
  const children = [...parent.children].filter((child) => parts.includes(child) && child.tagName !== "WBR");
  for (let i = 1; i < children.length; i++) {
    const [one, other] = [box(children[i - 1]), box(children[i])];
    if (Math.min(one.right, other.right) - Math.max(one.left, other.left) > 1 &&
        Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) > 1) overlapping.push(name(children[i]));
  }
}
return [innerWidth, document.documentElement.scrollWidth, wide.map(name), overlapping];
"""


def test_a_group_that_is_switched_off_leaves_tables_and_figures(page):
    names = "table.numbers thead th[data-for~='group-1']"
    parts = [names, "section[data-for~='group-1']", ".card[data-for~='group-1']", "g[data-for~='group-1']"]
    before = [shown(page, part) for part in parts]
    assert all(before)
    others = shown(page, "g[data-for~='group-0']")
    open_choices(page)
    page.find_element(By.ID, "show-group-1").click()
    assert [shown(page, part) for part in parts] == [0, 0, 0, 0]
    assert shown(page, "g[data-for~='group-0']") == others
    assert shown(page, ".partial") == 1
    columns, span = page.execute_script(
        "const t = document.querySelector('table.numbers');"
        "return [[...t.tHead.rows[0].cells].filter(c => c.getClientRects().length).length,"
        " t.querySelector('th.block').colSpan]"
    )
    assert columns == span == 2
    page.find_element(By.ID, "show-all").click()
    assert [shown(page, part) for part in parts] == before
    assert shown(page, ".partial") == 0


def test_seeds_and_out_of_distribution_sets_can_be_switched_off(page):
    open_choices(page)
    page.find_element(By.ID, "show-seed-1").click()
    assert shown(page, ".card[data-for~='seed-1'], g[data-for~='seed-1'], td[data-for~='seed-1']") == 0
    assert shown(page, ".card[data-for~='seed-0']") == 2
    page.find_element(By.ID, "show-ood-0").click()
    assert shown(page, "[data-for~='ood-0']") == 0
    assert shown(page, "tbody[data-for~='ood-1']") == 2


def test_scale_and_state_are_chosen(page):
    assert shown(page, "[data-for~='scale-log']") == 0
    linear, raw, scaled = (shown(page, f"[data-for~='{one}']") for one in ("scale-linear", "state-raw", "state-scaled"))
    assert linear == raw == scaled == 2
    open_choices(page)
    page.find_element(By.ID, "scale-log").click()
    assert (shown(page, "[data-for~='scale-log']"), shown(page, "[data-for~='scale-linear']")) == (2, 0)
    page.find_element(By.ID, "state-scaled").click()
    assert (shown(page, "[data-for~='state-scaled']"), shown(page, "[data-for~='state-raw']")) == (2, 0)


def test_diagrams_and_histograms_follow_the_seeds(page):
    parts = (".pairs > section", "figure[data-for~='scale-linear']")

    def seeds_shown():
        script = (
            "return [...document.querySelectorAll(arguments[0])].filter(e => e.getClientRects().length)"
            ".map(e => e.dataset.for.split(' ').filter(t => t.match('group|seed')).join(' '))"
        )
        return [page.execute_script(script, part) for part in parts]

    assert seeds_shown() == [["group-0 seed-0", "group-1 seed-0"]] * 2
    open_choices(page)
    page.find_element(By.ID, "each-all").click()
    assert seeds_shown() == [["group-0 seed-0", "group-0 seed-1", "group-1 seed-0"]] * 2
    page.find_element(By.ID, "each-one").click()
    page.find_element(By.ID, "show-seed-0").click()
    assert seeds_shown() == [["group-0 seed-1"]] * 2
    assert shown(page, "g[data-for~='seed-0']") == 0
    page.find_element(By.ID, "show-seed-1").click()
    assert seeds_shown() == [[], []]
    page.find_element(By.ID, "show-all").click()
    assert seeds_shown() == [["group-0 seed-0", "group-1 seed-0"]] * 2


def test_choices_work_by_keyboard_and_the_focus_is_seen(page):
    page.execute_script("document.querySelector('.choices summary').focus()")
    active = page.switch_to.active_element
    active.send_keys(Keys.ENTER)
    active.send_keys(Keys.TAB)
    active = page.switch_to.active_element
    assert active.get_attribute("id") == "show-group-0"
    assert active.value_of_css_property("outline-style") == "solid"
    active.send_keys(Keys.SPACE)
    assert shown(page, "g[data-for~='group-0']") == 0
    assert "parts are shown" in page.find_element(By.ID, "said").get_attribute("textContent")


def test_cards_of_many_runs_open_by_keyboard_and_all_are_printed(page):
    heights = "return [...document.querySelectorAll('.card')].map(e => e.offsetHeight)"
    assert max(page.execute_script(heights)) < 140  # a long name takes two lines
    page.find_element(By.CSS_SELECTOR, ".card summary").send_keys(Keys.ENTER)
    opened = page.execute_script(heights)
    assert opened[0] > 300
    assert max(opened[1:]) < 140
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    printed = page.execute_script(heights)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert min(printed) > 250


def test_values_are_read_off_by_pointer_and_by_keyboard(page):
    tip = page.find_element(By.ID, "tip")
    figure = page.find_element(By.CSS_SELECTOR, "section[data-for~='group-0'] svg")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'}); arguments[0].focus()", figure)
    assert not tip.is_displayed()
    figure.send_keys(Keys.ARROW_RIGHT)
    first = tip.text
    assert "accuracy 0." in first
    assert page.find_element(By.ID, "said").get_attribute("textContent") == tip.get_attribute("textContent")
    figure.send_keys(Keys.END)
    assert "to 1.000" in tip.text
    figure.send_keys(Keys.ESCAPE)
    assert not tip.is_displayed()
    spot = figure.find_element(By.CSS_SELECTOR, ".spot")
    webdriver.ActionChains(page).move_to_element(spot).perform()
    assert tip.text == first


@pytest.mark.parametrize(("width", "height"), [(1400, 900), (390, 844)])
def test_the_first_screen_says_what_was_compared_the_verdict_the_numbers_and_has_a_diagram(page, width, height):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    script = (
        "scrollTo(0, 0); return [...document.querySelectorAll(arguments[0])].map(e => e.getBoundingClientRect().%s)"
    )
    try:
        tops = [page.execute_script(script % "top", part) for part in ("h1", ".headline", ".five", ".first svg")]
        bottoms = page.execute_script(script % "bottom", ".five tbody tr:first-child")
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert [len(found) for found in tops] == [1, 1, 1, 1]
    assert max(map(max, tops)) < height - 200  # of the diagram at least so much is seen, even beside long names
    assert max(bottoms) < height


def test_secondary_parts_are_folded_at_first_and_all_are_printed(page):
    page.execute_script("for (const fold of document.querySelectorAll('.fold')) fold.open = false")
    script = "return [...document.querySelectorAll('.fold')].map(e => e.offsetHeight)"
    assert max(page.execute_script(script)) < 60
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    printed = page.execute_script(script)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert min(printed) > 200


def test_the_page_is_dark_where_the_reader_wants_it_but_not_in_print(page):
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    colours = (
        "const of = name => getComputedStyle(document.querySelector(name));"
        "return [of('body').backgroundColor, of('figure svg').filter]"
    )
    found = {}
    for media in ("screen", "print"):
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": dark})
        found[media] = page.execute_script(colours)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    assert found == {
        "screen": ["rgb(26, 26, 26)", "invert(0.9) hue-rotate(180deg)"],
        "print": ["rgb(255, 255, 255)", "none"],
    }


def test_values_of_what_is_hidden_are_not_told(page):
    curves = page.find_element(By.CSS_SELECTOR, "section[aria-labelledby='abstaining'] svg")
    open_choices(page)
    page.find_element(By.ID, "show-group-1").click()
    page.execute_script("arguments[0].focus()", curves)
    curves.send_keys(Keys.END)
    lines = page.find_element(By.ID, "tip").text.splitlines()
    assert len(lines) == 2
    assert lines[0] == "the surest 100%"
    assert lines[1].startswith("quickstart/erm: error 0.")
    page.find_element(By.ID, "show-all").click()
    page.execute_script("arguments[0].focus()", curves)
    curves.send_keys(Keys.END)
    assert len(page.find_element(By.ID, "tip").get_attribute("textContent").splitlines()) == 3
