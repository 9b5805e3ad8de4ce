"""The parts of transformers have one name in all of them, and hold what the model computes."""

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from potstill.features import known_layers, layer_names, tapped
from potstill.features.blocks import part_names

SIZES = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
    "embedding_size": 16,
}
DISTILBERT = {"vocab_size": 30, "dim": 16, "n_layers": 3, "n_heads": 4, "hidden_dim": 32}


def encoder(kind: str, **changes: object) -> nn.Module:
    sizes = DISTILBERT if kind == "distilbert" else SIZES
    torch.manual_seed(0)
    defaults = AutoConfig.for_model(kind)
    sizes = {k: v for k, v in sizes.items() if hasattr(defaults, k)}
    config = AutoConfig.for_model(kind, **sizes, initializer_range=0.3, **changes)
    return AutoModel.from_config(config, attn_implementation="eager").eval()


def texts() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(4, 30, (2, 7), generator=generator)
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[1, 5:] = 0
    return {"input_ids": ids * mask, "attention_mask": mask}


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "electra"])
def test_scores_are_those_of_the_models_own_attention(kind: str) -> None:
    model, told = encoder(kind), texts()

    with tapped(model, ["blocks.1.scores", "blocks.1.value"]) as features:
        said = model(**told, output_attentions=True)

    keys = told["attention_mask"][:, None, None, :].bool()
    ours = features["blocks.1.scores"].masked_fill(~keys, -torch.inf).softmax(-1)
    torch.testing.assert_close(ours, said.attentions[1], rtol=1e-5, atol=1e-6)
    assert features["blocks.1.value"].shape == (2, 4, 7, 4)


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_blocks_and_embeddings_are_the_hidden_states(kind: str) -> None:
    model, told = encoder(kind), texts()
    names = ["embeddings", "blocks.0", "blocks.-1", "blocks.1/3", "blocks.2/3", "blocks.1/2"]

    with tapped(model, names) as features:
        hidden = model(**told, output_hidden_states=True).hidden_states

    for name, number in zip(names, [0, 1, 3, 1, 2, 2], strict=True):
        assert torch.equal(features[name], hidden[number]), name


def test_the_kernel_does_not_matter() -> None:
    model, told = encoder("bert"), texts()
    with tapped(model, ["blocks.0.scores"]) as features:
        model(**told)
        eager = features["blocks.0.scores"]

    model.set_attn_implementation("sdpa")
    with tapped(model, ["blocks.0.scores"]) as features:
        model(**told)

    assert torch.equal(features["blocks.0.scores"], eager)


@pytest.mark.parametrize("kind", ["mpnet", "deberta-v2"])
def test_attention_with_relative_positions_offers_no_scores(kind: str) -> None:
    names = part_names(encoder(kind, relative_attention=True) if kind != "mpnet" else encoder(kind))

    assert "blocks.-1.query" in names
    assert not [name for name in names if name.endswith("scores")]


def test_models_that_are_no_transformers_have_no_parts() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())

    assert part_names(model) == ()
    assert known_layers(model) == layer_names(model)


def test_a_models_own_name_wins() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([nn.Linear(2, 3), nn.Linear(3, 2)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.blocks[1](self.blocks[0](x))

    model = Net()
    with tapped(model, ["blocks.0", "blocks.-1", "blocks.1/2"]) as features:
        model(torch.ones(1, 2))

    assert known_layers(model)[:3] == ("blocks", "blocks.0", "blocks.1")
    assert features["blocks.-1"].shape == (1, 2)
    assert torch.equal(features["blocks.1/2"], features["blocks.0"])


def test_no_hook_stays() -> None:
    model = encoder("bert")
    with tapped(model, ["blocks.-1.scores", "embeddings"]):
        model(**texts())

    assert not [m for m in model.modules() if m._forward_hooks]
