"""What MkDocs does beyond Markdown: the commands' own help, and formulas as MathML.

Named as a hook in `mkdocs.yml`. Nothing is written into `docs`, so nothing there can be outdated.
"""

import html
import re

import typer
from latex2mathml.converter import convert
from typer.cli import get_docs_for_click

from potstill.cli.main import app

COMMANDS = "<!-- the commands -->"
_FORMULA = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)


def on_page_markdown(markdown: str, **_: object) -> str:
    """What Typer says of each command stands where the page asks for it."""
    return markdown.replace(COMMANDS, commands()) if COMMANDS in markdown else markdown


def on_page_content(html: str, **_: object) -> str:
    """Browsers show MathML by themselves: the pages load no scripts for formulas."""
    return _FORMULA.sub(_as_mathml, html)


def commands() -> str:
    """Every command with its arguments and options."""
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="potstill")
    written: str = get_docs_for_click(obj=command, ctx=context, name="potstill")
    return written[written.index("## ") :]


def _as_mathml(found: re.Match[str]) -> str:
    return str(convert(html.unescape(found[1])))
