"""A step of distilling a language model: Potstill beside TRL's trainers and DistillKit's loss.

Llama-like models of random weights over a vocabulary of 32,000; every position is asked. All take
the same models, tokens, optimiser and divergence (forward KL), on one thread; each turn of each way
is a process of its own, in turns. Seconds are those the processor spent on a step, tokens a second
follow from them; peak memory is beyond models, gradients and optimiser states.
`python bench/language_step.py [--turns 3] [--ways …]`.
"""

import argparse
import importlib
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from types import SimpleNamespace
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from _memory import CannotRun, peak, start
from torch import Tensor

from potstill import KD, Batch, CrossEntropy, Distiller, ModuleTeacher, TrainSettings
from potstill.models.language import LanguageModel
from potstill.protocols import LogitKind, Offers, Teacher
from potstill.runtime.environment import processor_name
from potstill.runtime.fabric import Runtime
from potstill.signals import Signals, SparseLogits
from potstill.tasks import CausalLM

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CLOCK = time.perf_counter if DEVICE == "cuda" else time.process_time
OURS = "Potstill, live teacher"
Step = Callable[[], object]


@dataclass
class Problem:
    """Models and tokens; `batch` and `plain` say the same to Potstill and to the others."""

    teacher: Any
    student: Any
    batch: Batch
    plain: dict[str, Tensor]
    kept: int

    @property
    def tokens(self) -> int:
        """How many are predicted."""
        labels = self.batch.labels
        return 0 if labels is None else int((labels >= 0).sum())


