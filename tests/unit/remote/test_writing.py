"""Texts of served models as data sets: with llama.cpp, and with `transformers serve`."""

import gzip
import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM
from typer.testing import CliRunner

from potstill.cli.main import app
from potstill.errors import DataError, RecipeError, RemoteError
from potstill.remote import Client, Scorer, Server, Vocabulary, Writing, read_prompts, write_answers

from .faults import Faults
from .served import Served, save_model, tokenizer_of, transformers_serve

ROWS = [{"prompt": text, "n": n} for n, text in enumerate(["the fox", "a girl", "Once upon"])]


def said_by(folder: Path, prompt: str, count: int) -> str:
    """What the model itself writes, by the likeliest token each time."""
    tokenizer = tokenizer_of(folder)
    model = LlamaForCausalLM.from_pretrained(str(folder)).eval()
    ids = torch.tensor([tokenizer(prompt)["input_ids"]])
    with torch.no_grad():
        for _ in range(count):
            chosen = model(ids).logits[:, -1].argmax(-1, keepdim=True)
            if int(chosen) == tokenizer.eos_token_id:
                break
            ids = torch.cat([ids, chosen], dim=1)
    written = ids[0, len(tokenizer(prompt)["input_ids"]) :]
    return tokenizer.decode(written, skip_special_tokens=True)


def whole(text: str) -> str:
    """Up to the first part of a character, which servers show in ways of their own."""
    return text.split("\ufffd")[0]


def test_answers_are_the_model_s_in_the_order_of_the_prompts(
    folder: Path, llama: Served, tmp_path: Path
) -> None:
    writing = Writing(chat=False, max_tokens=6)

    with Client(Server(url=llama.url, model=llama.name)) as client:
        found = write_answers(client, ROWS, tmp_path / "out.jsonl", writing=writing)

    rows = [json.loads(line) for line in found.path.read_text().splitlines()]
    assert [row["n"] for row in rows] == [0, 1, 2]
    assert found.rows == found.asked == 3
    assert found.unfinished == sum(not row["finished"] for row in rows) > 0
    for row in rows:
        assert whole(row["answer"]) == whole(said_by(folder, row["prompt"], 6))


def test_more_prompts_ask_for_the_new_ones_alone(llama: Served, tmp_path: Path) -> None:
    out, writing = tmp_path / "out.jsonl", Writing(chat=False, max_tokens=2)

    with Faults(llama.url) as proxy, Client(Server(url=proxy.url, model=llama.name)) as client:
        write_answers(client, ROWS[:2], out, writing=writing)
        again = write_answers(client, [*ROWS, ROWS[0]], out, writing=writing)

        assert len(proxy.seen) == 3
    assert (again.rows, again.asked) == (4, 1)


def test_samples_differ_and_are_the_same_again(llama: Served, tmp_path: Path) -> None:
    writing = Writing(max_tokens=8, temperature=1.0, samples=3, system="be kind")

    with Client(Server(url=llama.url, model=llama.name, concurrency=1)) as client:
        one = write_answers(client, ROWS[:1], tmp_path / "one.jsonl", writing=writing)
        two = write_answers(client, ROWS[:1], tmp_path / "two.jsonl", writing=writing)

    answers = [json.loads(line)["answer"] for line in one.path.read_text().splitlines()]
    assert len(set(answers)) > 1
    assert one.path.read_text() == two.path.read_text()


def test_the_command_writes_what_data_of_source_hf_read(llama: Served, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    from datasets import load_dataset

    prompts, out = tmp_path / "prompts.csv", tmp_path / "answers.jsonl"
    prompts.write_text("question,topic\nthe fox,animals\na girl,people\n")
    options = ["--url", llama.url, "--name", llama.name, "--prompt", "question", "--answer", "said"]

    ran = CliRunner().invoke(
        app, ["generate", str(prompts), "--out", str(out), *options, "--max-tokens", "3"]
    )

    assert ran.exit_code == 0, ran.output
    assert "2 answers, 2 of them asked for now" in ran.output
    read = load_dataset("json", data_files=str(out), cache_dir=str(tmp_path))["train"]
    assert read.column_names == ["question", "topic", "said", "finished"]
    assert read["topic"][:] == ["animals", "people"]


def test_prompts_are_read_from_text_and_packed_files(tmp_path: Path) -> None:
    lines, packed = tmp_path / "p.txt", tmp_path / "p.jsonl.gz"
    lines.write_text("one\n\ntwo \u2028 three\n")
    packed.write_bytes(gzip.compress(b'{"q": "one"}\n{"q": "two"}\n'))

    assert read_prompts(lines, "q") == [{"q": "one"}, {"q": "two \u2028 three"}]
    assert read_prompts(packed, "q") == [{"q": "one"}, {"q": "two"}]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.parquet", "x", "a .jsonl, .csv or .txt file"),
        ("p.jsonl", "{", "cannot be read as jsonl"),
        ("p.jsonl", "[1]", "no JSON object"),
    ],
)
def test_files_that_are_no_prompts_are_refused(
    name: str, content: str, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)

    with pytest.raises(DataError, match=words):
        read_prompts(tmp_path / name, "prompt")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"text": "x"}, r"no text in its column `prompt` \(its columns: text\)"),
        ({"prompt": ""}, "no text"),
        ({"prompt": "x", "answer": "y"}, "has a column `answer` already"),
    ],
)
def test_rows_that_cannot_be_asked_are_refused(
    row: dict[str, object], words: str, llama: Served, tmp_path: Path
) -> None:
    with (
        Client(Server(url=llama.url, model=llama.name)) as client,
        pytest.raises(DataError, match=words),
    ):
        write_answers(client, [row], tmp_path / "out.jsonl", writing=Writing())


def test_samples_need_a_temperature() -> None:
    with pytest.raises(RecipeError, match="give a temperature"):
        Writing(samples=2)


@pytest.mark.slow
def test_transformers_serve_writes_texts_and_gives_no_log_probabilities(tmp_path: Path) -> None:
    for library in ("openai", "fastapi", "uvicorn"):
        pytest.importorskip(library, reason="`transformers serve` needs it (group dev)")
    folder = save_model(tmp_path / "tiny")
    served = transformers_serve(folder).start()
    try:
        with Client(Server(url=served.url + "/v1", model=served.name)) as client:
            plain = Writing(chat=False, max_tokens=6)
            found = write_answers(client, ROWS, tmp_path / "plain.jsonl", writing=plain)
            chats = write_answers(
                client, ROWS[:1], tmp_path / "chats.jsonl", writing=Writing(max_tokens=4)
            )
            with pytest.raises(RemoteError, match="gives no log-probabilities of given texts"):
                Scorer(client, Vocabulary.of(tokenizer_of(folder)), top=5)
        with (
            Client(Server(url=served.url, model="another")) as client,
            pytest.raises(RemoteError, match="another"),
        ):
            write_answers(client, ROWS, tmp_path / "none.jsonl", writing=plain)
    finally:
        served.stop()

    rows = [json.loads(line) for line in found.path.read_text().splitlines()]
    for row in rows:
        assert whole(row["answer"]) == whole(said_by(folder, row["prompt"], 6))
    assert (chats.rows, chats.unfinished) == (1, 1)
