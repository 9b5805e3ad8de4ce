"""Numbers and names in the words that people read: units, signs, intervals, metric names."""

import math
import re
from collections.abc import Mapping

from potstill.report.records import Summary, Verdict

NONE = "–"
MINUS = "−"

_FRACTIONS = (
    "accuracy",
    "f1",
    "precision",
    "recall",
    "sensitivity",
    "specificity",
    "agreement",
    "auroc",
)
_PRECISIONS = ("map_", "ap_")  # average precisions of detectors
_NAMES = {
    "bleu": "BLEU",
    "chrf": "chrF",
    "f1": "F1",
    "ece": "Calibration error (ECE)",
    "f1_macro": "Macro F1",
    "top5_accuracy": "Top-5 accuracy",
    "auroc": "AUROC",
    "wer": "Word error rate",
    "cer": "Character error rate",
    "ap": "AP",
    "map": "Mean average precision",
    "map_50": "mAP at overlap 0.50",
    "map_75": "mAP at overlap 0.75",
    "nll": "Negative log-likelihood",
    "mae": "Mean absolute error",
    "mse": "Mean squared error",
    "rmse": "Root mean squared error",
    "r2": "R²",
}
ROLE_NAMES = {"teacher": "Teacher", "scratch": "Scratch", "distilled": "Distilled"}
HELPED = {
    "yes": "Distillation helped",
    "no": "Distillation did not help",
    "unclear": "Unclear whether distillation helped",
}


def role_name(role: str) -> str:
    """How a role is called in the report."""
    return ROLE_NAMES.get(role, role.replace("_", " ").capitalize())


def metric_name(metric: str) -> str:
    """`macro_f1` → `Macro F1`."""
    if metric in _NAMES:
        return _NAMES[metric]
    if metric.startswith("lm_eval "):
        return f"{metric.removeprefix('lm_eval ')} (lm-eval)"
    words = " ".join(_NAMES.get(word, word) for word in metric.split("_"))
    return words[:1].upper() + words[1:]


def is_fraction(metric: str) -> bool:
    """Whether a metric is a share that reads best in per cent."""
    if metric == "map" or metric.startswith(_PRECISIONS):
        return True
    return any(word in metric.lower() for word in _FRACTIONS)


def without_zeros(shown: str) -> str:
    """`1.00 MB` → `1 MB`, `0.100 ms` → `0.1 ms`: for the marks of an axis."""
    return re.sub(r"\.0+(?= )|(?<=\.\d)0+(?= )", "", shown)


def score(value: float | None, *, metric: str) -> str:
    """A value of a metric: `97.31%`, or four digits."""
    if value is None:
        return NONE
    return f"{100 * value:.2f}%" if is_fraction(metric) else plain(value)


def three(value: float) -> str:
    """Three significant digits, zeros kept: `2.40`, `84.6`, `338`."""
    return f"{value:#.3g}".rstrip(".")


def spread(summary: Summary, *, metric: str) -> str:
    """Half the width of the confidence interval, or nothing."""
    if summary.ci95 is None:
        return ""
    half = (summary.ci95[1] - summary.ci95[0]) / 2
    return f"± {100 * half:.2f}" if is_fraction(metric) else f"± {half:.2g}"


