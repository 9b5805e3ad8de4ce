"""Terms on maps and tokens beside labels, on 8×8 digits: accuracy against labels alone.

One convolutional teacher (`cnn`, width 32) is trained; then a convolutional student (`cnn`, width
4) learns with labels alone, with `KD`, and with each term, all with the same steps, learning rate
and seeds, and the last epoch counts. Weights are the papers' or make the term's first value about
1; nothing is tuned. The table gives mean test accuracies and the mean difference from labels alone
with its 95% interval (Student's t, paired by seed). For `simkd` the difference is from the same
architecture, projector and classifier included, on labels alone.

`python bench/map_terms.py [SEEDS]`, 5 seeds if left out.
"""

import math
import os
import statistics
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from scipy import stats
from torch import nn

from potstill.build import build
from potstill.data import DataSet
from potstill.losses import (
    CWD,
    KD,
    MGD,
    OFA,
    PKD,
    VID,
    ActivationBoundaries,
    CrossEntropy,
    FactorTransfer,
    Hint,
    Objective,
    OFAExits,
    Review,
    SimKD,
    ViTKD,
)
from potstill.losses.objective import objective_of
from potstill.models import ModelConfig, ReusedHead, create_model
from potstill.pipeline import Learning
from potstill.protocols import Term
from potstill.recipe import parse
from potstill.runtime.environment import processor_name
from potstill.runtime.fabric import Runtime
from potstill.tasks import Classification
from potstill.teachers import ModuleTeacher
from potstill.train import Distiller, Select, TrainSettings

LAST, ALL = ("layer3", "layer3"), ("layer1", "layer2", "layer3")
CE = CrossEntropy()
OBJECTIVES = {
    "labels alone": objective_of(CE),
    "kd": 0.1 * CE + 0.9 * KD(temperature=4),
    "hint": CE + Hint(*LAST),
    "vid": CE + VID(*LAST),
    "factor_transfer": CE + 0.2 * FactorTransfer(*LAST),
    "activation_boundaries": CE + 3e-3 * ActivationBoundaries(*LAST),
    "review": CE + Review((*ALL, "pool"), (*ALL, "pool")),
    "pkd": CE + 6 * PKD(*LAST),
    "cwd": CE + 10 * CWD(*LAST),
    "mgd": CE + 7e-5 * MGD(*LAST),
    "vitkd": CE + ViTKD(ALL, ALL, alpha=3e-5, beta=3e-5),
    "ofa": CE + OFA(),
    "ofa and exits": CE + OFA() + OFAExits(ALL),
    "simkd": objective_of(SimKD("transfer", "layer3")),
}
SETTINGS = TrainSettings(epochs=20, batch_size=64, lr=3e-3, select=Select.LAST, validate_every=20)


def digits() -> DataSet:
    data = {"source": "builtin", "name": "digits", "validation": 0.1, "test": 0.35}
    mlp = {"model": {"source": "builtin", "name": "mlp"}}
    recipe = {"name": "x", "data": data, "teacher": {**mlp, "train": {}}, "student": mlp}
    return build(parse(recipe)).data


def model(width: int, seed: int) -> nn.Module:
    config = ModelConfig(
        source="builtin",
        name="cnn",
        options={"width": width, "depth": 3},
        input_shape=(1, 8, 8),
        num_outputs=10,
    )
    return create_model(config, seed=seed)


def trained(
    student: nn.Module,
    objective: Objective | Term,
    data: DataSet,
    seed: int,
    teacher: ModuleTeacher | None = None,
) -> nn.Module:
    learning = Learning(settings=SETTINGS)
    distiller = Distiller(
        student,
        teacher,
        objective=objective,
        task=Classification(),
        settings=SETTINGS,
        runtime=Runtime(device="cpu"),
    )
    return distiller.fit(
        learning.feed(data.train, data, seed=seed, device="cpu"), seed=seed
    ).student


def accuracy(student: nn.Module, data: DataSet) -> float:
    with torch.no_grad():
        chosen = student(data.normalise(data.test.inputs)).argmax(dim=1)
    return 100 * float((chosen == data.test.labels).double().mean())


def main(seeds: int) -> None:
    data = digits()
    big = trained(model(32, 0), CE, data, 0)
    teacher = ModuleTeacher(big, Classification())
    print(f"{processor_name()}, torch {torch.__version__}, one thread, {seeds} seeds")
    print(f"teacher {accuracy(big, data):.2f} %, {sum(p.numel() for p in big.parameters()):,}")
    found: dict[str, list[float]] = {}
    for name, objective in {**OBJECTIVES, "simkd's control": objective_of(CE)}.items():
        for seed in range(seeds):
            student = model(4, seed)
            if name.startswith("simkd"):
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(seed)
                    student = ReusedHead(student, width=128, num_outputs=10, input_shape=(1, 8, 8))
                if name == "simkd":
                    student.adopt(big)
            taught_by = None if name in ("labels alone", "simkd's control") else teacher
            made = trained(student, objective, data, seed, taught_by)
            found.setdefault(name, []).append(accuracy(made, data))
        shipped = sum(p.numel() for p in made.parameters())
        print(
            f"{name:22s} {statistics.mean(found[name]):6.2f} % {shipped:7,} parameters", flush=True
        )
    print("\n| term | accuracy | against labels alone |\n|---|---|---|")
    for name, values in found.items():
        against = found["simkd's control" if name == "simkd" else "labels alone"]
        print(f"| {name} | {statistics.mean(values):.2f} % | {difference(values, against)} |")


def difference(values: list[float], against: list[float]) -> str:
    gaps = [a - b for a, b in zip(values, against, strict=True)]
    mean = statistics.mean(gaps)
    if len(gaps) < 2 or not any(gaps):
        return f"{mean:+.2f}"
    half = float(stats.t.ppf(0.975, len(gaps) - 1)) * statistics.stdev(gaps) / math.sqrt(len(gaps))
    return f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f})"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
