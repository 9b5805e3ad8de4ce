"""What int4 weights cost a small Llama, and what training with the unquantised model brings back.

    python examples/int4_with_a_teacher.py stories260K.bin config_and_vocab.json stories.txt.gz

The first file is a checkpoint of karpathy/llama2.c (version 0), the second names its tokens with
their scores (`vocab`), the third holds texts. Needs the extras `compress` and `text`.
"""

import argparse
import gzip
import json
import tempfile
from copy import deepcopy
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from potstill import KD, CrossEntropy, Distiller, ModuleTeacher, TrainSettings
from potstill.compress.int4 import Int4, fake_int4, int4_layers, save_int4
from potstill.functional.tokens import next_tokens
from potstill.models import ModelConfig, create_model, save_model
from potstill.signals import Batch
from potstill.tasks import CausalLM

LENGTH, ROWS = 256, 8


def read_model(path: Path) -> tuple[nn.Module, ModelConfig]:
    """The checkpoint as a Llama of Transformers, whose rotations pair halves, not neighbours."""
    raw = path.read_bytes()
    dim, hidden, layers, heads, kv, vocabulary, longest = np.frombuffer(raw, np.int32, 7).tolist()
    numbers = torch.from_numpy(np.frombuffer(raw, np.float32, offset=28).copy())
    sizes: dict[str, object] = {
        "hidden_size": dim,
        "intermediate_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "max_position_embeddings": longest,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    }
    config = ModelConfig(
        source="hf",
        name="stories",
        options={"model_type": "llama", "config": sizes},
        input_shape=(2, LENGTH),
        num_outputs=abs(vocabulary),
        purpose="causal_lm",
    )
    small = kv * dim // heads
    place = 0

    def take(*shape: int) -> Tensor:
        nonlocal place
        place += int(np.prod(shape))
        return numbers[place - int(np.prod(shape)) : place].reshape(shape)

    def paired(weight: Tensor, count: int) -> Tensor:
        split = weight.reshape(count, -1, 2, dim)
        return split.transpose(1, 2).reshape(weight.shape)

    state = {"embed_tokens": take(abs(vocabulary), dim)}
    named = {
        "input_layernorm": take(layers, dim),
        "self_attn.q_proj": take(layers, dim, dim),
        "self_attn.k_proj": take(layers, small, dim),
        "self_attn.v_proj": take(layers, small, dim),
        "self_attn.o_proj": take(layers, dim, dim),
        "post_attention_layernorm": take(layers, dim),
        "mlp.gate_proj": take(layers, hidden, dim),
        "mlp.down_proj": take(layers, dim, hidden),
        "mlp.up_proj": take(layers, hidden, dim),
    }
    state["norm"] = take(dim)
    for name, stack in named.items():
        for index, weight in enumerate(stack):
            count = {"self_attn.q_proj": heads, "self_attn.k_proj": kv}.get(name)
            state[f"layers.{index}.{name}"] = weight if count is None else paired(weight, count)
    model = create_model(config)
    model.model.base_model.load_state_dict({f"{n}.weight": v for n, v in state.items()})
    return model.eval(), config


def read_tokens(path: Path, texts: Path) -> Tensor:
    """The texts as one row of tokens, of byte pairs merged by their scores."""
    record = json.loads(path.read_text(encoding="utf-8"))
    pieces = {piece: (index, score) for index, (piece, score) in enumerate(record["vocab"])}

    @cache
    def of_word(word: str) -> list[int]:
        parts = list(word.encode().decode("latin-1"))
        while True:
            merged = [a + b for a, b in pairwise(parts)]
            pairs = [(pieces[m][1], -i) for i, m in enumerate(merged) if m in pieces]
            if not pairs:
                return [pieces[p][0] if p in pieces else ord(p) + 3 for p in parts]
            at = -max(pairs)[1]
            parts[at : at + 2] = [parts[at] + parts[at + 1]]

    with gzip.open(texts, "rt", encoding="utf-8") as file:
        words = file.read().split(" ")
    ids = [record["bos"], *(token for word in words for token in of_word(" " + word))]
    return torch.tensor(ids)


def batches(ids: Tensor) -> list[Batch]:
    made = []
    for rows in ids[: len(ids) // LENGTH * LENGTH].reshape(-1, LENGTH).split(ROWS):
        planes = torch.stack([rows, torch.ones_like(rows)], dim=1)
        made.append(Batch(inputs=planes, labels=next_tokens(planes[:, 0], planes[:, 1])))
    return made


def perplexity(model: nn.Module, some: list[Batch]) -> float:
    total = count = 0.0
    with torch.no_grad():
        for batch in some:
            said = model.eval()(batch.inputs)[:, :-1].flatten(0, 1)
            wanted = batch.inputs[:, 0, 1:].flatten()
            total += float(nn.functional.cross_entropy(said, wanted, reduction="sum"))
            count += wanted.numel()
    return float(np.exp(total / count))


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "tokens", "texts"):
        ask.add_argument(name, type=Path)
    ask.add_argument("--group", type=int, default=32)
    ask.add_argument("--steps", type=int, default=100)
    ask.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = ask.parse_args()
    model, config = read_model(given.model)
    ids = read_tokens(given.tokens, given.texts)
    cut = len(ids) * 4 // 5
    train, test = batches(ids[:cut]), batches(ids[cut:])[:40]
    how = Int4(group=given.group)
    layers = int4_layers(model, how)
    linear = sum(model.get_submodule(name).weight.numel() for name in layers)
    print(f"{len(layers)} layers, {linear} of {sum(p.numel() for p in model.parameters())} weights")
    print(f"float32: perplexity {perplexity(model, test):.4f}")
    print(f"int4, rounded: perplexity {perplexity(fake_int4(model, how), test):.4f}", flush=True)
    teacher = ModuleTeacher(deepcopy(model), CausalLM())
    settings = TrainSettings(lr=3e-4)
    for name, source, objective in (
        ("the model before", teacher, KD(temperature=1)),
        ("texts alone", None, CrossEntropy()),
    ):
        found = []
        for seed in given.seeds:
            student = fake_int4(model, how)
            distiller = Distiller(
                student, source, objective=objective, task=CausalLM(), settings=settings
            )
            distiller.prepare(train[0])
            distiller.plan_steps(given.steps)
            order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
            for index in order[: given.steps].tolist():
                distiller.step(train[index])
            found.append(perplexity(student, test))
        shown = f"{np.mean(found):.4f} ± {np.std(found, ddof=1) if len(found) > 1 else 0:.4f}"
        print(f"int4, trained with {name}: perplexity {shown}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        whole = save_model(model, config, Path(folder) / "float").stat().st_size
        packed = save_int4(student, config, Path(folder) / "int4").stat().st_size
    print(f"bytes: float32 {whole}, int4 {packed}")


if __name__ == "__main__":
    main()
