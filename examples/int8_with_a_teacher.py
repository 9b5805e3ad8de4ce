"""What int8 costs a depthwise network, and what of it training with a teacher brings back.

    python examples/int8_with_a_teacher.py fashion_mnist.npz --rows 12000 --seeds 0 1 2

With `--labelled 500` only the first 500 rows have labels when int8 is trained, as for whoever
squeezes a model that was trained elsewhere: labels alone see those as many times as makes equal
steps, and the student before it was quantised teaches on all rows.

The file has `x_train`, `y_train`, `x_test`, `y_test` as Keras writes them; `digits` instead of a
file are those of scikit-learn. Needs the extra `compress`.
"""

import argparse
import time
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from potstill import KD, CrossEntropy, Distiller, ModuleTeacher, TensorBatches, TrainSettings
from potstill.compress.fake_quantised import FakeQuantised, Int8
from potstill.compress.qat import inputs_of, train_quantised
from potstill.tasks import Classification

OBJECTIVE = 0.9 * KD(temperature=4) + 0.1 * CrossEntropy()
SAME_AGAIN = KD(temperature=2)


def layer(inside: int, out: int, *, stride: int = 1, groups: int = 1, kernel: int = 1) -> list:
    conv = nn.Conv2d(inside, out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out), nn.ReLU()]


def separable(inside: int, out: int, *, stride: int = 1) -> list:
    """Depthwise 3x3, then 1x1: Howard et al. 2017, arXiv:1704.04861."""
    return [
        *layer(inside, inside, stride=stride, groups=inside, kernel=3),
        *layer(inside, out),
    ]


def small() -> nn.Sequential:
    parts = [*layer(1, 16, stride=2, kernel=3), *separable(16, 32), *separable(32, 64, stride=2)]
    parts += [*separable(64, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*parts)


def large() -> nn.Sequential:
    parts = [*layer(1, 32, stride=2, kernel=3), *layer(32, 64, kernel=3)]
    parts += [nn.MaxPool2d(2), *layer(64, 128, kernel=3)]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


def read(path: str, rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if path == "digits":
        images, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(labels))
        x = torch.tensor(images[order], dtype=torch.float32).reshape(-1, 1, 8, 8) / 8 - 1
        y = torch.from_numpy(labels[order]).long()
        return x[:1000], y[:1000], x[1000:], y[1000:]
    with np.load(path) as arrays:
        x, y, x_test, y_test = (
            torch.from_numpy(arrays[name]) for name in ("x_train", "y_train", "x_test", "y_test")
        )
    x, x_test = (((v.float() / 255 - 0.2860) / 0.3530).unsqueeze(1) for v in (x, x_test))
    return x[:rows], y[:rows].long(), x_test, y_test.long()


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        said = torch.cat([model.eval()(part).argmax(1) for part in x.split(1000)])
    return 100 * float((said == y).float().mean())


def uneven(model: nn.Module, octaves: float, seed: int) -> None:
    """Scale channels before each depthwise convolution, and its weights back: the same function.

    Networks that were trained long have such channels, which leave each other no room on a grid:
    Nagel et al. 2019, arXiv:1906.04721, section 3.1.
    """
    draws = torch.Generator().manual_seed(seed)
    parts = list(model)
    for norm, following in zip(parts[1:], parts[3:], strict=False):
        if isinstance(norm, nn.BatchNorm2d) and getattr(following, "groups", 1) > 1:
            factor = 2 ** (octaves * (2 * torch.rand(norm.num_features, generator=draws) - 1))
            with torch.no_grad():
                norm.weight *= factor
                norm.bias *= factor
                following.weight /= factor.reshape(-1, 1, 1, 1)


def prepared(like: FakeQuantised, model: nn.Module, train: TensorBatches) -> FakeQuantised:
    """A student quantised after training; graphs of one shape are captured once."""
    student = deepcopy(like)
    student.restore(model.state_dict(), student.ranges())
    student.calibrate(inputs_of(train, count=8))
    return student


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("data")
    ask.add_argument("--rows", type=int, default=12000)
    ask.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    ask.add_argument("--epochs", type=int, default=8)
    ask.add_argument("--short", type=int, default=2, help="epochs in int8")
    ask.add_argument("--rate", type=float, default=5e-4, help="peak learning rate in int8")
    ask.add_argument("--freeze-after", type=float, default=0.7, help="share of the steps")
    ask.add_argument("--labelled", type=int, default=0, help="rows with a label in int8; all if 0")
    ask.add_argument("--uneven", type=float, default=0.0, help="octaves, up and down")
    given = ask.parse_args()
    x, y, x_test, y_test = read(given.data, given.rows)
    task = Classification()
    settings = TrainSettings(epochs=given.epochs, batch_size=64, lr=3e-3)
    short = replace(settings, epochs=given.short, lr=given.rate)
    channel = FakeQuantised(small(), x[:64])
    tensor = FakeQuantised(
        small(), x[:64], how=Int8(per_channel=False, freeze_after=given.freeze_after)
    )

    torch.manual_seed(0)
    teacher_net = large()
    Distiller(teacher_net, settings=settings).fit(TensorBatches(x, y, batch_size=64))
    teacher = ModuleTeacher(teacher_net.eval(), task)
    print(f"teacher {accuracy(teacher_net, x_test, y_test):.2f}", flush=True)
    lines = []
    for seed in given.seeds:
        began = time.monotonic()
        torch.manual_seed(seed)
        train = TensorBatches(x, y, batch_size=64, seed=seed)
        student = small()
        Distiller(student, teacher, objective=OBJECTIVE, settings=settings).fit(train, seed=seed)
        uneven(student, given.uneven, seed)
        start = prepared(tensor, student, train)
        ways = {
            "float32": student,
            "int8 after training, a scale a channel": prepared(channel, student, train),
            "int8 after training, a scale a tensor": start,
        }
        few = given.labelled or len(x)
        labelled = TensorBatches(x[:few], y[:few], batch_size=64, seed=seed)
        rounds = -(-given.short * train.num_batches // labelled.num_batches)
        ways["the same, trained on labels"] = train_quantised(
            deepcopy(start), train=labelled, settings=replace(short, epochs=rounds), seed=seed
        ).student
        ways["the same, trained with the teacher"] = train_quantised(
            deepcopy(start),
            ModuleTeacher(student.eval(), task) if given.labelled else teacher,
            train=train,
            objective=SAME_AGAIN if given.labelled else OBJECTIVE,
            settings=short,
            seed=seed,
        ).student
        figures = {name: accuracy(model, x_test, y_test) for name, model in ways.items()}
        lines.append(figures)
        shown = ", ".join(f"{name} {value:.2f}" for name, value in figures.items())
        print(f"seed {seed}: {shown} ({time.monotonic() - began:.0f} s)", flush=True)
    for name in lines[0]:
        values = np.array([line[name] for line in lines])
        spread = values.std(ddof=1) if len(lines) > 1 else 0.0
        print(f"{name}: {values.mean():.2f} ± {spread:.2f}")


if __name__ == "__main__":
    main()
