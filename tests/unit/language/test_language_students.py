"""Students cut from a language model: what stays is the teacher's, and what goes mattered least."""

from dataclasses import replace

import pytest
import torch

from potstill.errors import ModelError
from potstill.models import (
    ModelConfig,
    create_model,
    language_student_config,
    load_model,
    save_model,
    shrunken_config,
)
from potstill.models.language import LanguageModel
from potstill.models.language_importance import importance, influence

from .tiny import config, planes

TEXTS = planes([12, 7, 20, 3, 16, 9, 20, 11, 5, 18], longest=20)


def teacher_config(kind: str = "llama") -> ModelConfig:
    wide = config(kind, layers=4, width=16)
    if kind == "gpt2":
        return wide
    sizes = {**wide.options["config"], "num_attention_heads": 4, "num_key_value_heads": 2}
    return replace(wide, options={**wide.options, "config": sizes})


def student_of(kind: str = "llama", **options: object) -> LanguageModel:
    made = language_student_config(teacher_config(kind), options, texts=lambda: TEXTS)
    return create_model(made, seed=0)


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(TEXTS)[TEXTS[:, 1].bool()]


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2"])
def test_layers_are_kept_with_their_weights(kind: str) -> None:
    teacher = create_model(teacher_config(kind), seed=0)
    layers = "transformer.h" if kind == "gpt2" else "model.layers"

    student = student_of(kind, layers=2)

    mine, theirs = student.model.state_dict(), teacher.model.state_dict()
    for place, origin in enumerate((0, 2)):
        names = [n for n in mine if n.startswith(f"{layers}.{place}.")]
        assert names
        for name in names:
            of = name.replace(f"{layers}.{place}.", f"{layers}.{origin}.")
            assert torch.equal(mine[name], theirs[of])


def test_all_of_it_is_the_teacher() -> None:
    teacher = create_model(teacher_config("qwen2"), seed=0)

    torch.testing.assert_close(logits(student_of("qwen2", layers=4)), logits(teacher))


def test_what_does_nothing_is_cut_first() -> None:
    """Dead channels, neurons, heads and a layer that passes on what it is given are not missed."""
    teacher = create_model(teacher_config(), seed=0)
    parts = teacher.model.model
    with torch.no_grad():
        idle = parts.layers[2]
        idle.self_attn.o_proj.weight.zero_()
        idle.mlp.down_proj.weight.zero_()
        for layer in parts.layers:
            layer.mlp.up_proj.weight[::2] = 0
            layer.self_attn.o_proj.weight[:, 4:8] = 0  # the second head of the first group
            layer.self_attn.o_proj.weight[:, 8:12] = 0  # the first of the second

    scores = importance(teacher, TEXTS)

    assert int(scores.layers.argmin()) == 2
    assert float(scores.layers[2]) < 1e-6
    assert bool((scores.neurons[:, ::2] == 0).all())
    assert bool((scores.neurons[:, 1::2] > 0).all())
    torch.testing.assert_close(influence(teacher, TEXTS), scores.layers)


def test_narrow_students_keep_the_answers_when_the_rest_was_dead() -> None:
    made = teacher_config()
    base = create_model(made, seed=0)
    with torch.no_grad():
        for layer in base.model.model.layers:
            layer.mlp.up_proj.weight[::2] = 0
        idle = base.model.model.layers[1]
        idle.self_attn.o_proj.weight.zero_()
        idle.mlp.down_proj.weight.zero_()
    from potstill.models.language_students import _chosen, build_language_student

    chosen = _chosen(base, {"layers": 3, "keep": "influence", "ffn": 16}, importance(base, TEXTS))
    options = {"layers": 3, "keep": "influence", "ffn": 16, "chosen": chosen}

    student = build_language_student(base, "layers", options)

    assert chosen["layers"] == [0, 2, 3]
    assert student.model.config.intermediate_size == 16
    torch.testing.assert_close(logits(student), logits(base), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_narrow_students_have_the_sizes_asked_for_and_are_built_again(kind: str, tmp_path) -> None:
    made = language_student_config(
        teacher_config(kind),
        {"layers": 2, "keep": "influence", "width": 12, "ffn": 20, "heads": 2},
        texts=lambda: TEXTS,
    )
    student = create_model(made, seed=0)
    settings = student.model.config

    assert settings.num_hidden_layers == 2
    assert settings.hidden_size == 12
    assert settings.intermediate_size == 20
    assert settings.num_attention_heads == 2
    assert settings.num_key_value_heads == 2
    assert settings.head_dim == 4
    save_model(student, made, tmp_path / "student")
    again, described = load_model(tmp_path / "student")
    assert described.source == "hf"
    torch.testing.assert_close(logits(again), logits(student))
    student.model.save_pretrained(str(tmp_path / "hf"))
    from transformers import AutoModelForCausalLM

    opened = AutoModelForCausalLM.from_pretrained(str(tmp_path / "hf"), dtype=torch.float32)
    torch.testing.assert_close(logits(LanguageModel(opened)), logits(student))


def test_heads_are_chosen_within_their_group() -> None:
    made = language_student_config(teacher_config(), {"heads": 2}, texts=lambda: TEXTS)

    for chosen in made.options["chosen"]["heads"]:
        assert chosen[0] in (0, 1)
        assert chosen[1] in (2, 3)


def test_a_small_transformer_has_the_teachers_vocabulary_and_type() -> None:
    student = student_of("qwen2", make="transformer", layers=1, width=8, heads=2)

    assert student.model.config.model_type == "qwen2"
    assert student.head.out_features == create_model(teacher_config("qwen2")).head.out_features
    assert logits(student).isfinite().all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layers": 9}, "1 to 4"),
        ({"layers": 2, "keep": "lats"}, "unknown"),
        ({"heads": 3}, "multiple"),
        ({"width": 99}, "from 1 to"),
        ({"make": "soup"}, "unknown"),
    ],
)
def test_what_cannot_be_cut_is_said(options, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        student_of(**options)


def test_models_of_other_builds_are_not_narrowed() -> None:
    with pytest.raises(ModelError, match="Llama"):
        student_of("gpt2", width=8)
    with pytest.raises(ModelError, match="chosen on texts"):
        create_model(shrunken_config(teacher_config(), {"width": 8}))
