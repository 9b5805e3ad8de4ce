"""Writing the files of a report, and the Markdown in them."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from potstill.errors import StorageError
from potstill.report import write_report
from potstill.report.folder import RunFolder, read_folder
from potstill.report.markdown import escape, markdown_table, render_markdown

from .fake_run import change, write_run

PROBE = """
import sys
from potstill.report import write_report
write_report(sys.argv[1])
print(sorted({"torch", "sklearn", "pandas", "plotly.graph_objects"} & set(sys.modules)))
"""


def test_both_files_are_written_and_nothing_else(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", seeds=(0, 1))
    before = {path.name for path in folder.iterdir()}

    files = write_report(folder)

    assert {path.name for path in folder.iterdir()} - before == {"report.html", "report.md"}
    assert files.html.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert files.figures == ()


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = write_run(tmp_path, seeds=(0, 1))

    first = write_report(folder).html.read_bytes()

    assert write_report(folder).html.read_bytes() == first


def test_what_cannot_be_written_is_one_sentence_and_leaves_no_rest(tmp_path: Path) -> None:
    folder = write_run(tmp_path, seeds=(0, 1))
    (folder / "report.html").mkdir()  # in the way, also for somebody who may write everywhere
    before = {path.name for path in folder.iterdir()}

    with pytest.raises(StorageError, match=r"report\.html` cannot be written"):
        write_report(folder)

    assert {path.name for path in folder.iterdir()} == before


def test_a_report_is_made_without_torch(tmp_path: Path) -> None:
    folder = write_run(tmp_path, seeds=(0, 1))

    probe = subprocess.run(
        [sys.executable, "-c", PROBE, str(folder)], capture_output=True, text=True, check=True
    )

    assert probe.stdout.strip() == "[]"


def test_figures_that_are_there_are_named_in_the_markdown(tmp_path: Path) -> None:
    folder = write_run(tmp_path, seeds=(0, 1))
    (folder / "figures").mkdir()
    (folder / "figures" / "curves.png").write_bytes(b"")

    files = write_report(folder)

    assert "![curves](figures/curves.png)" in files.markdown.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["image", "table", "signal", "regression", "many"])
def test_markdown_tables_are_rectangular(run_of: Callable[[str], RunFolder], kind: str) -> None:
    text = render_markdown(run_of(kind))

    for table in [block for block in text.split("\n\n") if block.startswith("|")]:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_the_markdown_has_the_verdict_the_figures_and_the_command(
    run_of: Callable[[str], RunFolder],
) -> None:
    text = render_markdown(run_of("image"))

    assert text.startswith("## digits\n\n✅ **Helped: yes.** Distillation helped:")
    assert "| **Accuracy** | 97.50% | 90.40% ± 2.51 | 93.37% ± 0.61 |" in text
    assert "```sh\npotstill run digits\n```" in text
    assert "| Student right, teacher wrong |" in text
    assert "<" not in text


def test_warnings_are_quoted_and_escaped(tmp_path: Path) -> None:
    folder = write_run(tmp_path, seeds=(0, 1))
    change(folder / "results.json", warnings=["The teacher | is *not* <better>."])

    text = render_markdown(read_folder(folder))

    assert r"> ⚠️ **Warning:** The teacher \| is \*not\* &lt;better>." in text


def test_text_from_data_cannot_break_a_table() -> None:
    assert escape("a|b\n`c`") == r"a\|b \`c\`"
    assert markdown_table(["a", "b"], [["1", "2"]]) == "| a | b |\n|:--|--:|\n| 1 | 2 |"
