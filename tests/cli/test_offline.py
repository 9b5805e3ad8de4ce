"""The demo makes no network call. That it needs no extra is shown by tests/packaging."""

import json
import os
import subprocess
import sys

import pytest

GUARD = """
import socket, sys
def refused(*_arguments, **_options):
    raise RuntimeError("a network call")
socket.socket.connect = refused
socket.socket.connect_ex = refused
socket.getaddrinfo = refused
from potstill.cli import main
sys.argv = ["potstill", *sys.argv[1:]]
main()
"""


@pytest.mark.slow
def test_the_demo_makes_no_network_call(tmp_path) -> None:
    words = ["demo", "--out", str(tmp_path / "demo"), "--seeds", "2", "--json"]

    done = subprocess.run(
        [sys.executable, "-c", GUARD, *words],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"]["helped"] in {"yes", "no", "unclear"}
    assert (tmp_path / "demo" / "report.html").is_file()
