"""Knowledge distillation of the digits in plain PyTorch: what a good engineer writes by hand.

`with_potstill.py` beside it does the same and ends with the same weights, bit for bit.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

EPOCHS, BATCH, RATE, TEMPERATURE = 30, 64, 3e-3, 4.0


def digits() -> tuple[Tensor, Tensor]:
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)


def mlp(*sizes: int, dropout: float = 0.0, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for width, following in pairwise(sizes):
        layers += [nn.Linear(width, following), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers[:-2])


def train(
    student: nn.Module,
    teacher: nn.Module | None,
    inputs: Tensor,
    labels: Tensor,
    *,
    seed: int = 0,
    epochs: int = EPOCHS,
    momentum: float | None = None,
    clip_norm: float | None = None,
) -> nn.Module:
    """Train on the labels, and on the teacher's softened answers if there is one."""
    optimizer: torch.optim.Optimizer
    if momentum is None:
        optimizer = torch.optim.AdamW(student.parameters(), lr=RATE, weight_decay=0.0)
    else:
        optimizer = torch.optim.SGD(student.parameters(), lr=RATE, momentum=momentum, nesterov=True)
    if teacher is not None:
        teacher.eval().requires_grad_(False)
    torch.manual_seed(seed)
    student.train()
    total = epochs * -(-len(inputs) // BATCH)
    step = 0
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(1_000_003 * seed + epoch)
        for rows in torch.randperm(len(inputs), generator=generator).split(BATCH):
            for group in optimizer.param_groups:
                group["lr"] = RATE * 0.5 * (1.0 + math.cos(math.pi * step / total))
            optimizer.zero_grad()
            logits = student(inputs[rows])
            loss = F.cross_entropy(logits, labels[rows])
            if teacher is not None:
                with torch.no_grad():
                    answers = teacher(inputs[rows])
                q = F.log_softmax(logits / TEMPERATURE, dim=-1)
                p = F.softmax(answers / TEMPERATURE, dim=-1)
                soft = TEMPERATURE**2 * F.kl_div(q, p, reduction="batchmean")
                loss = 0.9 * soft + 0.1 * loss
            loss.backward()
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(student.parameters(), clip_norm)
            optimizer.step()
            step += 1
    return student.eval()


def main() -> None:
    inputs, labels = digits()
    train_x, train_y, test_x, test_y = inputs[:1400], labels[:1400], inputs[1400:], labels[1400:]
    teacher = train(mlp(64, 256, 256, 10), None, train_x, train_y, epochs=20)
    student = train(mlp(64, 16, 10, seed=1), teacher, train_x, train_y)
    for name, model in (("teacher", teacher), ("student", student)):
        right = (model(test_x).argmax(-1) == test_y).float().mean()
        print(f"{name}: {right:.1%} of the test digits")


if __name__ == "__main__":
    main()
