"""What is committed concerns the project: no machine's paths, no addresses among the versions."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_BYTES = 1_000_000

# The first part of a path on somebody's machine. Addresses (https://host/home/page) are not meant.
_FOLDERS = ("work", "root", "home", "Users", "mnt", "opt", "scratch")
_MACHINE_PATH = re.compile(rf"(?<![\w.:/)}}\]*~$-])/(?:{'|'.join(_FOLDERS)})/\w")
_SHARED_FOLDER = re.compile(r"\.\./shared\b")
_CONSTRAINT = re.compile(r"[a-z0-9][a-z0-9._-]*==[^\s;]+( ; .+)?")


def _tracked_files() -> list[Path]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    files = (ROOT / name for name in listed.stdout.decode().split("\0") if name)
    return [file for file in files if file.is_file()]


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return []  # pictures


def _foreign(line: str) -> bool:
    return bool(_MACHINE_PATH.search(line) or _SHARED_FOLDER.search(line))


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for file in _tracked_files()
        for number, line in enumerate(_lines(file), start=1)
        if _foreign(line)
    ]

    assert found == []


@pytest.mark.parametrize(
    ("line", "foreign"),
    [
        ("path: /" + "work/data/mnist.npz", True),  # a recipe with the author's folder
        ("open('/" + "home/ada/mnist.npz')", True),  # code with the author's folder
        ("see ../" + "shared/data", True),  # a folder beside the repository
        ("https://example.org/home/page", False),  # an address
        ("docs/work/in/progress", False),  # a relative path
        ("runs/<name>/root/", False),  # a placeholder
    ],
)
def test_machine_paths_are_told_from_others(line: str, foreign: bool) -> None:
    assert _foreign(line) is foreign


def test_constraints_are_exact_versions_without_addresses() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    names = [line.partition("==")[0] for line in lines]

    assert [line for line in lines if not _CONSTRAINT.fullmatch(line)] == []
    assert names == sorted(set(names))
    assert {"torch", "onnxruntime", "pytest", "ruff", "mypy"} <= set(names)
    assert "://" not in "".join(lines)


def test_no_big_file_is_tracked() -> None:
    big = {
        str(file.relative_to(ROOT)): file.stat().st_size
        for file in _tracked_files()
        if file.stat().st_size > MOST_BYTES
    }

    assert big == {}
