"""Students cut from an encoder by importance, and the small ones that read its token vectors."""

import itertools
import json

import onnxruntime
import pytest
import torch
from torch.nn.functional import cosine_similarity

from potstill.errors import ModelError
from potstill.export.onnx import export_onnx
from potstill.models import (
    ModelConfig,
    calibrated_config,
    create_model,
    load_model,
    save_model,
    shrunken_config,
)
from potstill.models.importance import importance, influence, most_important
from potstill.runtime.texts import fed

from .test_text_batches import BERT, texts
from .tiny import save_encoder

DISTILBERT = ModelConfig(
    source="hf",
    name="tiny",
    options={
        "model_type": "distilbert",
        "config": {"vocab_size": 50, "dim": 16, "n_layers": 4, "n_heads": 2, "hidden_dim": 32},
    },
    input_shape=(2, 40),
    num_outputs=3,
)


def made(options: dict[str, object], teacher: ModelConfig = BERT, *, seed: int = 5):
    config = calibrated_config(
        teacher, options, texts=lambda: texts(64).long(), frame=lambda: (2, 3)
    )
    return config, create_model(config, seed=seed)


def test_influence_is_what_a_layer_turns_and_padding_has_none() -> None:
    model = create_model(BERT, seed=0).eval()
    planes = texts(50).long()

    with torch.no_grad():
        expected = torch.zeros(6, dtype=torch.float64)
        count = 0
        for row in planes:
            length = int(row[1].sum())
            ids = row[None, 0, :length]
            states = model.model(input_ids=ids, output_hidden_states=True).hidden_states
            for number, (a, b) in enumerate(itertools.pairwise(states)):
                expected[number] += (1 - cosine_similarity(a, b, dim=-1)).double().sum()
            count += length

    torch.testing.assert_close(influence(model, planes), expected / count, rtol=1e-4, atol=1e-7)


def test_importance_is_minitrons() -> None:
    model = create_model(BERT, seed=0).eval()
    planes = texts(40).long()
    seen: list[torch.Tensor] = []
    layer = model.model.bert.encoder.layer[1]
    layer.output.dense.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    layer.attention.output.dense.register_forward_pre_hook(lambda _, given: seen.append(given[0]))

    scores = importance(model, planes)

    seen.clear()
    neurons, heads = [], []
    with torch.no_grad():
        for row in planes:
            length = int(row[1].sum())
            model(row[None, :, :length])
            merged, widened = seen
            neurons.append(widened[0].abs().mean(dim=0))
            heads.append(merged[0].view(length, 2, 8).norm(dim=2).mean(dim=0))
            seen.clear()
    for found, each in ((scores.neurons[1], neurons), (scores.heads[1], heads)):
        expected = torch.stack(each).double().square().sum(dim=0).sqrt()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)
    assert scores.channels.shape == (16,)
    assert most_important(torch.tensor([1.0, 3.0, 3.0, 2.0]), 2) == [1, 2]


def test_layers_are_kept_by_influence() -> None:
    teacher = create_model(BERT, seed=0)
    with torch.no_grad():  # layers 1 and 4 give what they take, up to their LayerNorms
        for number in (1, 4):
            for name, weight in teacher.model.bert.encoder.layer[number].named_parameters():
                if "output.dense" in name:
                    weight.zero_()
    scores = influence(teacher, texts(64).long())

    config, student = made({"layers": 3, "keep": "influence"}, seed=0)

    assert set(scores.topk(2, largest=False).indices.tolist()) == {1, 4}
    kept = config.options["chosen"]["layers"]
    assert kept == most_important(influence(create_model(BERT, seed=0), texts(64).long()), 3)
    name = "model.bert.encoder.layer.{}.output.dense.weight"
    whole = create_model(BERT, seed=0).state_dict()
    for place, origin in enumerate(kept):
        assert torch.equal(student.state_dict()[name.format(place)], whole[name.format(origin)])


@pytest.mark.parametrize("teacher", [BERT, DISTILBERT], ids=["bert", "distilbert"])
def test_what_is_cut_does_not_matter_when_it_is_zero(teacher: ModelConfig) -> None:
    """Neurons and heads whose outgoing weights are zero can go without changing an answer."""
    whole = create_model(teacher, seed=5)
    size = 32
    config, _ = made({"ffn": 20}, teacher)
    kept = config.options["chosen"]["neurons"]
    names = [n for n, w in whole.named_parameters() if w.shape == (16, size)]
    with torch.no_grad():
        for name, neurons in zip(names, kept, strict=True):
            gone = sorted(set(range(size)) - set(neurons))
            whole.get_parameter(name)[:, gone] = 0

    student = create_model(config, seed=5)

    planes = texts(6).long()
    torch.testing.assert_close(whole.eval()(planes), student.eval()(planes))