def signed(value: float | None, *, metric: str) -> str:
    """A difference of a metric with its sign: `+0.84` (percentage points) or `−0.012`."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{100 * abs(value):.2f}" if is_fraction(metric) else f"{abs(value):.3g}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else MINUS) + text


def unit(metric: str) -> str:
    """What a difference of this metric is counted in."""
    return "points" if is_fraction(metric) else metric_name(metric).lower()


def interval(ends: tuple[float, float] | None, *, metric: str) -> str:
    """`95% CI +0.31 to +1.37`, or a dash."""
    if ends is None:
        return NONE
    return f"95% CI {signed(ends[0], metric=metric)} to {signed(ends[1], metric=metric)}"


def plain(value: float) -> str:
    """Four significant digits, without an exponent where that is readable."""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        digits = 4 if value == 0 else max(0, 3 - math.floor(math.log10(abs(value))))
        return f"{value:,.{min(digits, 6)}f}"
    return f"{value:.3g}"


def count(value: float | None, *, suffix: str = "") -> str:
    """`1,234`, `12.3 k`, `4.56 M`, with a unit after it."""
    if value is None:
        return NONE
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            scaled = value / (1e3 if letter == "k" else size)
            return f"{three(scaled)} {letter}{suffix}"
    return f"{value:,.0f} {suffix}".strip()


def size(value: float | None) -> str:
    """Bytes in decimal units."""
    if value is None:
        return NONE
    for step, letters in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= step:
            return f"{three(value / step)} {letters}"
    return f"{value:.0f} bytes"


def milliseconds(value: float | None) -> str:
    """Milliseconds, or microseconds where that reads better."""
    if value is None:
        return NONE
    return f"{three(value)} ms" if value >= 0.1 else f"{three(1000 * value)} µs"


def seconds(value: float | None) -> str:
    """`850 ms`, `12.3 s`, `3 min 05 s`, `2 h 07 min`."""
    if value is None:
        return NONE
    if value < 1:
        return f"{1000 * value:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def energy(value: float | None) -> str:
    """Watt-hours, with small ones in milliwatt-hours."""
    if value is None:
        return NONE
    return f"{three(value)} Wh" if value >= 0.1 else f"{three(1000 * value)} mWh"


def grams(value: float | None) -> str:
    """Grams, or milligrams where that reads better."""
    if value is None:
        return NONE
    return f"{three(value)} g" if value >= 0.1 else f"{three(1000 * value)} mg"


def times(value: float | None) -> str:
    """`5.2×`."""
    return NONE if value is None else f"{three(value)}×"


def share(value: float | None) -> str:
    """A share in per cent with one digit."""
    return NONE if value is None else f"{100 * value:.1f}%".replace("-", MINUS)


def p_value(value: float | None) -> str:
    """`p = 0.018`, or a bound where it is tiny."""
    if value is None:
        return NONE
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def headline(verdict: Verdict | None, *, metric: str) -> str:
    """The verdict's own sentence, or one made from its numbers."""
    if verdict is None:
        return "This run has no verdict yet."
    if verdict.sentence:
        return verdict.sentence
    gain = signed(verdict.gain, metric=metric)
    return f"{HELPED[verdict.helped]}: {gain} {unit(metric)} against the same student alone."


def without_details(sentence: str) -> str:
    """The sentence without what stands in brackets at its end, which the page shows elsewhere."""
    head, bracket, rest = sentence.rpartition(" (")
    return f"{head}." if bracket and rest.endswith(").") else sentence


GLOSSARY: Mapping[str, str] = {
    "Teacher": "the large model that is imitated.",
    "Scratch": "the same student, trained on the same budget without the teacher.",
    "Distilled": "the student, trained to follow the teacher.",
    "Gain": "how much better the distilled student is than the scratch student, on the metric "
    "that decides; positive is better. Each seed is compared with itself.",
    "95% CI": "the range that the true value lies in with 95% confidence, judged from the spread "
    "over seeds. An interval that touches zero does not show a difference.",
    "p": "how often a gain at least this far from zero would turn up by chance alone.",
    "Gap recovered": "the part of the distance from scratch to teacher that distillation closed; "
    "100% means the student is as good as the teacher.",
    "Retention": "the distilled student's score as a part of the teacher's.",
    "Agreement": "how often the distilled student gives the same answer as the teacher, "
    "right or wrong.",
    "Speed-up": "the teacher's median latency divided by the student's.",
    "Compression": "the teacher's size divided by the student's.",
    "Calibration error": "how far confidence is from the truth: a calibrated model that says 80% "
    "is right 80 times out of 100. Zero is best.",
    "p50, p95, p99": "half of the calls are faster than p50, 95 of 100 are faster than p95, and 99 "
    "of 100 than p99.",
}
