"""What each term should say, in plain Python loops over lists of float64, and its gradient by
central differences of those loops. Nothing here imports the code under test's mathematics."""

import math
from collections.abc import Callable, Sequence

Row = Sequence[float]
RowOracle = Callable[[Row, Row, object], float]


def softmax(z: Row, temperature: float = 1.0) -> list[float]:
    scaled = [v / temperature for v in z]
    top = max(scaled)
    powers = [math.exp(v - top) for v in scaled]
    return [p / sum(powers) for p in powers]


def sigmoid(v: float) -> float:
    return 1 / (1 + math.exp(-v))


def kl(p: Row, q: Row) -> float:
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True) if a > 0)


def cross_entropy(smoothing: float = 0.0) -> RowOracle:
    def oracle(s: Row, t: Row, y: object) -> float:
        q = softmax(s)
        hard = isinstance(y, int)
        soft = [float(c == y) for c in range(len(s))] if hard else list(y)
        soft = [(1 - smoothing) * v + smoothing / len(s) for v in soft]
        return -sum(v * math.log(p) for v, p in zip(soft, q, strict=True))

    return oracle


def kd(temperature: float) -> RowOracle:
    return lambda s, t, y: temperature**2 * kl(softmax(t, temperature), softmax(s, temperature))


def hard_kd(smoothing: float) -> RowOracle:
    """Cross entropy with the teacher's best class."""
    return lambda s, t, y: cross_entropy(smoothing)(s, t, max(range(len(t)), key=lambda c: t[c]))


def standardised_kd(temperature: float) -> RowOracle:
    def standard(z: Row) -> list[float]:
        mean = sum(z) / len(z)
        std = math.sqrt(sum((v - mean) ** 2 for v in z) / (len(z) - 1))
        return [(v - mean) / (1e-7 + std) for v in z]

    return lambda s, t, y: kd(temperature)(standard(s), standard(t), y)


def wttm(gamma: float) -> RowOracle:
    def oracle(s: Row, t: Row, y: object) -> float:
        powered = [p**gamma for p in softmax(t)]
        mass = sum(powered)
        return mass * kl([v / mass for v in powered], softmax(s))

    return oracle


def jsd(beta: float, temperature: float) -> RowOracle:
    def oracle(s: Row, t: Row, y: object) -> float:
        p, q = softmax(t, temperature), softmax(s, temperature)
        m = [beta * a + (1 - beta) * b for a, b in zip(p, q, strict=True)]
        return temperature**2 * (beta * kl(p, m) + (1 - beta) * kl(q, m))

    return oracle


def even_jsd(beta: float, temperature: float) -> RowOracle:
    return lambda s, t, y: jsd(beta, temperature)(s, t, y) / (beta * (1 - beta))


def alpha_beta(a: float, b: float, temperature: float) -> RowOracle:
    def oracle(s: Row, t: Row, y: object) -> float:
        total = 0.0
        for p, q in zip(softmax(t, temperature), softmax(s, temperature), strict=True):
            if a * b == 0:
                p, q, c = (p, q, a) if b == 0 else (q, p, b)
                total += (p**c * math.log((p / q) ** c) - p**c + q**c) / c**2
                continue
            powers = a / (a + b) * p ** (a + b) + b / (a + b) * q ** (a + b)
            total -= (p**a * q**b - powers) / (a * b)
        return temperature**2 * total

    return oracle


def adaptive_kl(head: float, temperature: float) -> RowOracle:
    seen: list[tuple[Row, Row, float]] = []  # a weight is a constant while the student moves a bit

    def weight(s: Row, t: Row) -> float:
        for s0, t0, w in seen:
            if t0 == t and max(abs(a - b) for a, b in zip(s, s0, strict=True)) < 1e-4:
                return w
        p, q = softmax(t, temperature), softmax(s, temperature)
        mass, apart = 0.0, 0.0
        for c in sorted(range(len(p)), key=lambda c: -p[c]):
            apart += abs(p[c] - q[c]) if mass < head else 0
            mass += p[c]
        w = apart / sum(abs(a - b) for a, b in zip(p, q, strict=True))
        seen.append((list(s), list(t), w))
        return w

    def oracle(s: Row, t: Row, y: object) -> float:
        w = weight(s, t)
        return w * kd(temperature)(s, t, y) + (1 - w) * reverse_kl(temperature)(s, t, y)

    return oracle


def skew_kl(skew: float, temperature: float) -> RowOracle:
    def oracle(s: Row, t: Row, y: object) -> float:
        p, q = softmax(t, temperature), softmax(s, temperature)
        m = [skew * a + (1 - skew) * b for a, b in zip(p, q, strict=True)]
        return temperature**2 * kl(p, m)

    return oracle


def skew_reverse_kl(skew: float, temperature: float) -> RowOracle:
    def oracle(s: Row, t: Row, y: object) -> float:
        p, q = softmax(t, temperature), softmax(s, temperature)
        m = [(1 - skew) * a + skew * b for a, b in zip(p, q, strict=True)]
        return temperature**2 * kl(q, m)

    return oracle


