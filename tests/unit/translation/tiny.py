"""Encoder-decoders of random weights, and pairs of texts that can be learnt: words in capitals."""

import random
from pathlib import Path

import torch
from torch import Tensor, nn

from potstill.functional.tokens import IGNORED
from potstill.models import ModelConfig, create_model
from potstill.signals import Batch

VOCABULARY = 37
KINDS = ("marian", "t5", "bart")
WORDS = ("ab", "cd", "ef", "gh", "ij", "kl", "mn", "op", "qr", "st")


def sizes(kind: str, *, layers: int = 2, width: int = 16) -> dict[str, object]:
    """What of a type's config is changed."""
    if kind == "t5":
        return {
            "d_model": width,
            "d_kv": width // 2,
            "d_ff": 2 * width,
            "num_layers": layers,
            "num_decoder_layers": layers,
            "num_heads": 2,
            "dropout_rate": 0.0,
        }
    return {
        "d_model": width,
        "encoder_layers": layers,
        "decoder_layers": layers,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 2 * width,
        "decoder_ffn_dim": 2 * width,
        "max_position_embeddings": 64,
        "dropout": 0.0,
        "scale_embedding": True,
        "init_std": 0.3,
    }


def config(kind: str = "marian", **wanted: int) -> ModelConfig:
    return ModelConfig(
        source="hf",
        name=f"tiny {kind}",
        options={"model_type": kind, "config": sizes(kind, **wanted)},
        input_shape=(4, 24),
        num_outputs=VOCABULARY,
        purpose="seq2seq",
    )


def model(kind: str = "marian", *, seed: int = 0, **wanted: int) -> nn.Module:
    return create_model(config(kind, **wanted), seed=seed)


def batch(read: list[int], written: list[int], *, longest: int | None = None) -> Batch:
    """Pairs of these lengths; what is written ends with the end token, 1."""
    generator = torch.Generator().manual_seed(sum(read) + 100 * sum(written))
    size = longest or max(*read, *written)

    def side(lengths: list[int]) -> tuple[Tensor, Tensor]:
        mask = (torch.arange(size)[None] < torch.tensor(lengths)[:, None]).long()
        ids = torch.randint(4, VOCABULARY, (len(lengths), size), generator=generator)
        ids[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = 1
        return ids * mask, mask

    ids, mask = side(read)
    targets, there = side(written)
    return Batch(
        inputs=torch.stack([ids, mask, targets, there], dim=1),
        labels=targets.masked_fill(there == 0, IGNORED),
        ids=torch.arange(len(read)),
        positions=mask.bool(),
    )


def save_pairs(folder: Path, *, train: int = 240, others: int = 40) -> dict[str, list[str]]:
    """Two aligned files a part: some words, and the same in capitals."""
    files = {}
    for seed, (part, count) in enumerate(
        {"train": train, "validation": others, "test": others}.items()
    ):
        chance = random.Random(seed)
        lines = [" ".join(chance.choices(WORDS, k=chance.randint(2, 6))) for _ in range(count)]
        paths = [folder / f"{part}.low", folder / f"{part}.high"]
        paths[0].write_text("\n".join(lines) + "\n", encoding="utf-8")
        paths[1].write_text("\n".join(line.upper() for line in lines) + "\n", encoding="utf-8")
        files[part] = [str(path) for path in paths]
    return files
