"""The page over HTTP: who may ask, how large, and how fast the answers come."""

import http.client
import json
import statistics
import threading
import time
from collections.abc import Iterator

import pytest

from potstill.errors import StorageError
from potstill.tryout.room import Room
from potstill.tryout.server import KEY, MOST_BYTES, TryServer

from .tiny import write_run


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Room:
    return Room(write_run(tmp_path_factory.mktemp("served")))


@pytest.fixture(scope="module")
def server(room: Room) -> Iterator[TryServer]:
    made = TryServer(room)
    thread = threading.Thread(target=made.serve)
    thread.start()
    yield made
    made.stop()
    thread.join()


def connect(server: TryServer) -> http.client.HTTPConnection:
    host, port = server.address.removeprefix("http://").strip("/").split(":")
    return http.client.HTTPConnection(host, int(port), timeout=20)


def post(
    server: TryServer, body: bytes, *, key: str | None = None, **headers: str
) -> tuple[int, dict]:
    connection = connect(server)
    connection.request("POST", "/ask", body, {KEY: server.key if key is None else key, **headers})
    response = connection.getresponse()
    found = response.status, json.loads(response.read())
    connection.close()
    return found


def test_the_page_is_there_and_asks_for_nothing_from_elsewhere(server: TryServer) -> None:
    connection = connect(server)
    connection.request("GET", "/")
    response = connection.getresponse()
    page = response.read().decode()
    connection.close()

    assert response.status == 200
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert server.key in page
    assert "https://" not in page


def test_a_question_is_answered(server: TryServer) -> None:
    status, found = post(server, b'{"kind": "sample", "number": 8}')

    assert status == 200
    assert [each["said"] for each in found["answers"]] == ["high"] * 3


def test_answers_come_within_100_ms_beyond_the_models(server: TryServer) -> None:
    beyond = []
    for number in range(9):
        begin = time.perf_counter()
        _, found = post(server, json.dumps({"kind": "sample", "number": number}).encode())
        taken = 1e3 * (time.perf_counter() - begin)
        beyond.append(taken - sum(each["ms"] for each in found["answers"]))

    assert statistics.median(beyond) < 100


@pytest.mark.parametrize("key", ["", "another", "schlüssel"])
def test_nobody_asks_without_the_key_of_the_page(server: TryServer, key: str) -> None:
    status, found = post(server, b"{}", key=key)

    assert status == 403
    assert "Open the page" in found["error"]


def test_a_page_that_calls_this_machine_by_another_name_is_refused(server: TryServer) -> None:
    status, found = post(server, b"{}", Host="evil.example:80")

    assert status == 403
    assert "127.0.0.1" in found["error"]


@pytest.mark.parametrize(
    ("body", "headers", "sentence"),
    [
        (b"{", {}, "no JSON"),
        (b"[]", {}, "no JSON object"),
        (b"{}", {}, "kind None"),
        (b"", {"Content-Length": str(MOST_BYTES + 1)}, "too large"),
    ],
)
def test_broken_questions_are_answered_with_a_sentence(
    server: TryServer, body: bytes, headers: dict[str, str], sentence: str
) -> None:
    status, found = post(server, body, **headers)

    assert status == 422
    assert sentence in found["error"]


def test_there_is_one_page(server: TryServer) -> None:
    connection = connect(server)
    connection.request("GET", "/../etc/passwd")
    assert connection.getresponse().status == 404
    connection.close()


def test_a_port_that_is_taken_is_told(server: TryServer, room: Room) -> None:
    port = int(server.address.rstrip("/").rpartition(":")[2])

    with pytest.raises(StorageError, match=f"Port {port}"):
        TryServer(room, port=port)
