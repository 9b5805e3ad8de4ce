"""The page: complete in itself, safe to open, and readable without its charts."""

import json
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from potstill.report import write_report
from potstill.report.folder import RunFolder, read_folder
from potstill.report.page import descriptions_of, facts_of, render_page, stages_of

from .fake_run import change, write_run

KINDS = ("image", "table", "signal", "regression", "many")
VOID = {"meta", "link", "img", "br", "path", "rect", "circle", "polyline"}
EVIL = "<script>alert('x')</script>"
PageOf = Callable[[str], str]
RunOf = Callable[[str], RunFolder]


class Outline(HTMLParser):
    """Tags, attributes and headings of a page; fails on a tag closed out of order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[tuple[int, str]] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("script", "style"):
            return
        self.words += data
        if self._open and re.fullmatch("h[1-6]", self._open[-1]):
            self.headings.append((int(self._open[-1][1]), data))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_well_formed_and_its_ids_are_unique(page_of: PageOf, kind: str) -> None:
    outline = Outline(page_of(kind))

    ids = Counter(a["id"] for _, a in outline.tags if "id" in a)
    assert [name for name, times in ids.items() if times > 1] == []
    named = {a["aria-labelledby"] for _, a in outline.tags if "aria-labelledby" in a}
    assert named <= set(ids)


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_needs_nothing_but_itself(page_of: PageOf, kind: str) -> None:
    outline = Outline(page_of(kind))

    addresses = [a[n] or "" for _, a in outline.tags for n in ("src", "href") if n in a]
    assert all(address.startswith("data:") for address in addresses)
    assert not any("src" in script for script in outline.of("script"))
    policy = next(a["content"] for a in outline.of("meta") if "http-equiv" in a)
    assert policy is not None
    assert "default-src 'none'" in policy


def test_the_page_is_small_enough_to_mail(page_of: PageOf) -> None:
    assert max(len(page_of(kind)) for kind in KINDS) < 3_000_000


@pytest.mark.parametrize("kind", KINDS)
def test_headings_step_down_one_at_a_time(page_of: PageOf, kind: str) -> None:
    levels = [level for level, _ in Outline(page_of(kind)).headings]

    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


@pytest.mark.parametrize("kind", KINDS)
def test_every_chart_has_words_and_every_table_a_caption(page_of: PageOf, kind: str) -> None:
    page = page_of(kind)
    outline = Outline(page)
    (figures,) = re.findall(r'id="figures">(.*?)</script>', page, re.S)
    places = {a["data-chart"]: a for _, a in outline.tags if "data-chart" in a}

    assert set(places) == set(json.loads(figures))
    assert all(place["role"] == "img" and place["aria-label"] for place in places.values())
    assert len(outline.of("caption")) == len(outline.of("table"))
    assert all(image.get("alt") for image in outline.of("img"))


def test_the_verdict_comes_first(page_of: PageOf) -> None:
    outline = Outline(page_of("image"))

    assert outline.headings[0] == (
        1,
        "Distillation helped: accuracy 0.9337 with the teacher and 0.904 without.",
    )
    assert "Helped: yes" in outline.words
    for said in ("+2.97 points", "95% CI +0.92 to +5.01", "41.8%", "95.8%", "26.9×", "28.3×"):
        assert said in outline.words


def test_what_comes_from_data_stays_text(tmp_path: Path) -> None:
    folder = write_run(tmp_path, seeds=(0, 1))
    content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    content["data"]["classes"] = [EVIL, *content["data"]["classes"][1:]]
    content["warnings"] = [EVIL]
    content["verdict"]["sentence"] = EVIL
    content["models"]["teacher"]["description"] = EVIL
    change(folder / "results.json", name=EVIL, command=EVIL, objective=EVIL,
           **{k: content[k] for k in ("data", "warnings", "verdict", "models")})  # fmt: skip
    (folder / "recipe.yaml").write_text(EVIL, encoding="utf-8")
    change(folder / "environment.json", **{EVIL: EVIL})

    page = render_page(read_folder(folder))

    assert EVIL not in page
    assert "alert(" in Outline(page).words  # shown, as text
    assert len(Outline(page).of("script")) == 4


def test_warnings_stand_before_the_figures(tmp_path: Path) -> None:
    folder = write_run(tmp_path, seeds=(0, 1))
    change(folder / "results.json", warnings=["The teacher is not better than the student."])

    words = Outline(render_page(read_folder(folder))).words

    assert words.index("The teacher is not better") < words.index("Gain over scratch")


def test_one_seed_gives_a_page_without_intervals(tmp_path: Path) -> None:
    folder = write_run(tmp_path, seeds=(0,))

    words = Outline(render_page(read_folder(folder))).words

    assert "Helped: unclear" in words
    assert "95% CI" not in words.split("The words on this page")[0]
    assert "±" not in words
    assert "Could it be chance?" not in words


def test_an_estimator_as_teacher_leaves_its_costs_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path, kind="table", seeds=(0, 1))
    content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    teacher = content["models"]["teacher"]
    content["models"]["teacher"] = teacher | dict.fromkeys(
        ("parameters", "bytes", "flops", "latency_ms", "energy_wh", "test_last", "calibration")
    )
    content["verdict"] |= {"speedup": None, "compression": None}
    change(folder / "results.json", models=content["models"], verdict=content["verdict"])

    words = Outline(render_page(read_folder(folder))).words

    assert "Speed-up" not in words.split("The words on this page")[0]
    assert "Accuracy against size" in words


@pytest.mark.parametrize(
    "missing",
    ["predictions.npz", "samples.npz", "metrics.jsonl", "recipe.yaml", "environment.json",
     "stages.json"],
)  # fmt: skip
def test_a_missing_file_takes_only_its_own_part_away(tmp_path: Path, missing: str) -> None:
    folder = write_run(tmp_path, seeds=(0, 1))
    (folder / missing).unlink()

    headings = [words for _, words in Outline(render_page(read_folder(folder))).headings]

    answers = "What it gets right, and how sure it is" in headings
    assert answers == (missing != "predictions.npz")
    assert "Side by side" in headings


def test_an_interrupted_run_says_how_far_it_came(tmp_path: Path) -> None:
    folder = write_run(tmp_path, seeds=(0, 1))
    for name in ("results.json", "predictions.npz", "samples.npz"):
        (folder / name).unlink()
    stages = {"teacher": {"state": "done", "seconds": 3.0}, "scratch/0": {"state": "running"}}
    change(folder / "stages.json", stages=stages)

    files = write_report(folder)

    outline = Outline(files.html.read_text(encoding="utf-8"))
    assert outline.headings[0][1] == (
        "This run has not finished, so there is no verdict yet. It stopped at: scratch/0."
    )
    assert "Accuracy on the validation data" in [words for _, words in outline.headings]
    assert "has not finished" in files.markdown.read_text(encoding="utf-8")


def test_facts_that_belong_together_stand_in_one_line(run_of: RunOf) -> None:
    facts = dict(facts_of(run_of("image")))

    assert facts["versions"] == "potstill 0.1.0, python 3.11.9, torch 2.15.0, numpy 2.4.1"
    assert facts["hardware"] == "cpu 8-core x86-64, memory_gb 16"
    assert facts["seeds"] == "0, 1, 2, 3, 4"
    assert "format" not in facts


def test_the_seeds_of_a_role_are_one_stage(tmp_path: Path) -> None:
    done = {"state": "done", "seconds": 2.0}
    stages = {"teacher/0": done, "scratch/0": done, "scratch/1": done,
              "distilled/0": done, "distilled/1": {"state": "running"}}  # fmt: skip
    (tmp_path / "stages.json").write_text(json.dumps({"stages": stages}), encoding="utf-8")

    assert stages_of(read_folder(tmp_path)) == [
        ("teacher", "done, 2.0 s"),
        ("scratch", "2 of 2 seeds done, 4.0 s"),
        ("distilled", "1 of 2 seeds done, 2.0 s"),
    ]


def test_two_students_of_one_kind_are_described_once(run_of: RunOf) -> None:
    results = run_of("image").results
    assert results is not None

    assert descriptions_of(results) == [
        ("Teacher", "CNN with 6 layers"),
        ("Student", "MLP, 64-128-64-10"),
    ]
