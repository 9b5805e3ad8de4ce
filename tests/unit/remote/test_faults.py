"""A busy, broken or dying server in the way of the same real one."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from potstill.errors import RecipeError, RemoteError
from potstill.remote import Client, Journal, Server, Writing, write_answers
from potstill.remote.pace import backoff, retry_after

from .faults import Faults
from .served import Served, llama_cpp

SECRET = "sk-not-for-anybodys-eyes-123456"
ASK = {"prompt": [70, 71, 72], "max_tokens": 1, "temperature": 0.0, "logprobs": 2}


def server(url: str, served: Served, **options: object) -> Server:
    return Server(**{"url": url, "model": served.name, "backoff": 0.01, "retries": 3, **options})


@pytest.mark.parametrize(
    "faults",
    [
        ["500"],
        ["429", "502", "503"],  # as often as there are retries
        ["drop", "drop"],
        ["cut"],  # half an answer
        ["garbage"],
    ],
)
def test_what_passes_is_asked_again(faults: list[str], llama: Served) -> None:
    with Faults(llama.url, faults) as proxy, Client(server(proxy.url, llama)) as client:
        answer = client.post("/v1/completions", ASK)

    assert answer["choices"]
    assert client.requests == len(proxy.seen) == len(faults) + 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("500", "answers 500: busy"),
        ("drop", "the connection failed"),
        ("garbage", "not a JSON object"),
        ("slow:1", "nothing came within 0 s .*`timeout` allows more"),
    ],
)
def test_what_does_not_pass_is_said_after_the_retries(
    fault: str, words: str, llama: Served
) -> None:
    with (
        Faults(llama.url, [fault] * 9) as proxy,
        Client(server(proxy.url, llama, retries=2, timeout=0.2)) as client,
        pytest.raises(RemoteError, match=rf"(?s)asked 3 times and did not answer: .*{words}"),
    ):
        client.post("/v1/completions", ASK)

    assert len(proxy.seen) == 3


def test_retry_after_is_respected_by_all_requests(llama: Served) -> None:
    with Faults(llama.url, ["429:0.5"]) as proxy:
        with Client(server(proxy.url, llama, concurrency=1)) as client:
            client.post("/v1/completions", ASK)
        first, second = (when for when, _, _ in proxy.seen)

    assert second - first >= 0.5


def test_a_server_that_wants_to_be_left_alone_for_long_is(llama: Served) -> None:
    with (
        Faults(llama.url, ["429:86400"]) as proxy,
        Client(server(proxy.url, llama)) as client,
        pytest.raises(RemoteError, match="left alone for 86,400 s"),
    ):
        client.post("/v1/completions", ASK)


def test_requests_keep_the_rate(llama: Served) -> None:
    with Faults(llama.url) as proxy, Client(server(proxy.url, llama, rate=20.0)) as client:
        begun = time.monotonic()
        list(client.each(range(8), lambda _: client.post("/v1/completions", ASK)))
        last = max(when for when, _, _ in proxy.seen)

    assert last - begun >= 7 / 20


def test_no_more_requests_than_allowed_are_under_way(llama: Served) -> None:
    with Faults(llama.url) as proxy, Client(server(proxy.url, llama, concurrency=3)) as client:
        proxy.delay = 0.05
        answers = list(client.each(range(12), lambda _: client.post("/v1/completions", ASK)))

    assert len(answers) == 12
    assert proxy.busiest == 3


def test_the_first_refusal_ends_the_asking(llama: Served) -> None:
    with (
        Faults(llama.url, ["400"] * 500) as proxy,
        Client(server(proxy.url, llama, concurrency=2)) as client,
    ):
        with pytest.raises(RemoteError, match=r"refused a request to /v1/completions \(400: busy"):
            list(client.each(range(500), lambda _: client.post("/v1/completions", ASK)))
        proxy.faults.clear()
        assert client.post("/v1/completions", ASK)["choices"]  # the client itself goes on

    assert len(proxy.seen) <= 5


def test_a_wrong_key_is_said_without_the_key(gguf_file: Path, monkeypatch) -> None:
    monkeypatch.setenv("TINY_KEY", SECRET)
    served = llama_cpp(gguf_file)
    served._command.append("the right key")
    served.start()
    try:
        with (
            Client(server(served.url, served, key="TINY_KEY")) as client,
            pytest.raises(RemoteError, match=r"refuses the key \(401") as refused,
        ):
            client.post("/v1/completions", ASK)
        monkeypatch.setenv("TINY_KEY", "the right key")
        with Client(server(served.url, served, key="TINY_KEY")) as client:
            assert client.post("/v1/completions", ASK)["choices"]
    finally:
        served.stop()

    assert "variable TINY_KEY" in str(refused.value)
    assert SECRET not in str(refused.value)


def test_a_key_that_a_server_repeats_is_not_repeated(llama: Served, monkeypatch) -> None:
    from potstill.remote.refusals import refusal

    chosen = server("http://localhost:1", llama, key="TINY_KEY")
    body = json.dumps({"error": {"message": f"Incorrect key {SECRET}; also sk-abcdefghijk"}})

    said = str(refusal(chosen, "/v1/completions", 401, body, SECRET))

    assert SECRET not in said
    assert "sk-abc" not in said


def test_a_key_is_named_and_never_given(llama: Served, monkeypatch) -> None:
    monkeypatch.delenv("TINY_KEY", raising=False)

    with pytest.raises(RecipeError, match="name of the environment variable") as refused:
        server("http://localhost:1", llama, key=SECRET)
    with pytest.raises(RemoteError, match="TINY_KEY is named as the server's key and is not set"):
        Client(server("http://localhost:1", llama, key="TINY_KEY"))

    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://a/b", "http://me:word@host/v1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(RecipeError, match="`url`"):
        Server(url=url, model="tiny")


def test_a_server_that_dies_and_comes_back_is_waited_for(gguf_file: Path, tmp_path: Path) -> None:
    served = llama_cpp(gguf_file).start()
    rows = [{"prompt": f"the fox {number}"} for number in range(40)]
    writing = Writing(chat=False, max_tokens=4)
    patient = Server(
        url=served.url, model=served.name, backoff=0.1, longest_wait=0.5, retries=60, concurrency=2
    )
    died: list[float] = []

    class Killing:
        def begin(self, title: str, total_steps: int, done_steps: int) -> None: ...

        def advance(self, steps_done: int) -> None:
            if steps_done == 10:
                served.stop()
                died.append(time.monotonic())
                threading.Timer(0.8, served.start).start()

        def end(self) -> None: ...

    try:
        with Client(patient) as client:
            found = write_answers(
                client, rows, tmp_path / "out.jsonl", writing=writing, progress=Killing()
            )
    finally:
        served.stop()

    assert time.monotonic() - died[0] > 0.8
    assert found.rows == found.asked == 40
    assert client.requests > 40


def test_a_killed_labelling_goes_on_without_asking_again(llama: Served, tmp_path: Path) -> None:
    prompts, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    prompts.write_text("\n".join(f"the fox {number}" for number in range(30)))
    command = [sys.executable, "-m", "potstill", "generate", str(prompts), "--out", str(out)]
    command += [
        "--name",
        llama.name,
        "--plain",
        "--max-tokens",
        "3",
        "--concurrency",
        "2",
        "--json",
    ]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    journal = tmp_path / "out.jsonl.journal"

    with Faults(llama.url) as proxy:
        proxy.delay = 0.1
        first = subprocess.Popen([*command, "--url", proxy.url], env=env, stdout=subprocess.PIPE)
        while not journal.exists() or journal.read_bytes().count(b"\n") < 8:
            assert first.poll() is None
            time.sleep(0.02)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        kept = journal.read_bytes().count(b"\n") - 1
        assert not out.exists()
        proxy.delay, asked_before = 0.0, len(proxy.seen)
        second = subprocess.run(
            [*command, "--url", proxy.url], env=env, capture_output=True, check=True
        )
        asked_again = len(proxy.seen) - asked_before

    assert json.loads(second.stdout)["asked"] == asked_again == 30 - kept
    answers = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["prompt"] for row in answers] == prompts.read_text().split("\n")


def test_a_journal_cut_by_a_kill_loses_its_last_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    journal = Journal(path)
    for number in range(3):
        journal.put(str(number), {"text": "é" * number})
    journal.close()
    path.write_bytes(path.read_bytes()[:-4])

    again = Journal(path)
    assert "2" not in again
    again.put("3", {"text": "after"})

    assert [again.get(key) for key in "0123"] == [
        {"text": ""},
        {"text": "é"},
        None,
        {"text": "after"},
    ]
    assert len(Journal(path)) == 3


def test_a_file_of_something_else_is_no_journal(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"text": "mine"}\n')

    with pytest.raises(OSError, match="something else than answers"):
        Journal(path)

    assert path.read_text() == '{"text": "mine"}\n'


def test_waits_double_and_are_partly_random() -> None:
    waits = [
        [backoff(n, first=1.0, longest=30.0, chance=random.Random(seed)) for n in range(8)]
        for seed in range(50)
    ]

    for number, column in enumerate(zip(*waits, strict=True)):
        whole = min(30.0, 2.0**number)
        assert whole / 2 <= min(column) < max(column) <= whole


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("3", 3.0),
        ("0.25", 0.25),
        ("-1", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("soon", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(given: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": given}) == seconds
