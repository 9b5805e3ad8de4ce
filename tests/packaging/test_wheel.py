"""The wheel alone, installed into an empty environment, runs the demo, and without a network."""

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import potstill

ROOT = Path(__file__).parents[2]
WITHOUT_NETWORK = """
import socket, sys
asked = []
def refused(*where, **_options):
    asked.append(where)
    raise OSError("no network here")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refused
from potstill.cli import main
try:
    main()
finally:
    assert not asked, asked
"""
DEMO = ("demo", "--seeds", "2", "--out")  # the folder follows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@dataclass(frozen=True)
class Installed:
    """An environment that holds the wheel and what it asks for."""

    wheel: Path
    bin: Path
    folder: Path  # to run in: outside the repository

    def run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of its commands as a stranger would: in another folder, without our paths."""
        kept = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV"}}
        return subprocess.run(
            [self.bin / command, *arguments],
            cwd=self.folder,
            env=kept,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=600,
            check=False,
        )


def _uv(*arguments: str | Path) -> None:
    beside_python = Path(sys.executable).with_name("uv")
    uv = str(beside_python) if beside_python.exists() else shutil.which("uv")
    assert uv, "uv belongs to the development tools; `make test` installs it"
    done = subprocess.run(
        [uv, "--quiet", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    folder = tmp_path_factory.mktemp("stranger")
    constraints = ROOT / "constraints.txt"
    _uv("build", "--wheel", "--build-constraints", constraints, "--out-dir", folder / "dist", ROOT)
    (wheel,) = (folder / "dist").glob("*.whl")
    venv.create(folder / "env", with_pip=False, symlinks=True)
    binaries = folder / "env" / "bin"
    _uv("pip", "install", "--python", binaries / "python", "--constraints", constraints, wheel)
    yield Installed(wheel=wheel, bin=binaries, folder=folder)
    shutil.rmtree(folder / "env")  # gigabytes that pytest would keep for three sessions


def test_the_wheel_holds_what_is_tracked(installed: Installed) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "src/potstill"], cwd=ROOT, capture_output=True, check=True
    )
    tracked = {name.removeprefix("src/") for name in listed.stdout.decode().split("\0") if name}

    with zipfile.ZipFile(installed.wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("potstill/")}

    assert tracked - held == set()
    assert "potstill/py.typed" in held


def test_the_wheel_brings_its_licence_and_nothing_of_ours(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        names = archive.namelist()

    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"potstill"}


def test_the_environment_runs_the_wheel_and_not_the_checkout(installed: Installed) -> None:
    done = installed.run("python", "-c", "import potstill; print(potstill.__file__)")

    assert Path(done.stdout.strip()).is_relative_to(installed.folder), done.stderr


def test_the_command_says_its_version(installed: Installed) -> None:
    done = installed.run("potstill", "--version")

    assert done.returncode == 0, done.stderr
    assert potstill.__version__ in done.stdout


def test_the_demo_runs_to_its_report_and_makes_no_network_call(installed: Installed) -> None:
    out = installed.folder / "run"

    done = installed.run("python", "-c", WITHOUT_NETWORK, *DEMO, str(out))

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    (results,) = out.rglob("results.json")
    read = json.loads(results.read_text(encoding="utf-8"))
    assert read["format"] == 1
    assert len(read["seeds"]) == 2
    assert set(read["models"]) >= {"teacher", "scratch", "distilled"}
    assert read["verdict"]["helped"] in {"yes", "no", "unclear"}
    page = results.with_name("report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert (results.with_name("report.md")).stat().st_size > 0
    assert list(results.parent.glob("export/*.onnx"))
