"""What a real server says about given texts is what the model says."""

from pathlib import Path

import pytest
import torch

from potstill.errors import RemoteError
from potstill.remote import Client, Scorer, Server, Vocabulary, Way

from .served import TEXTS, Served, logprobs_of, tokenizer_of


def server(url: str, name: str, **options: object) -> Server:
    return Server(url=url, model=name, retries=0, **options)


@pytest.mark.parametrize("text", TEXTS)
def test_llama_cpp_gives_the_log_probabilities_of_the_model(
    text: str, folder: Path, llama: Served
) -> None:
    tokenizer = tokenizer_of(folder)
    ids = tokenizer(text)["input_ids"]

    with Client(server(llama.url + "/v1", llama.name)) as client:
        scorer = Scorer(client, Vocabulary.of(tokenizer), top=10)
        found = scorer.scores(ids)

    expected = logprobs_of(folder, ids)[:-1]
    assert scorer.way is Way.STEPS
    given = torch.from_numpy(found.logprobs_RK).double()
    kept = expected.gather(1, torch.from_numpy(found.ids_RK).long())
    torch.testing.assert_close(given, kept, atol=2e-3, rtol=0)
    torch.testing.assert_close(given, expected.topk(10).values, atol=2e-3, rtol=0)


def test_only_the_places_that_are_wanted_are_asked(folder: Path, llama: Served) -> None:
    tokenizer = tokenizer_of(folder)
    ids = tokenizer(TEXTS[0])["input_ids"]

    with Client(server(llama.url, llama.name)) as client:
        scorer = Scorer(client, Vocabulary.of(tokenizer), top=5)
        whole, last = scorer.scores(ids), scorer.scores(ids, start=len(ids) - 3)

    assert last.ids_RK.shape == (2, 5)
    assert last.ids_RK.tolist() == whole.ids_RK[-2:].tolist()
    assert last.logprobs_RK == pytest.approx(whole.logprobs_RK[-2:], abs=1e-4)


def test_all_classes_make_one(folder: Path, llama: Served) -> None:
    tokenizer = tokenizer_of(folder)
    vocabulary = Vocabulary.of(tokenizer)

    with Client(server(llama.url, llama.name)) as client:
        found = Scorer(client, vocabulary, top=1000).scores(tokenizer("the fox")["input_ids"])

    assert found.ids_RK.shape[1] == vocabulary.size
    assert torch.from_numpy(found.logprobs_RK).double().exp().sum(1).numpy() == pytest.approx(
        1.0, abs=1e-5
    )


def test_a_text_of_one_token_asks_nothing(folder: Path, llama: Served) -> None:
    with Client(server(llama.url, llama.name)) as client:
        scorer = Scorer(client, Vocabulary.of(tokenizer_of(folder)), top=5)
        before = client.requests

        assert scorer.scores([70]).ids_RK.shape == (0, 5)
        assert client.requests == before


def test_an_unknown_model_names_those_that_are_served(folder: Path, llama: Served) -> None:
    with (
        Client(server(llama.url, "mistaken")) as client,
        pytest.raises(
            RemoteError, match=r"does not know the model 'mistaken'.*serves .*tiny\.gguf"
        ),
    ):
        Scorer(client, Vocabulary.of(tokenizer_of(folder)), top=5)


def test_a_vocabulary_that_is_too_small_is_refused(folder: Path, llama: Served) -> None:
    whole = Vocabulary.of(tokenizer_of(folder))
    small = Vocabulary(whole.pieces[:100], 100)

    with (
        Client(server(llama.url, llama.name)) as client,
        pytest.raises(RemoteError, match="has 100 tokens; the teacher has another tokenizer"),
    ):
        Scorer(client, small, top=20).scores([70, 71, 72])


def test_another_tokenizer_of_the_same_size_is_refused(folder: Path, llama: Served) -> None:
    whole = Vocabulary.of(tokenizer_of(folder))
    turned = Vocabulary((*whole.pieces[7:], *whole.pieces[:7]), whole.size)

    with (
        Client(server(llama.url, llama.name)) as client,
        pytest.raises(RemoteError, match="another tokenizer than the student"),
    ):
        Scorer(client, turned, top=20).scores([70, 71, 72])


def test_a_server_that_is_not_there_is_not_one_without_log_probabilities(folder: Path) -> None:
    with (
        Client(server("http://127.0.0.1:9", "tiny")) as client,
        pytest.raises(RemoteError, match="did not answer: the connection failed"),
    ):
        Scorer(client, Vocabulary.of(tokenizer_of(folder)), top=5)