def make(options: argparse.Namespace) -> Problem:
    from transformers import LlamaConfig, LlamaForCausalLM

    def model(width: int, layers: int, seed: int) -> LlamaForCausalLM:
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=options.vocabulary, hidden_size=width, num_hidden_layers=layers,
            intermediate_size=4 * width, num_attention_heads=width // 64,
            max_position_embeddings=options.length,
        )  # fmt: skip
        return LlamaForCausalLM(config).to(DEVICE)

    torch.manual_seed(2)
    ids = torch.randint(0, options.vocabulary, (options.texts, options.length), device=DEVICE)
    planes = torch.stack([ids, torch.ones_like(ids)], dim=1)
    following = torch.cat([ids[:, 1:], torch.full_like(ids[:, :1], -100)], dim=1)
    return Problem(
        teacher=model(options.teacher_width, 4, 0).eval().requires_grad_(False),
        student=model(options.width, 2, 1).train(),
        batch=Batch(inputs=planes, labels=following),
        plain={"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids},
        kept=options.kept,
    )


def _ours(problem: Problem, teacher: Teacher | None) -> Step:
    distiller = Distiller(
        LanguageModel(problem.student),
        teacher,
        objective=CrossEntropy() if teacher is None else KD(temperature=1),
        task=CausalLM(),
        settings=TrainSettings(weight_decay=0.0),
        runtime=Runtime(device=DEVICE),
    )
    return lambda: distiller.step(problem.batch)


def live(problem: Problem) -> Step:
    return _ours(problem, ModuleTeacher(LanguageModel(problem.teacher), CausalLM()))


class Kept(Teacher):
    """What a store does, without its files: the likeliest tokens of each row and their tail."""

    def __init__(self, problem: Problem) -> None:
        said = ModuleTeacher(LanguageModel(problem.teacher), CausalLM()).signals(problem.batch)
        assert said.logits is not None
        with torch.no_grad():
            logprobs = said.logits.dense().float().log_softmax(-1)  # type: ignore[union-attr]
        values, ids = logprobs.topk(problem.kept)
        tail = (1 - values.exp().sum(-1)).clamp_min(0)
        self._said = Signals(logits=SparseLogits(ids, values, tail, logprobs.shape[1], 1.0))

    def offers(self) -> Offers:
        return Offers(logits=LogitKind.SPARSE)

    def fingerprint(self) -> str:
        return "kept"

    def signals(self, batch: Batch, *, layers: object = ()) -> Signals:
        return self._said


def stored(problem: Problem) -> Step:
    return _ours(problem, Kept(problem))


def control(problem: Problem) -> Step:
    return _ours(problem, None)


def _plainly(problem: Problem, loss_of: Callable[[], Tensor]) -> Step:
    optimizer = torch.optim.AdamW(problem.student.parameters(), lr=1e-3, weight_decay=0.0)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def trl_gkd(problem: Problem) -> Step:
    """`GKDTrainer.compute_loss` off-policy, without the rest of the trainer."""
    trainer = _module("trl.experimental.gkd").GKDTrainer
    itself = SimpleNamespace(
        teacher_model=problem.teacher, beta=0.0, generalized_jsd_loss=trainer.generalized_jsd_loss
    )
    tokens = torch.tensor(problem.tokens)
    return _plainly(
        problem,
        lambda: trainer.compute_loss(
            itself, problem.student, problem.plain, num_items_in_batch=tokens
        ),
    )


def trl_chunked(problem: Problem) -> Step:
    """The loss of `DistillationTrainer`: hidden states, then its chunks of the vocabulary."""
    trainer = _module("trl.trainer.distillation_trainer")

    def loss_of() -> Tensor:
        given = {k: problem.plain[k] for k in ("input_ids", "attention_mask")}
        mine = problem.student.model(**given, use_cache=False).last_hidden_state[:, :-1]
        with torch.no_grad():
            theirs = problem.teacher.model(**given, use_cache=False).last_hidden_state[:, :-1]
        heads = (m.get_output_embeddings().weight for m in (problem.student, problem.teacher))
        mask = torch.ones(mine.shape[:2], device=mine.device)
        return torch.as_tensor(trainer._chunked_divergence_loss(mine, theirs, *heads, mask, 0.0)[0])

    return _plainly(problem, loss_of)


def distillkit(problem: Problem) -> Step:
    """DistillKit's dense KL on the logits of both models."""
    loss = _module("distillkit.lossfuncs.kl").KLDLoss(temperature=1.0)
    signals = _module("distillkit.signals")

    def loss_of() -> Tensor:
        given = {k: problem.plain[k] for k in ("input_ids", "attention_mask")}
        said = problem.student(**given, use_cache=False)
        with torch.no_grad():
            heard = problem.teacher(**given, use_cache=False).logits
        dense = signals.DenseSignal(
            generation_temperature=1.0, hidden_states=None, vocab_size=heard.shape[-1], logits=heard
        )
        mask = torch.ones(heard.shape[:2], device=heard.device)
        mask[:, -1] = 0  # the last position predicts nothing
        return torch.as_tensor(loss(said, dense, mask=mask))

    return _plainly(problem, loss_of)


WAYS: dict[str, Callable[[Problem], Step]] = {
    OURS: live,
    "Potstill, kept answers": stored,
    "Potstill, no teacher": control,
    "TRL GKDTrainer": trl_gkd,
    "TRL DistillationTrainer": trl_chunked,
    "DistillKit, dense KL": distillkit,
}


def _module(name: str) -> Any:  # noqa: ANN401  (a package of others)
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise CannotRun(f"{name.split('.')[0]} is not installed ({error})") from error


def measured(options: argparse.Namespace) -> tuple[float, float, float]:
    """Seconds of a step, bytes beyond what any step of these models needs, and the loss."""
    problem = make(options)
    step = WAYS[options.child](problem)
    loss = step()  # optimiser states and gradients are there from here on
    if isinstance(loss, dict):
        loss = loss["loss"]
    before = start(DEVICE)
    times = []
    for _ in range(options.steps):
        started = CLOCK()
        step()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        times.append(CLOCK() - started)
    return statistics.median(times), peak(DEVICE) - before, float(torch.as_tensor(loss))


def main() -> None:
    options = _options()
    if options.child:
        torch.set_num_threads(1)
        try:
            print(*measured(options))
        except CannotRun as reason:
            sys.exit(str(reason))
        return
    packages = ("torch", "transformers", "trl")
    versions = ", ".join(f"{package} {metadata.version(package)}" for package in packages)
    print(f"{processor_name()}, 1 thread, python {platform.python_version()}, {versions}")
    print(
        f"{options.texts} × {options.length} tokens, vocabulary {options.vocabulary}, teacher of "
        f"width {options.teacher_width} and 4 layers, student {options.width} and 2, "
        f"{options.turns} turns\n"
    )
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in options.ways}
    for _ in range(options.turns):
        for name in list(found):
            try:
                found[name].append(in_a_child(name))
            except CannotRun as reason:
                print(f"{name} does not run here: {reason}")
                del found[name]
    show(found, options)


def in_a_child(name: str) -> tuple[float, float, float]:
    command = [sys.executable, __file__, *sys.argv[1:], "--child", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotRun((done.stderr.strip().splitlines() or ["it was killed"])[-1][:200])
    seconds, extra, loss = map(float, done.stdout.split()[-3:])
    return seconds, extra, loss


def show(found: dict[str, list[tuple[float, float, float]]], options: argparse.Namespace) -> None:
    tokens = options.texts * (options.length - 1)
    ours = found[OURS]
    print("| way | s a step | tokens/s | Potstill is faster | peak, MB | Potstill's share | loss |")
    print("|---|---|---|---|---|---|---|")
    for name, each in found.items():
        seconds, extra, loss = (statistics.median(column) for column in zip(*each, strict=True))
        pairs = list(zip(each, ours, strict=True))
        faster = statistics.median(a[0] / b[0] for a, b in pairs)
        share = statistics.median(b[1] / a[1] for a, b in pairs)
        print(
            f"| {name} | {seconds:.2f} | {tokens / seconds:.0f} | {faster:.2f}× | "
            f"{extra / 1e6:.0f} | {share:.2f} | {loss:.4f} |"
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--texts", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--teacher-width", type=int, default=256)
    parser.add_argument("--kept", type=int, default=50)
    parser.add_argument("--ways", nargs="*", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
