"""A training step with a live teacher, in many ways: milliseconds, and ratios taken in turns.

resnet32x4 teaches resnet8x4 at batch 64. All ways get the same batches, loss, optimiser, threads:

- plain: the loop of `examples/plain_pytorch.py`, float32;
- every switch: the same with what timm's training script switches on: bfloat16 autocast,
  channels_last, both models compiled;
- the loops of timm and torchdistill (`_step_rivals.py`), where they are installed;
- Potstill `exact`, and `auto` (what it chose is printed first);
- Potstill `auto` with a teacher that only looks its answers up, as from a store;
- Potstill `auto` with no teacher: the labels alone.

`--images FILE.npz` (x_train `[N, 3, 32, 32]` uint8, y_train): real images instead of noise.
`--weights FILE`: of the teacher; without it, its last layer is fitted to the images in closed form.
`--clock cpu` counts the seconds that the processor spent, for a machine that is busy otherwise.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from _step_rivals import ABSENT, RIVALS, Step
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from potstill import KD, Batch, CrossEntropy, Distiller, ModuleTeacher, Signals, TrainSettings
from potstill.errors import PotstillError
from potstill.models import ModelConfig, create_model
from potstill.protocols import Offers, Teacher
from potstill.runtime.environment import processor_name
from potstill.runtime.fabric import Runtime
from potstill.runtime.fast import Machine
from potstill.runtime.fast.trials import table
from potstill.tasks import Classification
from potstill.teachers.fast import Request, hasten
from potstill.train.pace import EXACT_PACE, Pace
from potstill.train.pacing import Stint, choose_pace

CLASSES, TEMPERATURE, SOFT = 100, 4.0, 0.9
TASK = Classification()
OBJECTIVE = SOFT * KD(temperature=TEMPERATURE) + (1 - SOFT) * CrossEntropy()


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batches = [b.to(device) for b in _batches(options)]
    teacher = _teacher(options, batches).to(device)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    _say_where(options, device)
    runtime = Runtime(device=device.type)
    pace, fast = _chosen(options, teacher, batches, runtime)
    ways = {
        "plain PyTorch loop": _plain(options, teacher, batches, every_switch=False),
        "the same with every switch on": _plain(options, teacher, batches, every_switch=True),
        "Potstill, exact": _ours(
            options, ModuleTeacher(teacher, TASK), EXACT_PACE, batches, runtime
        ),
        "Potstill, auto": _ours(options, fast, pace, batches, runtime),
        "Potstill, auto, stored answers": _ours(
            options, LookUp(fast, batches), pace, batches, runtime
        ),
        "Potstill, auto, no teacher": _ours(options, None, pace, batches, runtime),
    }
    student = _model(options.student, seed=1).to(device).train()
    for name, rival in RIVALS.items():
        ways[name] = _later(rival, teacher, deepcopy(student), batches, TEMPERATURE, SOFT)
    if options.only:
        ways = {name: step for name, step in ways.items() if any(o in name for o in options.only)}
    _print(_measured(ways, options.turns, clock, device))
    _say_floor(options, batches[0], clock)
    for name, why in ABSENT.items():
        print(f"\n{name} does not run here: {why}")


def _later(make: Callable[..., Step], *given: object) -> Step:
    """The step that `make` gives, made when it is first asked for; absent libraries raise then."""
    made: list[Step] = []

    def step(number: int) -> object:
        if not made:
            made.append(make(*given))
        return made[0](number)

    return step


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--teacher", default="resnet32x4")
    parser.add_argument("--student", default="resnet8x4")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--steps", type=int, default=100_000, help="planned, for the choice")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--only", nargs="*", help="ways whose name has one of these words")
    return parser.parse_args()


def _model(name: str, *, seed: int) -> nn.Module:
    config = ModelConfig(
        source="builtin", name=name, options={}, input_shape=(3, 32, 32), num_outputs=CLASSES
    )
    return create_model(config, seed=seed)


def _batches(options: argparse.Namespace, number: int = 8) -> list[Batch]:
    rows = number * options.batch
    if options.images is None:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(rows, 3, 32, 32, generator=generator)
        y = torch.randint(0, CLASSES, (rows,), generator=generator)
    else:
        with np.load(options.images, allow_pickle=False) as content:
            x = torch.from_numpy(content["x_train"][:rows]).float() / 255
            y = torch.from_numpy(content["y_train"][:rows]).long()
        x = (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)
    parts = zip(x.split(options.batch), y.split(options.batch), strict=True)
    return [Batch(inputs=a.contiguous(), labels=b) for a, b in parts]


def _teacher(options: argparse.Namespace, batches: Sequence[Batch]) -> nn.Module:
    """With weights that are given, or sure of the labels of these images (ridge regression)."""
    model = _model(options.teacher, seed=0)
    if options.weights is not None:
        model.load_state_dict(torch.load(options.weights, weights_only=True))
        return model.eval().requires_grad_(False)
    model.to(batches[0].inputs.device)
    assert isinstance(model, nn.Sequential), "builtin networks end in `fc`"
    body, head = model[:-1], model[-1]
    assert isinstance(head, nn.Linear), "the last layer"
    with torch.no_grad():
        for norm in (m for m in body.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.momentum = None  # the mean over all batches
        for batch in batches:
            body.train()(batch.inputs)
        features = torch.cat([body.eval()(batch.inputs) for batch in batches]).double()
        labels = torch.cat([b.labels for b in batches if b.labels is not None])
        centre = features.mean(0)
        gram = (features - centre).T @ (features - centre)
        gram += 0.1 * gram.diagonal().mean() * torch.eye(len(gram), device=gram.device)
        wanted = 15.0 * F.one_hot(labels, CLASSES).double()
        weight = torch.linalg.solve(gram, (features - centre).T @ wanted)
        head.weight.copy_(weight.T)
        head.bias.copy_(wanted.mean(0) - centre @ weight)
    return model.eval().requires_grad_(False)


def _chosen(
    options: argparse.Namespace, teacher: nn.Module, batches: list[Batch], runtime: Runtime
) -> tuple[Pace, Teacher]:
    exact = ModuleTeacher(teacher, TASK)
    stint = Stint(
        student=_model(options.student, seed=1), teacher=exact, objective=OBJECTIVE, task=TASK,
        runtime=runtime, settings=TrainSettings(batch_size=options.batch), batches=batches[:2],
        steps=options.steps,
    )  # fmt: skip
    started = time.perf_counter()
    choice, pace = choose_pace(stint)
    fast, choices = hasten(exact, Request(task=TASK, batches=batches, steps=options.steps))
    for line in table([choice, *choices]):
        print(line)
    print(f"\nchosen in {time.perf_counter() - started:.0f} s\n")
    return pace, fast


class LookUp(Teacher):
    """What a store does, without its files: the rows of answers given before."""

    def __init__(self, teacher: Teacher, batches: Sequence[Batch]) -> None:
        self._teacher = teacher
        self._said = {b.inputs.data_ptr(): teacher.signals(b) for b in batches}

    def offers(self) -> Offers:
        return self._teacher.offers()

    def fingerprint(self) -> str:
        return self._teacher.fingerprint()

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        return self._said[batch.inputs.data_ptr()]


def _plain(
    options: argparse.Namespace,
    teacher: nn.Module,
    batches: Sequence[Batch],
    *,
    every_switch: bool,
) -> Step:
    device = batches[0].inputs.device
    student = _model(options.student, seed=1).to(device).train()
    learn, teach = student, teacher
    if every_switch:
        teacher = _model(options.teacher, seed=0)
        teacher.load_state_dict(teach.state_dict())
        teacher = teacher.to(device).eval().requires_grad_(False)
        student.to(memory_format=torch.channels_last)
        teacher.to(memory_format=torch.channels_last)
        learn, teach = torch.compile(student), torch.compile(teacher)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=0.0)

    def step(number: int) -> Tensor:
        batch = batches[number % len(batches)]
        x, y = batch.inputs, batch.labels
        if every_switch:
            x = x.contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=every_switch):
            logits = learn(x)
            with torch.no_grad():
                answers = teach(x)
        logits, answers = logits.float(), answers.float()
        q, p = F.log_softmax(logits / TEMPERATURE, -1), F.softmax(answers / TEMPERATURE, -1)
        soft = TEMPERATURE**2 * F.kl_div(q, p, reduction="batchmean")
        loss = SOFT * soft + (1 - SOFT) * F.cross_entropy(logits, y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def _ours(
    options: argparse.Namespace,
    teacher: Teacher | None,
    pace: Pace,
    batches: Sequence[Batch],
    runtime: Runtime,
) -> Step:
    distiller = Distiller(
        _model(options.student, seed=1),
        teacher,
        objective=CrossEntropy() if teacher is None else OBJECTIVE,
        task=TASK,
        settings=TrainSettings(batch_size=len(batches[0])),
        runtime=runtime,
        pace=pace,
    )
    return lambda number: distiller.step(batches[number % len(batches)])


def _measured(
    ways: dict[str, Step], turns: int, clock: Callable[[], float], device: torch.device
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {}
    for name, step in list(ways.items()):
        try:
            step(0), step(1)
            times[name] = []
        except (ImportError, RuntimeError, PotstillError) as error:
            print(f"{name} does not run here: {str(error).splitlines()[0]}")
    for turn in range(turns):
        for name in times:
            ways[name](turn)  # after another way had the caches and the threads
            started = clock()
            for number in range(2):
                ways[name](turn + number)
            if device.type == "cuda":
                torch.cuda.synchronize()
            times[name].append((clock() - started) / 2)
    return times


def _print(times: dict[str, list[float]]) -> None:
    base = times[next(iter(times))]
    print("| way | ms a step | times as fast as the first | middle half |")
    print("|---|---|---|---|")
    for name, each in times.items():
        ratios = sorted(b / t for b, t in zip(base, each, strict=True))
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        ms = 1000 * statistics.median(each)
        print(f"| {name} | {ms:.1f} | {statistics.median(ratios):.2f} | {low:.2f} to {high:.2f} |")
    for rival in ("the same with every switch on", *RIVALS):
        _ratio(times, rival, "Potstill, auto")
    _ratio(times, "Potstill, auto, stored answers", "Potstill, auto, no teacher")


def _ratio(times: dict[str, list[float]], one: str, other: str) -> None:
    if one in times and other in times:
        each = [a / b for a, b in zip(times[one], times[other], strict=True)]
        print(f"\n{one} / {other}: {statistics.median(each):.3f}")


def _say_floor(
    options: argparse.Namespace, batch: Batch, clock: Callable[[], float], side: int = 1024
) -> None:
    """How long the student's multiplications alone take, at the rate of a product of matrices."""
    student = _model(options.student, seed=1).to(batch.inputs.device)
    with FlopCounterMode(display=False) as counter:
        student(batch.inputs).sum().backward()
    flops = counter.get_total_flops()
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.ones(side, side, dtype=dtype, device=batch.inputs.device)
        times = []
        for _ in range(10):
            started = clock()
            (a @ a).sum().item()
            times.append(clock() - started)
        rate = 2 * side**3 / min(times)
        print(
            f"\na step of {options.student} has {flops / 1e9:.1f} GFLOP; {dtype} products reach "
            f"{rate / 1e9:.0f} GFLOP/s: {1000 * flops / rate:.0f} ms at least"
        )


def _say_where(options: argparse.Namespace, device: torch.device) -> None:
    machine = Machine.here(device)
    source = "noise" if options.images is None else options.images.name
    print(f"{processor_name()}; bf16 {machine.bf16}, 8-bit products {machine.int8}; on {device}")
    print(f"python {platform.python_version()}, {', '.join(machine.packages)}")
    print(
        f"{options.teacher} → {options.student}, batch {options.batch}, {source}, "
        f"{options.threads} threads, {options.turns} turns, {options.clock} clock\n"
    )


if __name__ == "__main__":
    main()
