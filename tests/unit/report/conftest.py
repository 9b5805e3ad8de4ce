"""Run folders, each kind written once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from potstill.report.folder import RunFolder, read_folder
from potstill.report.page import render_page

from .fake_run import write_run


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a finished run of a kind; not to be changed."""
    written: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in written:
            written[kind] = write_run(tmp_path_factory.mktemp("runs") / kind, kind=kind)
        return written[kind]

    return get


@pytest.fixture(scope="session")
def run_of(folder_of: Callable[[str], Path]) -> Callable[[str], RunFolder]:
    """A finished run of a kind, as the report reads it."""
    return lambda kind: read_folder(folder_of(kind))


@pytest.fixture(scope="session")
def page_of(run_of: Callable[[str], RunFolder]) -> Callable[[str], str]:
    """The page of a finished run of a kind."""
    rendered: dict[str, str] = {}

    def get(kind: str) -> str:
        if kind not in rendered:
            rendered[kind] = render_page(run_of(kind))
        return rendered[kind]

    return get
