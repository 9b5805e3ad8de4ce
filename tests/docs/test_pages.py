"""The pages hold: Python blocks run, commands parse, links lead somewhere."""

import re
from pathlib import Path

import pytest

from potstill.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
_COMMAND = re.compile(r"^\$ potstill (\S+)", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#\s]+)\)")


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        "docs/quickstart.md",
        "docs/python.md",
        "docs/detection.md",
        "docs/speed.md",
        "docs/tables.md",
        "docs/store.md",
        "docs/store-codecs.md",
        "docs/teachers.md",
    ],
)
def test_the_blocks_of_a_page_run_one_after_the_other(page: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}

    blocks = _BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    for block in blocks:
        exec(compile(block, page, "exec"), names)

    assert len(blocks) >= 1


def test_commands_on_the_pages_exist() -> None:
    named = {c for page in PAGES for c in _COMMAND.findall(page.read_text(encoding="utf-8"))}

    assert len(named) >= 5
    assert {name for name in named if not name.startswith("-")} <= set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        if not target.startswith(("http", "mailto")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
