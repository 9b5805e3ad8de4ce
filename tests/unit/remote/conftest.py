from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("xllamacpp", reason="llama.cpp's server comes with xllamacpp (group dev)")
pytest.importorskip("gguf", reason="llama.cpp's files are written by gguf (group dev)")

from .served import Served, llama_cpp, save_gguf, save_model


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("served") / "tiny")


@pytest.fixture(scope="package")
def gguf_file(folder: Path) -> Path:
    return save_gguf(folder, folder.with_name("tiny.gguf"))


@pytest.fixture(scope="package")
def llama(gguf_file: Path) -> Iterator[Served]:
    served = llama_cpp(gguf_file).start()
    yield served
    served.stop()
