"""The pictures of the report: who finds what, and what a browser makes of it."""

import json

import numpy as np
import pytest
from tests.browser.quiet import quiet_browser
from tests.unit.report.fake_run import write_run

from potstill.report import write_report
from potstill.report.boxes import find_boxes
from potstill.report.folder import read_folder


def padded(rows: list[list[float]], *, nothing: list[float]) -> np.ndarray:
    return np.array((rows + [nothing] * 3)[:3], dtype=np.float32)


def found(*rows: list[float]) -> np.ndarray:
    return padded(list(rows), nothing=[0, 0, 0, 0, 0, -1]).reshape(-1)


@pytest.fixture
def folder(tmp_path):
    """Two pictures: the student finds one box of two and invents one; the teacher is right."""
    run = write_run(tmp_path / "run", seeds=(3,))
    results = json.loads((run / "results.json").read_text())
    results["data"] |= {"target_kind": "boxes", "classes": ["cat", "dog"], "kind": "image"}
    (run / "results.json").write_text(json.dumps(results))
    rng = np.random.default_rng(0)
    np.savez(run / "samples.npz", ids=np.array([7, 8]),
             inputs=rng.integers(0, 255, (2, 3, 40, 60)).astype(np.uint8))  # fmt: skip
    truth = [[0, 0, 0, 10, 10, 0], [1, 20, 20, 40, 40, 0]]
    nothing = [-1, 0, 0, 0, 0, 0]
    np.savez(
        run / "predictions.npz",
        ids=np.array([7, 8]),
        labels=np.stack([padded(truth, nothing=nothing), padded(truth[:1], nothing=nothing)]),
        teacher_0=np.stack([found([0, 0, 10, 9, 0.9, 0], [20, 20, 40, 38, 0.8, 1]),
                            found([0, 0, 10, 10, 0.7, 0])]),
        scratch_3=np.stack([found(), found()]),
        distilled_3=np.stack([found([0, 0, 10, 9, 0.9, 0], [20, 0, 40, 10, 0.62, 1]), found()]),
    )  # fmt: skip
    return run


def test_it_says_who_found_what(folder) -> None:
    gallery = find_boxes(read_folder(folder))

    first, second = gallery.scenes
    assert (first.id, second.id) == (7, 8)  # more classes first
    said = {panel.who: panel.said for panel in first.panels}
    assert said == {
        "truth": "2 boxes",
        "teacher": "2 of 2 found",
        "scratch": "0 of 2 found",
        "distilled": "1 of 2 found",
    }
    assert [f.right for f in first.panels[0].frames] == [True, False]  # the dog is missed
    assert second.panels[0].said == "1 box"
    assert gallery.levels["distilled"] > 0.62  # from where on nothing is invented
    assert (first.width, first.height) == (60, 40)
    assert gallery.seed == 3


def test_other_runs_have_no_such_pictures(tmp_path) -> None:
    assert find_boxes(read_folder(write_run(tmp_path / "run", seeds=(0,)))) is None


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 380])
def test_the_boxes_are_drawn_over_the_pictures(folder, chromium: str, width: int) -> None:
    page_file = write_report(folder).html
    with quiet_browser(chromium) as browser:
        page = browser.new_page(viewport={"width": width, "height": 900})
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(page_file.as_uri())
        panel = page.locator(".panel > svg").nth(1).bounding_box()
        box = page.locator(".panel > svg").nth(1).locator("rect").nth(1).bounding_box()
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        count = page.locator(".panel").count()

    assert complaints == []
    assert wide <= 0
    assert count == 8
    assert box["x"] - panel["x"] == pytest.approx(panel["width"] * 20 / 60, abs=2.5)
    assert box["width"] == pytest.approx(panel["width"] * 20 / 60, abs=4)