@pytest.mark.parametrize("teacher", [BERT, DISTILBERT], ids=["bert", "distilbert"])
def test_narrow_students_have_the_weights_of_what_was_kept(teacher: ModelConfig, tmp_path) -> None:
    config, student = made({"layers": 2, "keep": "first", "width": 8, "ffn": 12}, teacher)
    chosen = config.options["chosen"]
    whole = create_model(teacher, seed=5).state_dict()
    (vectors,) = [n for n in whole if n.endswith("word_embeddings.weight")]
    (query,) = [
        n for n in whole if "layer.1." in n and n.endswith(("query.weight", "q_lin.weight"))
    ]
    rows = [head * 8 + place for head in chosen["heads"][1] for place in range(8)]

    cut = student.state_dict()
    assert torch.equal(cut[vectors], whole[vectors][:, chosen["channels"]])
    assert torch.equal(cut[query], whole[query][rows][:, chosen["channels"]])
    assert sum(p.numel() for p in student.parameters()) < sum(w.numel() for w in whole.values()) / 2
    save_model(student, config, tmp_path)
    again, described = load_model(tmp_path)
    assert "chosen" not in described.options
    planes = texts(5).long()
    assert torch.equal(student.eval()(planes), again.eval()(planes))


def test_a_bilstm_ignores_padding_and_is_exported(tmp_path) -> None:
    config, student = made({"make": "bilstm", "hidden": 6})
    table = create_model(BERT, seed=5).state_dict()["model.bert.embeddings.word_embeddings.weight"]
    planes = texts(7).long()
    student.eval()

    assert torch.equal(student.state_dict()["embedding.weight"], table)
    for row in planes:
        alone = student(row[None, :, : int(row[1].sum())])
        torch.testing.assert_close(student(row[None]), alone)
    save_model(student, config, tmp_path)
    assert torch.equal(load_model(tmp_path)[0].eval()(planes), student(planes))
    path = export_onnx(student, planes, tmp_path / "student.onnx", texts=True)
    session = onnxruntime.InferenceSession(str(path))
    names = [given.name for given in session.get_inputs()]
    for part in (planes, planes[:1, :, :3]):
        (said,) = session.run(None, fed(names, part.numpy()))
        torch.testing.assert_close(torch.from_numpy(said), student(part), rtol=1e-4, atol=1e-5)


def test_a_distilled_table_is_what_the_encoder_says_of_each_token() -> None:
    _, student = made({"make": "bag", "table": "distilled", "width": 4})
    model = create_model(BERT, seed=5).eval()

    said = []
    with torch.no_grad():
        for token in range(50):
            ids = torch.tensor([[2, token, 3]])
            state = model.model(input_ids=ids, output_hidden_states=True).hidden_states[-1]
            said.append(state[0].mean(dim=0))
    centred = torch.stack(said) - torch.stack(said).mean(dim=0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    ranks = torch.arange(1, 51).double()
    probability = (1 / ranks) / (1 / ranks).sum()
    weights = (1e-4 / (1e-4 + probability)).float()
    expected = centred @ directions[:4].T

    table = student.state_dict()["embedding.weight"]
    found = table / weights[:, None]
    torch.testing.assert_close(found.abs(), expected.abs(), rtol=1e-3, atol=1e-4)


def test_what_cannot_be_cut_is_said() -> None:
    for options, words in (
        ({"width": 12}, "multiple of 8"),
        ({"ffn": 33}, "between 1 and"),
        ({"layers": 7, "keep": "influence"}, "give 1 to 6"),
        ({"make": "bag", "table": "distilled", "width": 17}, "between 1 and the teacher's 16"),
        ({"make": "pea"}, "unknown"),
    ):
        with pytest.raises(ModelError, match=words):
            made(options)
    with pytest.raises(ModelError, match="chosen on texts"):
        create_model(shrunken_config(BERT, {"layers": 2, "keep": "influence"}))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"layers": 2},
        {"make": "transformer", "layers": 1, "width": 16, "heads": 2},
        {"make": "bag", "width": 4},
    ],
    ids=["itself", "layers", "transformer", "bag"],
)
def test_old_settings_of_a_folder_do_not_keep_a_saved_model_from_loading(tmp_path, options) -> None:
    folder = save_encoder(tmp_path / "encoder")
    file = folder / "config.json"
    old = {"gradient_checkpointing": False, "position_embedding_type": "absolute"}
    file.write_text(json.dumps({**json.loads(file.read_text()), **old}))
    planes = texts(6).long()
    planes[:, 0] %= 20  # words that the folder's tokenizer has
    whole = ModelConfig(source="hf", name=str(folder), input_shape=(2, 40), num_outputs=2)
    teacher = create_model(whole).eval()
    config = whole
    if options:
        config = calibrated_config(whole, options, texts=lambda: planes, frame=lambda: (2, 3))
        teacher = create_model(config, seed=5).eval()

    save_model(teacher, config, tmp_path / "saved")
    again, _ = load_model(tmp_path / "saved")

    with torch.no_grad():
        torch.testing.assert_close(again.eval()(planes), teacher.eval()(planes))


def test_settings_that_a_type_has_no_more_are_left_out_when_a_model_is_loaded(tmp_path) -> None:
    model = create_model(BERT, seed=0)
    save_model(model, BERT, tmp_path)
    file = tmp_path / "config.json"
    record = json.loads(file.read_text())
    record["options"]["config"]["gradient_checkpointing"] = False
    file.write_text(json.dumps(record))

    again, config = load_model(tmp_path)

    assert "gradient_checkpointing" not in config.options["config"]
    assert config.options["config"]["hidden_size"] == BERT.options["config"]["hidden_size"]
    planes = texts(4).long()
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(planes), model.eval()(planes))
