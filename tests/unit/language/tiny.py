"""Language models of random weights and texts that can be learnt, without any file."""

import torch
from torch import Tensor, nn

from potstill.functional.tokens import next_tokens
from potstill.models import ModelConfig, create_model
from potstill.signals import Batch

VOCABULARY = 37


def config(
    kind: str = "llama", *, layers: int = 2, width: int = 16, vocabulary: int = VOCABULARY
) -> ModelConfig:
    sizes: dict[str, object] = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 2 * width,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,
    }
    if kind == "gpt2":
        sizes = {
            "n_embd": width,
            "n_layer": layers,
            "n_head": 2,
            "n_positions": 64,
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
            "initializer_range": 0.3,
        }
    return ModelConfig(
        source="hf",
        name=f"tiny {kind}",
        options={"model_type": kind, "config": sizes},
        input_shape=(2, 24),
        num_outputs=vocabulary,
        purpose="causal_lm",
    )


def model(kind: str = "llama", *, seed: int = 0, **sizes: int) -> nn.Module:
    return create_model(config(kind, **sizes), seed=seed)


def planes(lengths: list[int], *, longest: int | None = None, seed: int = 0) -> Tensor:
    """Texts of these lengths, padded on the right: `[B, 2, L]` int64."""
    generator = torch.Generator().manual_seed(seed)
    size = longest or max(lengths)
    mask = (torch.arange(size)[None] < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(1, VOCABULARY, (len(lengths), size), generator=generator) * mask
    return torch.stack([ids, mask], dim=1)


def batch(lengths: list[int], *, longest: int | None = None, seed: int = 0) -> Batch:
    texts = planes(lengths, longest=longest, seed=seed)
    return Batch(
        inputs=texts,
        labels=next_tokens(texts[:, 0], texts[:, 1]),
        ids=torch.arange(len(lengths)),
        positions=texts[:, 1].bool(),
    )
