"""A step of distilling a sentence encoder: Potstill beside plain PyTorch and Sentence Transformers.

A BERT of 6 layers teaches one of 3, both 384 wide with random weights, by squared error of
normalised embeddings; all get the same tokens, weights and optimiser (AdamW), on one thread, in
turns. Sentence Transformers learns, as its documentation has it, from embeddings that the teacher
gave before; so does Potstill from a store.
`python bench/embedding_step.py [--turns 9] [--clock cpu]`.
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor, nn

from potstill import Batch, Distiller, ModuleTeacher, TrainSettings
from potstill.losses import EmbeddingMSE
from potstill.models.pooling import Pooling
from potstill.models.sentence import SentenceEncoder
from potstill.protocols import Offers, Teacher
from potstill.runtime.environment import processor_name
from potstill.runtime.fabric import Runtime
from potstill.signals import Signals
from potstill.tasks import Embedding
from potstill.train.pace import EXACT_PACE, Pace

VOCABULARY, TEXTS, LENGTH, LR = 30_522, 64, 48, 1e-4
Step = Callable[[], object]


def encoder(layers: int, seed: int) -> SentenceEncoder:
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=384, num_hidden_layers=layers, num_attention_heads=12,
        intermediate_size=1536, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return SentenceEncoder(BertModel(config), pooling=Pooling.MEAN, normalise=True)


def tokens() -> Batch:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, VOCABULARY, (TEXTS, LENGTH), generator=generator)
    return Batch(inputs=torch.stack([ids, torch.ones_like(ids)], dim=1))


def plain(teacher: nn.Module, student: nn.Module, batch: Batch) -> Step:
    optimizer = torch.optim.AdamW(student.parameters(), lr=LR, weight_decay=0.0)

    def step() -> Tensor:
        optimizer.zero_grad()
        with torch.no_grad():
            wanted = teacher(batch.inputs)
        loss = (student(batch.inputs) - wanted).square().sum(-1).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


class Kept(Teacher):
    """What a store does, without its files: the embeddings given before."""

    def __init__(self, teacher: Teacher, batch: Batch) -> None:
        self._offers, self._said = teacher.offers(), teacher.signals(batch)

    def offers(self) -> Offers:
        return self._offers

    def fingerprint(self) -> str:
        return "kept"

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        return self._said


def ours(teacher: Teacher, student: nn.Module, batch: Batch, pace: Pace) -> Step:
    distiller = Distiller(
        student,
        teacher,
        objective=EmbeddingMSE(),
        task=Embedding(),
        settings=TrainSettings(lr=LR, weight_decay=0.0),
        runtime=Runtime(device="cpu"),
        pace=pace,
    )
    return lambda: distiller.step(batch)


def sentence_transformers(teacher: nn.Module, student: SentenceEncoder, batch: Batch) -> Step:
    """`SentenceTransformer` with its own pooling and `MSELoss` on embeddings given before."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.losses import MSELoss
    from sentence_transformers.sentence_transformer.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling as TheirPooling
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    with tempfile.TemporaryDirectory(prefix="potstill-bench-") as folder:
        student.model.save_pretrained(folder)  # type: ignore[operator]  # a model of Transformers
        words = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1}, unk_token="[UNK]"))
        PreTrainedTokenizerFast(
            tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]"
        ).save_pretrained(Path(folder))
        body = Transformer(folder)
        model = SentenceTransformer(modules=[body, TheirPooling(384), Normalize()], device="cpu")
    with torch.no_grad():
        wanted = teacher(batch.inputs)
    model.train()
    loss_of = MSELoss(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0)
    ids, mask = batch.inputs.unbind(1)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = 384 * loss_of([{"input_ids": ids, "attention_mask": mask}], wanted)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    options = parser.parse_args()
    torch.set_num_threads(1)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    teacher, student, batch = encoder(6, 0).eval().requires_grad_(False), encoder(3, 1), tokens()
    live = ModuleTeacher(teacher, Embedding())
    kept, fused = Kept(live, batch), Pace(fused=True)
    ways: dict[str, Step] = {
        "plain PyTorch, live teacher": plain(teacher, deepcopy(student).train(), batch),
        "Potstill, exact, live": ours(live, deepcopy(student), batch, EXACT_PACE),
        "Potstill, auto, live": ours(live, deepcopy(student), batch, fused),
        "Potstill, auto, kept answers": ours(kept, deepcopy(student), batch, fused),
    }
    versions = [f"python {platform.python_version()}", f"torch {torch.__version__}"]
    try:
        rival = sentence_transformers(teacher, deepcopy(student), batch)
        ways["Sentence Transformers, embeddings given before"] = rival
        versions.append(f"sentence-transformers {metadata.version('sentence-transformers')}")
    except ImportError as error:
        print(f"Sentence Transformers does not run here: {error}")
    print(f"{processor_name()}, 1 thread, {', '.join(versions)}")
    print(f"{TEXTS} texts of {LENGTH} tokens, {options.turns} turns, {options.clock} clock\n")
    losses = {name: step() for name, step in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.turns):
        for name, step in ways.items():
            started = clock()
            step()
            times[name].append(clock() - started)
    base = times["plain PyTorch, live teacher"]
    print("| way | ms a step | times as fast as the first | first loss |\n|---|---|---|---|")
    for name, each in times.items():
        ratio = statistics.median(a / b for a, b in zip(base, each, strict=True))
        said = losses[name]
        loss = said["loss"] if isinstance(said, dict) else said
        ms = 1000 * statistics.median(each)
        print(f"| {name} | {ms:.0f} | {ratio:.2f} | {float(loss):.4f} |")  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
