"""What stands on the pages: blocks of code with their lines, and the commands among them."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted(p for p in (ROOT / "docs").rglob("*.md")),
]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

_FENCE = re.compile(
    r"^(?:<!-- (?P<note>[^>]*) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.M
)
_INLINE = re.compile(r"(?<!`)`(potstill [^`]+)`")
_LEFT_OUT = "…"


class Block(NamedTuple):
    """A fenced block; `note` is the comment right above its fence."""

    page: str
    line: int
    language: str
    text: str
    note: str


def blocks(page: str, language: str | None = None) -> list[Block]:
    """The fenced blocks of a page, in order."""
    content = (ROOT / page).read_text(encoding="utf-8")
    found = [
        Block(page, content[: m.start()].count("\n") + 1, m["language"], m["text"], m["note"] or "")
        for m in _FENCE.finditer(content)
    ]
    return [block for block in found if language in (None, block.language)]


def commands(page: str) -> list[list[str]]:
    """The words of every command on a page: lines that begin with `$ `, and `potstill …` in a text.

    What is left out (`…`) makes a sentence of a command in a text; it is not taken for one.
    """
    lines = [line for block in blocks(page, "console") for line in _typed(block.text)]
    content = _FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    inline = [" ".join(text.split()) for text in _INLINE.findall(content)]
    return [_words(line) for line in [*lines, *inline] if _LEFT_OUT not in line]


def _typed(text: str) -> list[str]:
    joined = text.replace("\\\n", " ")
    return [line[2:] for line in joined.splitlines() if line.startswith("$ ")]


def _words(line: str) -> list[str]:
    return shlex.split(line, comments=True)
