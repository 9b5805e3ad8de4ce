"""The shapes of answers that other servers give, filled with what a model says.

vLLM 0.32, SGLang and OpenAI's completions; those of llama.cpp are real in `test_scoring.py`.
"""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch

from potstill.errors import RemoteError
from potstill.remote import Client, Scorer, Server, Vocabulary, Way

from .served import TEXTS, logprobs_of, tokenizer_of

LIMIT = 20


class Shaped:
    """Answers as a server of some make would, about the model in a folder."""

    def __init__(self, folder: Path, make: str) -> None:  # noqa: C901
        self.make, self.paths = make, []
        tokenizer, shaped = tokenizer_of(folder), self
        self.vocabulary = Vocabulary.of(tokenizer)

        def decoded(number: int) -> str:
            return tokenizer.decode([number])

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner = {"openai": "system"}.get(shaped.make, shaped.make)
                self._say(200, {"data": [{"id": "tiny", "owned_by": owner}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                shaped.paths.append(self.path)
                self._say(*getattr(self, shaped.make)(body))

            def vllm(self, body: dict) -> tuple[int, dict]:
                top = body["prompt_logprobs"]
                if top > LIMIT:
                    said = f"Requested prompt logprobs of {top}, which is greater than max allowed"
                    return 400, {"error": {"message": said, "code": 400}}
                ids = body["prompt"]
                places: list[object] = [None]
                for place, after in zip(logprobs_of(folder, ids)[:-1], ids[1:], strict=True):
                    kept = {after: place[after].item()}  # what follows comes first, kept or not
                    kept |= {i: place[i].item() for i in place.topk(top).indices.tolist()}
                    places.append(
                        {
                            str(i): {"logprob": p, "rank": 1, "decoded_token": decoded(i)}
                            for i, p in kept.items()
                        }
                    )
                return 200, {"choices": [{"index": 0, "text": "", "prompt_logprobs": places}]}

            def sglang(self, body: dict) -> tuple[int, dict]:
                places: list[object] = [None]
                for place in logprobs_of(folder, body["input_ids"])[:-1]:
                    values, numbers = place.topk(body["top_logprobs_num"])
                    places.append(
                        [
                            [p, i, decoded(i)]
                            for p, i in zip(values.tolist(), numbers.tolist(), strict=True)
                        ]
                    )
                return 200, {"text": "", "meta_info": {"input_top_logprobs": places}}

            def openai(self, body: dict) -> tuple[int, dict]:
                ids = body["prompt"]
                if not body.get("echo"):  # it ignores what it does not know
                    return 200, {"choices": [{"index": 0, "text": "", "logprobs": None}]}
                tops: list[object] = [None]
                for place in logprobs_of(folder, ids):
                    values, numbers = place.topk(body["logprobs"])
                    pairs = zip(numbers.tolist(), values.tolist(), strict=True)
                    tops.append({decoded(i): p for i, p in pairs})  # of one text: the last stays
                said = {"tokens": [*map(decoded, ids), "x"], "top_logprobs": tops}
                return 200, {"choices": [{"index": 0, "text": "", "logprobs": said}]}

            def mute(self, body: dict) -> tuple[int, dict]:
                return 200, {"choices": [{"index": 0, "text": "fine", "finish_reason": "stop"}]}

            def hot(self, body: dict) -> tuple[int, dict]:
                status, answer = self.vllm(body)
                for place in answer["choices"][0]["prompt_logprobs"][1:]:
                    for entry in place.values():
                        entry["logprob"] /= 10
                return status, answer

            def _say(self, status: int, answer: dict) -> None:
                said = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def shaped(folder: Path, request: pytest.FixtureRequest) -> Iterator[Shaped]:
    server = Shaped(folder, request.param)
    yield server
    server.close()


def client_of(shaped: Shaped) -> Client:
    return Client(Server(url=shaped.url, model="tiny", retries=0))


@pytest.mark.parametrize(
    ("shaped", "way", "path"),
    [
        ("vllm", Way.PROMPT_LOGPROBS, "/v1/completions"),
        ("sglang", Way.GENERATE, "/generate"),
    ],
    indirect=["shaped"],
)
def test_answers_with_ids_are_the_model_s(
    shaped: Shaped, way: Way, path: str, folder: Path
) -> None:
    ids = tokenizer_of(folder)(TEXTS[0])["input_ids"]

    with client_of(shaped) as client:
        scorer = Scorer(client, shaped.vocabulary, top=8)
        found = scorer.scores(ids)

    assert scorer.way is way
    assert shaped.paths == [path]
    expected = logprobs_of(folder, ids)[:-1].topk(8)
    assert found.ids_RK.tolist() == expected.indices.tolist()
    assert found.logprobs_RK == pytest.approx(expected.values.numpy(), abs=1e-6)


@pytest.mark.parametrize("shaped", ["openai"], indirect=True)
def test_answers_in_strings_keep_what_is_one_token_and_leave_the_rest_to_the_tail(
    shaped: Shaped, folder: Path
) -> None:
    ids = tokenizer_of(folder)(TEXTS[3])["input_ids"]

    with client_of(shaped) as client:
        scorer = Scorer(client, shaped.vocabulary, top=160)
        found = scorer.scores(ids)

    assert scorer.way is Way.ECHO
    expected = logprobs_of(folder, ids)[:-1]
    kept = found.logprobs_RK > float("-inf")
    assert 50 < kept.sum(1).min() < 160  # the parts of characters are missing
    same = expected.gather(1, torch.from_numpy(found.ids_RK).long()).numpy()
    assert found.logprobs_RK[kept] == pytest.approx(same[kept], abs=1e-6)


@pytest.mark.parametrize("shaped", ["mute"], indirect=True)
def test_a_server_without_log_probabilities_is_refused_in_one_sentence(shaped: Shaped) -> None:
    with (
        client_of(shaped) as client,
        pytest.raises(RemoteError, match=r"gives no log-probabilities of given texts.*generate"),
    ):
        Scorer(client, shaped.vocabulary, top=5)


@pytest.mark.parametrize("shaped", ["vllm"], indirect=True)
def test_too_few_log_probabilities_are_refused_with_the_next_step(shaped: Shaped) -> None:
    with (
        client_of(shaped) as client,
        pytest.raises(RemoteError, match=r"greater than max allowed.*`top`.*--max-logprobs"),
    ):
        Scorer(client, shaped.vocabulary, top=21).scores([70, 71, 72])


@pytest.mark.parametrize("shaped", ["hot"], indirect=True)
def test_scores_that_are_no_probabilities_are_refused(shaped: Shaped) -> None:
    with (
        client_of(shaped) as client,
        pytest.raises(RemoteError, match=r"sum up to .*raw_logprobs"),
    ):
        Scorer(client, shaped.vocabulary, top=20, way=Way.PROMPT_LOGPROBS).scores([70, 71, 72])
