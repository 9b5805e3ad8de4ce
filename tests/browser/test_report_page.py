"""The report in headless Chromium: drawn, quiet, narrow, dark, and usable from the keyboard."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from tests.unit.report.fake_run import write_run

from potstill.report import compare, write_report

from .quiet import quiet_browser

pytestmark = pytest.mark.browser

KINDS = ("image", "table", "signal", "regression", "many")
CHARTS = {"image": 9, "table": 9, "signal": 8, "regression": 7, "many": 9}
DESKTOP, PHONE = 1280, 380


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with quiet_browser(chromium) as opened:
        yield opened


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("reports")
    folders = {kind: write_run(root / kind, kind=kind) for kind in KINDS}
    pages = {kind: write_report(folder).html for kind, folder in folders.items()}
    comparison, _ = compare(list(folders.values())).save(root)
    return {**pages, "comparison": comparison}


@dataclass
class Opened:
    """A page, and what it complained about or asked the network for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


class Opener:
    """Opens pages in windows of a size and a theme, and closes them all."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list = []

    def __call__(
        self, path: Path, *, width: int = DESKTOP, theme: str = "light", charts: bool = True
    ) -> Opened:
        context = self._browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme
        )
        self._contexts.append(context)
        opened = Opened(context.new_page())
        opened.page.on("console", lambda m: opened.complaints.append(f"{m.type}: {m.text}"))
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        opened.page.goto(path.as_uri())
        if charts:
            opened.page.wait_for_selector("html[data-charts]", state="attached", timeout=60_000)
        return opened

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture
def opener(browser: Browser) -> Iterator[Opener]:
    made = Opener(browser)
    yield made
    made.close()


@pytest.fixture(scope="module")
def drawn(browser: Browser, reports: dict[str, Path]) -> Iterator[Callable[[str], Opened]]:
    """The report of a kind in a large light window, opened once for all who change nothing."""
    opener = Opener(browser)
    yield functools.cache(lambda kind: opener(reports[kind]))
    opener.close()


def background(page: Page) -> str:
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def overflow(page: Page) -> int:
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


@pytest.mark.parametrize("kind", KINDS)
def test_every_chart_is_drawn_without_a_complaint(
    drawn: Callable[[str], Opened], kind: str
) -> None:
    opened = drawn(kind)
    page = opened.page

    assert page.evaluate("document.documentElement.dataset.charts") == "drawn"
    assert page.locator("[data-chart]").count() == CHARTS[kind]
    assert page.locator("[data-chart] .main-svg:first-child").count() == CHARTS[kind]
    empty = """() => [...document.querySelectorAll('[data-chart]')].filter((place) =>
        !place.querySelector('.points path, .lines path, .heatmaplayer image, .js-line'))
        .map((place) => place.dataset.chart)"""
    assert page.evaluate(empty) == []
    assert opened.complaints == []


def test_the_page_asks_the_network_for_nothing(drawn: Callable[[str], Opened]) -> None:
    opened = drawn("image")

    assert [url for url in opened.requests if not url.startswith(("file:", "data:", "blob:"))] == []


@pytest.mark.parametrize("kind", [*KINDS, "comparison"])
def test_nothing_is_wider_than_a_phone(opener: Opener, reports: dict[str, Path], kind: str) -> None:
    page = opener(reports[kind], width=PHONE).page
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")

    assert overflow(page) <= 0
    cut = """(width) => [...document.querySelectorAll('.plot .svg-container')]
        .filter((plot) => plot.getBoundingClientRect().right > width + 1).length"""
    assert page.evaluate(cut, PHONE) == 0


def test_charts_fit_again_when_the_window_shrinks(opener: Opener, reports: dict[str, Path]) -> None:
    page = opener(reports["image"]).page

    page.set_viewport_size({"width": PHONE, "height": 900})
    page.wait_for_timeout(600)  # plotly waits a little before it draws again

    assert overflow(page) <= 0
    widths = page.evaluate(
        "[...document.querySelectorAll('.plot .main-svg')].map((s) => s.clientWidth)"
    )
    assert max(widths) <= PHONE


def test_the_dark_page_is_dark_and_its_charts_are_too(
    opener: Opener, reports: dict[str, Path]
) -> None:
    page = opener(reports["image"], theme="dark").page

    assert background(page) == "rgb(22, 20, 18)"
    assert dot_colour(page) == "rgb(245, 138, 75)"


def dot_colour(page: Page) -> str:
    """The fill of the distilled marker in the first chart."""
    return page.evaluate(
        """() => getComputedStyle([...document.querySelectorAll('[data-chart="cost-size"] .point')]
           .at(-1)).fill"""
    )


def test_a_change_of_theme_repaints_the_charts(opener: Opener, reports: dict[str, Path]) -> None:
    opened = opener(reports["image"])
    light = (background(opened.page), dot_colour(opened.page))

    opened.page.emulate_media(color_scheme="dark")
    opened.page.wait_for_timeout(1500)

    dark = (background(opened.page), dot_colour(opened.page))
    assert light == ("rgb(251, 249, 245)", "rgb(191, 78, 15)")
    assert dark == ("rgb(22, 20, 18)", "rgb(245, 138, 75)")
    assert opened.complaints == []


def test_samples_are_shown_as_images(drawn: Callable[[str], Opened]) -> None:
    page = drawn("image").page

    sizes = page.evaluate(
        "[...document.querySelectorAll('.card img')].map((i) => [i.naturalWidth, i.complete])"
    )
    assert len(sizes) >= 8
    assert all(size == [8, True] for size in sizes)


@pytest.mark.parametrize("kind", ["signal", "table"])
def test_samples_that_are_no_images_are_shown_too(
    drawn: Callable[[str], Opened], kind: str
) -> None:
    page = drawn(kind).page

    shown = page.locator(".card polyline" if kind == "signal" else ".card .facts dd")
    assert shown.count() >= 8
    assert shown.first.bounding_box() is not None


def test_the_numbers_open_with_the_keyboard(drawn: Callable[[str], Opened]) -> None:
    page = drawn("image").page
    summary = page.locator("figure summary").first

    summary.focus()
    page.keyboard.press("Enter")

    assert page.locator("figure details[open] table").first.is_visible()


def test_the_command_can_be_taken(drawn: Callable[[str], Opened]) -> None:
    page = drawn("image").page

    button = page.get_by_role("button", name="Copy")
    button.click()

    page.get_by_text("Selected").or_(page.get_by_text("Copied")).wait_for()


def test_without_scripts_the_figures_are_still_there(
    browser: Browser, reports: dict[str, Path]
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(reports["image"].as_uri())

    assert page.get_by_role("heading", level=1).is_visible()
    assert page.locator("table.sides").is_visible()
    assert not page.locator(".plot").first.is_visible()
    context.close()


def test_a_browser_that_cannot_draw_opens_the_tables(
    browser: Browser, reports: dict[str, Path]
) -> None:
    context = browser.new_context()
    context.add_init_script("delete window.DecompressionStream")
    page = context.new_page()
    page.goto(reports["image"].as_uri())
    page.wait_for_selector("html[data-charts=failed]", state="attached")

    assert page.locator("figure details[open]").count() == page.locator("figure details").count()
    assert "its numbers are below" in page.locator(".plot").first.inner_text()
    context.close()


def test_the_comparison_is_drawn(opener: Opener, reports: dict[str, Path]) -> None:
    opened = opener(reports["comparison"])
    points = "[data-chart='runs-0'] .point"

    assert opened.page.locator(".dots li").count() == len(KINDS)
    assert opened.page.locator("[data-chart]").count() == 3  # a picture for each metric
    assert opened.page.locator(points).count() == 9  # three models of three runs
    assert opened.complaints == []
    assert [u for u in opened.requests if not u.startswith(("file:", "data:", "blob:"))] == []


def test_a_point_of_the_comparison_says_whose_it_is(
    opener: Opener, reports: dict[str, Path]
) -> None:
    page = opener(reports["comparison"]).page

    page.locator("[data-chart='runs-0'] .point").first.hover(force=True)

    page.locator("[data-chart='runs-0'] .hoverlayer text").first.wait_for()
    shown = page.locator("[data-chart='runs-0'] .hoverlayer").text_content()
    assert any(name in shown for name in ("digits", "breast-cancer", "thousand"))
