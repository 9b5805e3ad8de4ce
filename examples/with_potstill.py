"""The training of `plain_pytorch.py` in five lines of Potstill; the weights are the same."""

import sys
from pathlib import Path

import torch

from potstill import KD, CrossEntropy, Distiller, ModuleTeacher, TensorBatches, TrainSettings
from potstill.tasks import Classification

sys.path.insert(0, str(Path(__file__).parent))
import plain_pytorch as plain


def main() -> None:
    inputs, labels = plain.digits()
    x, y = inputs[:1400], labels[:1400]
    model = plain.train(plain.mlp(64, 256, 256, 10), None, x, y, epochs=20)
    student = plain.mlp(64, 16, 10, seed=1)

    teacher = ModuleTeacher(model, Classification())
    objective = 0.9 * KD(temperature=4) + 0.1 * CrossEntropy()
    settings = TrainSettings(epochs=plain.EPOCHS, lr=plain.RATE)
    distiller = Distiller(student, teacher, objective=objective, settings=settings)
    student = distiller.fit(TensorBatches(x, y, batch_size=plain.BATCH)).student

    with torch.no_grad():
        right = (student(inputs[1400:]).argmax(-1) == labels[1400:]).float().mean()
    print(f"student: {right:.1%} of the test digits")


if __name__ == "__main__":
    main()
