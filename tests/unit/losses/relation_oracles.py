"""Terms on relations and statistics, written again from their papers by plain loops in float64."""

import math

import torch
from torch import Tensor

Rows = Tensor  # [B, D]


def distance(a: Tensor, b: Tensor) -> Tensor:
    return ((a - b) ** 2).sum() ** 0.5


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / ((a * a).sum() * (b * b).sum()) ** 0.5


def huber(d: Tensor) -> Tensor:
    return d * d / 2 if abs(float(d.detach())) <= 1 else abs(d) - 0.5


def similarity_preserving(student: Tensor, teacher: Tensor) -> Tensor:
    """arXiv:1907.09682, equations 1 to 4."""
    total, count = 0.0, len(student)

    def rows(x: Tensor) -> list[list[Tensor]]:
        gram = [[(a.flatten() * b.flatten()).sum() for b in x] for a in x]
        return [[g / sum(h * h for h in row) ** 0.5 for g in row] for row in gram]

    for mine, theirs in zip(rows(student), rows(teacher), strict=True):
        total = total + sum((a - b) ** 2 for a, b in zip(mine, theirs, strict=True))
    return total / count**2


def correlation_congruence(student: Rows, teacher: Rows) -> Tensor:
    """arXiv:1904.01802, equations 4 to 8: γ 0.4, order 2, vectors of length 1."""
    gamma, total, count = 0.4, 0.0, len(student)
    for i in range(count):
        for j in range(count):
            values = []
            for x in (student, teacher):
                dot = cosine(x[i], x[j])
                series = 1 + 2 * gamma * dot + (2 * gamma * dot) ** 2 / 2
                values.append(math.exp(-2 * gamma) * series)
            total = total + (values[0] - values[1]) ** 2
    return total / count**2


def rkd_distance(student: Rows, teacher: Rows) -> Tensor:
    """arXiv:1904.05068, equations 6 to 9, over B²."""
    count = len(student)
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    means = [sum(distance(x[i], x[j]) for i, j in pairs) / len(pairs) for x in (student, teacher)]
    total = 0.0
    for i, j in pairs:
        mine = distance(student[i], student[j]) / means[0]
        total = total + huber(mine - distance(teacher[i], teacher[j]) / means[1])
    return total / count**2


def rkd_angle(student: Rows, teacher: Rows) -> Tensor:
    """arXiv:1904.05068, equations 10 to 12, over B³."""
    count, total = len(student), 0.0
    for j in range(count):
        for i in range(count):
            for k in range(count):
                if len({i, j, k}) == 3:
                    mine, theirs = (cosine(x[i] - x[j], x[k] - x[j]) for x in (student, teacher))
                    total = total + huber(mine - theirs)
    return total / count**3


def pkt(student: Rows, teacher: Rows) -> Tensor:
    """arXiv:1803.10837, equations 3, 4 and 6, a mean over samples."""
    count, total = len(student), 0.0
    for i in range(count):
        others = [j for j in range(count) if j != i]
        p, q = ([(1 + cosine(x[i], x[j])) / 2 for j in others] for x in (teacher, student))
        for a, b in zip(p, q, strict=True):
            total = total + a / sum(p) * ((a / sum(p)) / (b / sum(q))).log()
    return total / count


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """arXiv:1612.03928, equation 2 without β/2, p = 2, equal grids."""
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        maps = [sum(channel**2 for channel in x).flatten() for x in (s, t)]
        mine, theirs = (m / (m**2).sum() ** 0.5 for m in maps)
        total = total + ((mine - theirs) ** 2).sum() ** 0.5
    return total / len(student)


def nst(student: Tensor, teacher: Tensor) -> Tensor:
    """arXiv:1707.01219, equations 5 and 7: d 2, c 0, equal grids."""

    def mean_kernel(one: Tensor, other: Tensor) -> Tensor:
        values = [cosine(a.flatten(), b.flatten()) ** 2 for a in one for b in other]
        return sum(values) / len(values)

    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        total = total + mean_kernel(t, t) + mean_kernel(s, s) - 2 * mean_kernel(s, t)
    return total / len(student)


def fsp(students: list[Tensor], teachers: list[Tensor]) -> Tensor:
    """doi:10.1109/CVPR.2017.754, equations 1 and 2, the layers on one grid."""
    total = 0.0
    for b in range(len(students[0])):
        for number in range(len(students) - 1):
            matrices = []
            for layers in (students, teachers):
                first, second = layers[number][b], layers[number + 1][b]
                size = first[0].numel()
                matrices.append([[(x * y).sum() / size for y in second] for x in first])
            for mine, theirs in zip(*matrices, strict=True):
                total = total + sum((x - y) ** 2 for x, y in zip(mine, theirs, strict=True))
    return total / len(students[0])


def srd(student: Rows, teacher: Rows, weight: Tensor) -> Tensor:
    """arXiv:2303.11098: log of the sum of fourth powers behind batch norm without parameters."""
    projected = torch.stack([weight @ row for row in student])
    total = 0.0
    for e in range(projected.shape[1]):
        columns = []
        for x in (projected, teacher):
            mean = sum(x[:, e]) / len(x)
            variance = sum((v - mean) ** 2 for v in x[:, e]) / len(x)
            columns.append([(v - mean) / (variance + 1e-4) ** 0.5 for v in x[:, e]])
        total = total + sum(abs(a - b) ** 4 for a, b in zip(*columns, strict=True))
    return total.log()


def crd(
    student: Rows, teacher: Rows, *, temperature: float, samples: int | None, choice: bool
) -> Tensor:
    """arXiv:1910.10699, equations 17 and 18 in a batch, of vectors in the common space."""
    count, total = len(student), 0.0
    for one, other in ((student, teacher), (teacher, student)):
        powers = [[(cosine(a, b) / temperature).exp() for b in other] for a in one]
        mean = sum(float(p.detach()) for row in powers for p in row) / count**2
        noise = (count - 1) * (mean if samples is None else 1 / samples)
        for i, row in enumerate(powers):
            if choice:
                total = total - (row[i] / sum(row)).log()
                continue
            total = total - (row[i] / (row[i] + noise)).log()
            for j, power in enumerate(row):
                if j != i:
                    total = total - (1 - power / (power + noise)).log()
    return total / count


def queue_similarity(
    student: Rows, teacher: Rows, kept: Rows, *, temperature: float, teachers: float
) -> Tensor:
    """arXiv:2101.04731, equations 2 to 4, minus the teacher's entropy."""
    candidates, total = [*teacher, *kept], 0.0
    for s, t in zip(student, teacher, strict=True):
        q = torch.stack([cosine(s, c) / temperature for c in candidates]).softmax(0)
        p = torch.stack([cosine(t, c) / teachers for c in candidates]).softmax(0)
        total = total + (p * (p / q).log()).sum()
    return total / len(student)
