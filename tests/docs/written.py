"""What stands on the pages: blocks of code with their lines, and the commands among them."""

import re
import shlex
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"(?<!`)`(potstill [^`]+)`")
_LEFT_OUT = "…"


class Block(NamedTuple):
    """A fenced block and where it begins."""

    page: str
    line: int
    language: str
    text: str


def blocks(page: str, language: str | None = None) -> list[Block]:
    """The fenced blocks of a page, in order."""
    content = (ROOT / page).read_text(encoding="utf-8")
    found = [
        Block(page, content[: m.start()].count("\n") + 1, m[2], dedent(m[3]))
        for m in _FENCE.finditer(content)
    ]
    return [block for block in found if language in (None, block.language)]


def commands(page: str) -> list[list[str]]:
    """The words of every command on a page: lines that begin with `$ `, and `potstill …` in a text.

    A text that leaves something out (`…`) is not taken for a command.
    """
    lines = [line for block in blocks(page, "console") for line in _typed(block.text)]
    content = _FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    inline = [" ".join(text.split()) for text in _INLINE.findall(content)]
    return [shlex.split(line, comments=True) for line in [*lines, *inline] if _LEFT_OUT not in line]


def _typed(text: str) -> list[str]:
    joined = text.replace("\\\n", " ")
    return [line[2:] for line in joined.splitlines() if line.startswith("$ ")]