def total_variation(temperature: float) -> RowOracle:
    def oracle(s: Row, t: Row, y: object) -> float:
        pairs = zip(softmax(t, temperature), softmax(s, temperature), strict=True)
        return temperature**2 * sum(abs(a - b) for a, b in pairs) / 2

    return oracle


def reverse_kl(temperature: float) -> RowOracle:
    return lambda s, t, y: temperature**2 * kl(softmax(s, temperature), softmax(t, temperature))


def without(z: Row, y: int) -> list[float]:
    return [v for c, v in enumerate(z) if c != y]


def dkd(alpha: float, beta: float, temperature: float) -> RowOracle:
    def oracle(s: Row, t: Row, y: object) -> float:
        p, q = softmax(t, temperature)[y], softmax(s, temperature)[y]
        label = kl([p, 1 - p], [q, 1 - q])
        rest = kl(softmax(without(t, y), temperature), softmax(without(s, y), temperature))
        return temperature**2 * (alpha * label + beta * rest)

    return oracle


def nkd(gamma: float, temperature: float) -> RowOracle:
    def oracle(s: Row, t: Row, y: object) -> float:
        label = -softmax(t)[y] * math.log(softmax(s)[y])
        p = softmax(without(t, y), temperature)
        q = softmax(without(s, y), temperature)
        rest = -sum(a * math.log(b) for a, b in zip(p, q, strict=True))
        return label + gamma * temperature**2 * rest

    return oracle


def probability_mse(temperature: float) -> RowOracle:
    def oracle(s: Row, t: Row, y: object) -> float:
        pairs = zip(softmax(t, temperature), softmax(s, temperature), strict=True)
        return temperature**2 * sum((a - b) ** 2 for a, b in pairs)

    return oracle


def logit_mse(s: Row, t: Row, y: object) -> float:
    return sum((a - b) ** 2 for a, b in zip(t, s, strict=True))


def binary_cross_entropy(s: Row, t: Row, y: object) -> float:
    return -sum(
        v * math.log(sigmoid(z)) + (1 - v) * math.log(sigmoid(-z))
        for z, v in zip(s, y, strict=True)
    )


def binary_kd(temperature: float) -> RowOracle:
    def oracle(s: Row, t: Row, y: object) -> float:
        total = 0.0
        for a, b in zip(t, s, strict=True):
            p, q = sigmoid(a / temperature), sigmoid(b / temperature)
            total += kl([p, 1 - p], [q, 1 - q])
        return temperature**2 * total

    return oracle


def binary_probability_mse(temperature: float) -> RowOracle:
    def oracle(s: Row, t: Row, y: object) -> float:
        pairs = zip(t, s, strict=True)
        differences = [sigmoid(a / temperature) - sigmoid(b / temperature) for a, b in pairs]
        return temperature**2 * sum(d * d for d in differences)

    return oracle


def squared_error(follow: str) -> RowOracle:
    return lambda s, t, y: logit_mse(s, t if follow == "teacher" else y, None)


def huber(delta: float, follow: str) -> RowOracle:
    def oracle(s: Row, t: Row, y: object) -> float:
        total = 0.0
        for a, b in zip(t if follow == "teacher" else y, s, strict=True):
            d = abs(a - b)
            total += d * d / 2 if d <= delta else delta * (d - delta / 2)
        return total

    return oracle


def pearson(x: Row, y: Row) -> float:
    mx, my = sum(x) / len(x), sum(y) / len(y)
    xy = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    xx, yy = sum((a - mx) ** 2 for a in x), sum((b - my) ** 2 for b in y)
    return xy / math.sqrt(xx * yy)


def dist_of_batch(
    s: Sequence[Row], t: Sequence[Row], *, beta: float, gamma: float, temperature: float
) -> float:
    """The sum that DIST reports: rows once each, the mean over classes once for each row."""
    q = [softmax(row, temperature) for row in s]
    p = [softmax(row, temperature) for row in t]
    classes = range(len(q[0]))
    inter = sum(1 - pearson(a, b) for a, b in zip(q, p, strict=True))
    intra = sum(1 - pearson([r[c] for r in q], [r[c] for r in p]) for c in classes) / len(classes)
    return temperature**2 * (beta * inter + gamma * len(q) * intra)


def summed(oracle: RowOracle, labels: Sequence[object] | None) -> Callable[..., float]:
    """The oracle of a row, summed over a batch of rows."""

    def total(s: Sequence[Row], t: Sequence[Row]) -> float:
        ys = labels if labels is not None else [None] * len(s)
        return sum(oracle(a, b, y) for a, b, y in zip(s, t, ys, strict=True))

    return total


def gradient(total: Callable[..., float], s: Sequence[Row], t: Sequence[Row]) -> list[list[float]]:
    """d total / d s by central differences."""
    step = 1e-5
    point = [list(row) for row in s]
    result = [[0.0] * len(row) for row in s]
    for i, row in enumerate(point):
        for c, value in enumerate(row):
            row[c] = value + step
            above = total(point, t)
            row[c] = value - step
            below = total(point, t)
            row[c] = value
            result[i][c] = (above - below) / (2 * step)
    return result
