"""The pages hold: Python blocks run, links lead somewhere."""

import copy
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from potstill import TrainSettings, api
from potstill.pipeline.experiment import Measuring

from .given import given
from .written import NAMES, PAGES, ROOT, blocks

_LINK = re.compile(r"\]\(([^)#\s]+)\)")


@pytest.fixture
def short(tmp_path, monkeypatch) -> Path:
    """In a folder of its own; what a page leaves open is short: epochs, seeds, measuring."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(defaults(TrainSettings.__init__), "epochs", 1)
    monkeypatch.setitem(defaults(api.distill), "seeds", 1)
    monkeypatch.setitem(defaults(Measuring.__init__), "seconds", 0.05)
    monkeypatch.setitem(defaults(Measuring.__init__), "energy", False)
    return tmp_path


def defaults(function: Callable[..., object]) -> dict[str, object]:
    """Of its keyword-only arguments."""
    return function.__kwdefaults__


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:(open|read)_text is deprecated")  # executorch, on import
@pytest.mark.filterwarnings(r"ignore::DeprecationWarning:(executorch|torchao)\..*")
@pytest.mark.parametrize("page", [name for name in NAMES if blocks(name, "python")])
def test_the_blocks_of_a_page_run_one_after_the_other(page: str, short: Path) -> None:
    names = {"__name__": "page", **given(page, short)}

    for block in blocks(page, "python"):
        exec(compile(block.text, f"{page}:{block.line}", "exec"), names)


def test_the_two_ways_of_the_readme_end_with_the_same_weights(tmp_path) -> None:
    plain, ours = [compile(b.text, "README.md", "exec") for b in blocks("README.md", "python")[:2]]
    names = given("README.md", tmp_path)
    begun = copy.deepcopy(names["student"])
    mine = {**names, "student": copy.deepcopy(begun)}

    exec(plain, names)
    exec(ours, mine)

    assert not torch.equal(mine["student"].weight, begun.weight)
    assert torch.equal(mine["student"].weight, names["student"].weight)
    assert torch.equal(mine["student"].bias, names["student"].bias)


def test_every_block_says_what_it_is() -> None:
    told = {"python", "yaml", "console", "text"}
    silent = [b for name in NAMES for b in blocks(name) if b.language not in told]

    assert silent == []
    assert sum(len(blocks(name)) for name in NAMES) > 80


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        if not target.startswith(("http", "mailto")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_page_is_reached_from_the_navigation() -> None:
    reached = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nplugins:")[0]
    pages = [str(p.relative_to(ROOT / "docs")) for p in PAGES if p.name != "README.md"]

    assert [page for page in pages if f": {page}\n" not in reached] == []
