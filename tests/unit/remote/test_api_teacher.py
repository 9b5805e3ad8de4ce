"""A served language model as teacher: its rows are those of the model itself."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from potstill.data.language.rows import Encoded, Rows, lay_out
from potstill.errors import HandshakeError, RecipeError
from potstill.losses import KD
from potstill.protocols import LogitKind
from potstill.remote import Server, Vocabulary
from potstill.signals import Batch, Logits, Signals, SparseLogits, Target
from potstill.tasks import CausalLM
from potstill.teachers import ApiTeacher

from .faults import Faults
from .served import TEXTS, Served, logprobs_of, tokenizer_of


def batch_of(folder: Path, how: Rows, *, length: int = 24) -> Batch:
    tokenizer = tokenizer_of(folder)
    texts = [Encoded(tokenizer(text)["input_ids"]) for text in TEXTS]
    table = lay_out(texts, how, length=length, pad=2)
    return Batch(
        inputs=torch.from_numpy(table.planes_NPL).long(),
        labels=torch.from_numpy(table.labels_NL),
    )


def teacher_of(url: str, served: Served, folder: Path, **options: int) -> ApiTeacher:
    server = Server(url=url, model=served.name, retries=2, backoff=0.01)
    return ApiTeacher(server, Vocabulary.of(tokenizer_of(folder)), **options)


def expected(folder: Path, batch: Batch) -> torch.Tensor:
    """`[N, V]`, text by text, through the model itself."""
    rows = []
    for planes, labels in zip(batch.inputs, batch.labels, strict=True):
        length = int(planes[1].sum())
        places = planes[2] if len(planes) > 2 else torch.arange(planes.shape[1])
        starts = [at for at in range(length) if places[at] == 0]
        for begin, end in zip(starts, [*starts[1:], length], strict=True):
            said = logprobs_of(folder, planes[0, begin:end].tolist())
            rows.append(said[labels[begin:end] != -100])
    return torch.cat(rows)


@pytest.mark.parametrize("how", list(Rows))
def test_rows_are_those_of_the_model(how: Rows, folder: Path, llama: Served) -> None:
    batch = batch_of(folder, how)

    found = teacher_of(llama.url, llama, folder, top=12).signals(batch).logits

    assert isinstance(found, SparseLogits)
    target = CausalLM().target(batch)
    assert found.ids_NK.shape == (target.num_rows, 12)
    dense = expected(folder, batch)
    torch.testing.assert_close(
        found.logprobs_NK.double(), dense.gather(1, found.ids_NK), atol=5e-3, rtol=0
    )
    kept = found.logprobs_NK.double().exp().sum(1)
    torch.testing.assert_close(kept + found.tail_N.double(), torch.ones_like(kept))


def test_with_all_classes_the_loss_is_that_of_the_live_model(folder: Path, llama: Served) -> None:
    batch = batch_of(folder, Rows.SINGLE)
    dense = expected(folder, batch).float()
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(dense.shape, generator=generator)
    target = Target(num_rows=len(dense))

    served = teacher_of(llama.url, llama, folder, top=1000).signals(batch)

    def gradient(teacher: Signals) -> torch.Tensor:
        leaf = student.clone().requires_grad_()
        KD(temperature=1)(Signals(logits=Logits(leaf)), teacher, target).total.backward()
        return leaf.grad

    live = gradient(Signals(logits=Logits(dense)))
    torch.testing.assert_close(gradient(served), live, atol=5e-3, rtol=0)
    assert live.abs().max() > 0.1


def test_each_text_is_asked_once_and_kept_for_the_next_process(
    folder: Path, llama: Served, tmp_path: Path
) -> None:
    batch, path = batch_of(folder, Rows.SINGLE), tmp_path / "answers.jsonl"

    with Faults(llama.url) as proxy:
        first = teacher_of(proxy.url, llama, folder, top=4)
        first.keep(path)
        said = first.signals(batch).logits
        asked = len(proxy.seen)
        first.signals(batch)
        again = teacher_of(proxy.url, llama, folder, top=4)
        again.keep(path)
        kept = again.signals(batch).logits

        assert len(proxy.seen) == asked >= len(TEXTS)
    assert torch.equal(said.ids_NK, kept.ids_NK)
    assert torch.equal(said.logprobs_NK, kept.logprobs_NK)
    assert again.unanswered([batch]) == []


def test_what_an_answer_asks_alone_is_asked(folder: Path, llama: Served) -> None:
    tokenizer = tokenizer_of(folder)
    ids = tokenizer(TEXTS[0])["input_ids"]
    answers = [False] * (len(ids) - 2) + [True] * 2
    table = lay_out([Encoded(ids, answers)], Rows.SINGLE, length=64, pad=2)
    batch = Batch(
        inputs=torch.from_numpy(table.planes_NPL).long(), labels=torch.from_numpy(table.labels_NL)
    )

    found = teacher_of(llama.url, llama, folder, top=3).signals(batch).logits

    dense = logprobs_of(folder, ids)[-3:-1]
    assert found.ids_NK.shape == (2, 3)
    assert np.allclose(dense.gather(1, found.ids_NK), found.logprobs_NK, atol=5e-3)


def test_it_offers_sparse_logits_and_knows_itself(folder: Path, llama: Served) -> None:
    one, other = (teacher_of(llama.url, llama, folder, top=k) for k in (4, 5))

    assert one.offers().logits is LogitKind.SPARSE
    assert one.fingerprint() == teacher_of("http://elsewhere", llama, folder, top=4).fingerprint()
    assert one.fingerprint() != other.fingerprint()


def test_batches_of_other_tasks_are_refused(folder: Path, llama: Served) -> None:
    batch = Batch(inputs=torch.zeros(2, 3), labels=torch.zeros(2, dtype=torch.int64))

    with pytest.raises(HandshakeError, match="potstill generate"):
        teacher_of(llama.url, llama, folder).signals(batch)


def recipe(folder: Path, url: str, name: str, tmp_path: Path, **model: object) -> dict[str, object]:
    texts = tmp_path / "texts.jsonl"
    words = [" ".join(TEXTS[(n + i) % 4] for i in range(3)) for n in range(40)]
    texts.write_text("\n".join(f'{{"text": "{word} {n}"}}' for n, word in enumerate(words)))
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64}
    return {
        "name": "served",
        "task": "causal_lm",
        "data": {
            "source": "hf",
            "files": {"train": str(texts)},
            "inputs": "text",
            "max_length": 32,
            "tokenizer": str(folder),
            "test": 0.2,
            "validation": 0.2,
        },
        "teacher": {"model": {"source": "api", "name": name, "url": url, "top": 8, **model}},
        "student": {"model": {"source": "hf", "name": "s", "model_type": "llama", "config": sizes}},
        "distill": {
            "objective": [{"term": "kd", "temperature": 1}],
            "epochs": 2,
            "batch_size": 8,
            "lr": 1e-2,
        },
        "seeds": 1,
        "export": [],
        "measure": {"seconds": 0.1, "energy": False},
        "device": "cpu",
        "speed": "exact",
    }


def test_a_recipe_names_the_server(folder: Path, llama: Served, tmp_path: Path) -> None:
    from potstill import api
    from potstill.recipe import parse

    with Faults(llama.url) as proxy:
        content = recipe(folder, proxy.url + "/v1", llama.name, tmp_path)
        run = api.run(parse(content), out=tmp_path / "run")
        asked = len(proxy.seen)
        again = api.run(parse(content), out=tmp_path / "run")

        assert len(proxy.seen) == asked > 0
    assert (tmp_path / "run" / "answers.jsonl").exists()
    assert run.results["models"]["teacher"]["test"]["perplexity"]["mean"] > 1
    assert again.results["verdict"] == run.results["verdict"]


def test_labelling_asks_once_and_a_run_finds_all_answered(
    folder: Path,
    llama: Served,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from potstill import api
    from potstill.build import build
    from potstill.cli.main import main
    from potstill.recipe import load

    monkeypatch.chdir(tmp_path)
    with Faults(llama.url) as proxy:
        content = recipe(folder, proxy.url + "/v1", llama.name, tmp_path)
        Path("served.yaml").write_text(yaml.safe_dump(content))
        said = []
        for _ in range(2):
            monkeypatch.setattr("sys.argv", ["potstill", "label", "served.yaml", "--json"])
            with pytest.raises(SystemExit) as stop:
                main()
            assert not stop.value.code
            said.append(json.loads(capsys.readouterr().out))
        asked = len(proxy.seen)
        api.run("served.yaml")

        taught = len(build(load("served.yaml")).data.train)
        assert said[0]["asked"] == taught  # of 40 texts, less those of validation and test
        assert said[1] == {**said[0], "asked": 0}
        assert Path(said[0]["path"]) == Path("runs/served/answers.jsonl")
        lines = Path(said[0]["path"]).read_text().splitlines()
        assert len(lines) >= taught
        others = (40 - taught) * asked / taught  # validation and test, as many requests each
        assert 0 < len(proxy.seen) - asked <= others + 2  # two to find out how to ask


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"uri": "x"}, "did you mean `url`"),
        ({"top": "many"}, "`teacher.model.top` should be int"),
        ({"scoring": "guess"}, "one of prompt_logprobs"),
        ({"key": "sk-not-a-name"}, "name of the environment variable"),
    ],
)
def test_wrong_options_are_said(
    model: dict[str, object], words: str, folder: Path, tmp_path: Path
) -> None:
    from potstill.build import build
    from potstill.recipe import parse

    content = recipe(folder, "http://localhost:9", "tiny", tmp_path, **model)
    with pytest.raises(RecipeError, match=words):
        build(parse(content))
