"""`import potstill` and the way to `--help`: nothing in the process changes and torch stays away.

Each check runs in a fresh interpreter, because this one has long imported everything.
"""

import json
import subprocess
import sys
import time

import pytest

_STATE = """
import json, locale, logging, os, random, signal, sys, threading, warnings

def state():
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "path": list(sys.path),
        "logging handlers": [repr(h) for h in logging.getLogger().handlers],
        "logging level": logging.getLogger().level,
        "logging off": logging.root.manager.disable,
        "warning filters": [repr(f) for f in warnings.filters],
        "showwarning": repr(warnings.showwarning),
        "random": repr(random.getstate()),
        "excepthook": repr(sys.excepthook),
        "interrupt": repr(signal.getsignal(signal.SIGINT)),
        "terminate": repr(signal.getsignal(signal.SIGTERM)),
        "locale": locale.setlocale(locale.LC_ALL),
        "threads": sorted(t.name for t in threading.enumerate()),
        "recursion limit": sys.getrecursionlimit(),
    }

before = state()
"""

_COMPARE = """
after = state()
print(json.dumps(sorted(key for key in before if before[key] != after[key])))
"""

_LOADED = """
import json, sys
heavy = {"torch", "lightning_fabric", "torchmetrics", "sklearn"}
print(json.dumps(sorted(heavy & set(sys.modules))))
"""


def _in_fresh_python(code: str) -> list[str]:
    """Run `code`, which prints one list as JSON on its last line."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return names


def test_import_changes_nothing_in_the_process() -> None:
    changed = _in_fresh_python(_STATE + "import potstill" + _COMPARE)

    assert changed == []


def test_the_comparison_sees_a_change() -> None:
    effects = "os.environ['POTSTILL_X'] = '1'; warnings.simplefilter('ignore'); random.random()"

    changed = _in_fresh_python(_STATE + effects + _COMPARE)

    assert changed == ["environment", "random", "warning filters"]


def test_import_prints_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import potstill"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "module",
    [
        "potstill",
        "potstill.errors",
        "potstill.recipe",  # recipes are checked before anything heavy is loaded
        "potstill.report",  # a run folder is read on a machine that need not train
        "potstill.cli",  # the commands import what they need when they run
    ],
)
def test_torch_stays_away(module: str) -> None:
    loaded = _in_fresh_python(f"import {module}" + _LOADED)

    assert "torch" not in loaded


def test_the_engine_does_load_torch() -> None:
    loaded = _in_fresh_python("import potstill.signals" + _LOADED)

    assert "torch" in loaded


def _help(*arguments: str) -> tuple[float, subprocess.CompletedProcess[str]]:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return time.perf_counter() - began, done


def test_help_does_without_torch_and_is_quick() -> None:
    # The command as the entry point calls it, `--help` ending in SystemExit(0).
    command = (
        "import sys; sys.argv = ['potstill', '--help']\n"
        "from potstill.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n" + _LOADED
    )

    seconds, done = min((_help("-c", command) for _ in range(3)), key=lambda pair: pair[0])

    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert seconds < 3.0  # importing torch alone takes longer on a busy machine
