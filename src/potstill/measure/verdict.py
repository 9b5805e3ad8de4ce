"""The verdict: did the teacher help the student? Paired over seeds, and slow to say yes.

Pure arithmetic on the primary metric; the figures come from elsewhere.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypedDict

from scipy.special import stdtr

from potstill.errors import DataError
from potstill.measure.summary import check_finite, half_width, sample_std

T_TEST = "paired t-test over seeds"
SIGN_TEST = "exact sign test over seeds"
NO_TEST = "none (one seed)"
WORTH_HAVING = 0.1  # of the gap between teacher and scratch student; less is no gain to speak of
RESOLUTION = 1e-6  # metrics are float32: a smaller relative spread is rounding, not spread


class Helped(StrEnum):
    """What can be said about the teacher's help."""

    YES = "yes"
    NO = "no"
    UNCLEAR = "unclear"


@dataclass(frozen=True, kw_only=True)
class Trade:
    """What else the student is beside better or worse; carried into the verdict as it is.

    Args:
        agreement: share of test rows on which distilled student and teacher answer the same, 0..1.
        speedup: the teacher's latency over the student's (p50 of both).
        compression: the teacher's bytes over the student's.
    """

    agreement: float | None = None
    speedup: float | None = None
    compression: float | None = None


class Verdict(TypedDict):
    """`results.json["verdict"]`. Gains are signed so that positive is better."""

    helped: str
    gain: float
    gain_ci95: list[float] | None
    p_value: float | None
    gap_recovered: float | None
    retention: float | None
    agreement: float | None
    speedup: float | None
    compression: float | None
    sentence: str
    reason: str
    alpha: float
    test: str


class _Paired(NamedTuple):
    gain: float
    ci95: list[float] | None
    p_value: float | None
    test: str
    seeds: int


def judge(
    distilled: Sequence[float],
    scratch: Sequence[float],
    teacher: Sequence[float],
    *,
    metric: str,
    higher_is_better: bool,
    alpha: float = 0.05,
    trade: Trade | None = None,
) -> Verdict:
    """Say whether distillation helped, from the primary metric on the test data, one value a seed.

    - `yes`: the gain over the same student without a teacher is positive and significant in a
      two-sided paired test, and the teacher is better than that student. Without the second half
      a gain is no knowledge: even a useless teacher smooths labels and so regularises
      (Yuan et al. 2020, arXiv:1909.11723).
    - `no`: significantly worse; or equal in every seed; or the 95 % interval of the gain ends
      below a tenth of the gap to the teacher (below zero where there is no gap).
    - `unclear`: everything else, and always with one seed.

    The test is the paired t-test. Where all differences are equal (few test rows, coarse metric)
    its variance estimate is worthless, and the exact sign test stands in: p = 2 ** (1 - seeds).

    Args:
        distilled: values of the distilled student, by seed.
        scratch: values of the same student without a teacher, by the same seeds.
        teacher: values of the teacher; one, or one a seed.
        metric: the name of the primary metric, for the sentence.
        higher_is_better: the direction of the metric.
        alpha: the level of the test.
        trade: agreement, speed-up and compression, to be carried along.

    Raises:
        DataError: no values, values that are not finite, or seeds that cannot be paired.
    """
    distilled = check_finite(distilled, what="the distilled student's metric")
    scratch = check_finite(scratch, what="the scratch student's metric")
    teacher = check_finite(teacher, what="the teacher's metric")
    if len(distilled) != len(scratch):
        raise DataError(
            f"{len(distilled)} distilled and {len(scratch)} scratch students cannot be paired; "
            "train both with the same seeds."
        )
    means = tuple(math.fsum(v) / len(v) for v in (distilled, scratch, teacher))
    sign = 1.0 if higher_is_better else -1.0
    gap = sign * (means[2] - means[1])
    if abs(gap) <= RESOLUTION * max(abs(means[1]), abs(means[2])):
        gap = 0.0
    paired = _compare(distilled, scratch, sign)
    helped, reason = _decide(paired, gap, alpha)
    trade = trade or Trade()
    return Verdict(
        helped=helped.value,
        gain=paired.gain,
        gain_ci95=paired.ci95,
        p_value=paired.p_value,
        gap_recovered=paired.gain / gap if gap > 0 else None,
        retention=_retention(means[0], means[2], higher_is_better),
        agreement=trade.agreement,
        speedup=trade.speedup,
        compression=trade.compression,
        sentence=_sentence(helped, metric, means[0], means[1], paired),
        reason=reason,
        alpha=alpha,
        test=paired.test,
    )


def teacher_warning(
    teacher: Sequence[float], scratch: Sequence[float], *, metric: str, higher_is_better: bool
) -> str | None:
    """A sentence if the teacher is not better than the scratch student; else `None`.

    Meant for validation figures, before the distillation budget is spent.
    """
    mean_teacher = math.fsum(teacher) / len(teacher)
    mean_scratch = math.fsum(scratch) / len(scratch)
    if (mean_teacher > mean_scratch) if higher_is_better else (mean_teacher < mean_scratch):
        return None
    return (
        f"The teacher ({metric} {mean_teacher:.4g}) is not better than the student without a "
        f"teacher ({mean_scratch:.4g}), so there is nothing to hand over; train or choose a better "
        "teacher, or a smaller student, before spending the budget."
    )


def ratio(over: float | None, under: float | None) -> float | None:
    """`over / under`, or `None` where either is missing or the divisor is not positive."""
    if over is None or under is None or under <= 0:
        return None
    return over / under


def _compare(distilled: Sequence[float], scratch: Sequence[float], sign: float) -> _Paired:
    differences = [sign * (d - s) for d, s in zip(distilled, scratch, strict=True)]
    count = len(differences)
    gain = math.fsum(differences) / count
    if count == 1:
        return _Paired(gain, None, None, NO_TEST, count)
    std = sample_std(differences)
    floor = RESOLUTION * max(abs(v) for v in (*distilled, *scratch))
    if std <= floor:
        p_value = 1.0 if abs(gain) <= floor else 2.0 ** (1 - count)
        return _Paired(gain, None, p_value, SIGN_TEST, count)
    t = gain / (std / math.sqrt(count))
    p_value = 2.0 * float(stdtr(count - 1, -abs(t)))
    margin = half_width(std, count)
    return _Paired(gain, [gain - margin, gain + margin], p_value, T_TEST, count)


def _decide(paired: _Paired, gap: float, alpha: float) -> tuple[Helped, str]:
    if paired.p_value is None:
        return Helped.UNCLEAR, (
            "One seed shows no spread, so chance cannot be told from help; run at least three."
        )
    p = f"p = {paired.p_value:.2g}"
    if paired.p_value < alpha and paired.gain < 0:
        return Helped.NO, f"The student is significantly worse with the teacher ({p})."
    if paired.p_value < alpha and gap <= 0:
        return Helped.UNCLEAR, (
            f"There is a gain ({p}), but the teacher is not better than the student without one: "
            "it regularises, or answers where there are no labels; it does not know more."
        )
    if paired.p_value < alpha:
        return Helped.YES, _reason_for_yes(paired, gap, p)
    if paired.p_value == 1.0 and paired.ci95 is None:
        return Helped.NO, f"Both students score the same in every one of the {paired.seeds} seeds."
    worth = WORTH_HAVING * max(gap, 0.0)
    if paired.ci95 is not None and paired.ci95[1] < worth:
        return Helped.NO, (
            f"Even the upper end of the interval, {paired.ci95[1]:+.3g}, is less than a tenth of "
            "the gap to the teacher."
            if gap > 0
            else f"The whole interval is below zero ({p}) and the teacher is no better."
        )
    return Helped.UNCLEAR, _reason_for_unclear(paired, gap, p, alpha)


def _reason_for_yes(paired: _Paired, gap: float, p: str) -> str:
    share = paired.gain / gap
    small = " The gain is small, though." if share < WORTH_HAVING else ""
    return (
        f"The gain is significant ({p}) and recovers {share:.0%} of the gap between the student "
        f"without a teacher and the teacher.{small}"
    )


def _reason_for_unclear(paired: _Paired, gap: float, p: str, alpha: float) -> str:
    if gap <= 0:
        return (
            "The teacher is not better than the student without one, so there was nothing to hand "
            f"over, and the difference between the students is within chance ({p})."
        )
    if paired.ci95 is None:
        return (
            f"The difference is the same in all {paired.seeds} seeds, which are too few to exclude "
            f"chance ({p}); a larger test set or more seeds would tell."
        )
    return f"The difference is within chance ({p}, the limit is {alpha:g}); more seeds would tell."


def _retention(distilled: float, teacher: float, higher_is_better: bool) -> float | None:
    """The share of the teacher's quality that is kept; undefined for signs that do not divide."""
    if distilled < 0 or teacher < 0:
        return None
    return ratio(distilled, teacher) if higher_is_better else ratio(teacher, distilled)


def _sentence(
    helped: Helped, metric: str, distilled: float, scratch: float, paired: _Paired
) -> str:
    opening = {
        Helped.YES: "Distillation helped",
        Helped.NO: "Distillation did not help",
        Helped.UNCLEAR: "It is unclear whether distillation helped",
    }[helped]
    seeds = f"{paired.seeds} seed" + "s" * (paired.seeds > 1)
    interval = ""
    if paired.ci95 is not None:
        interval = f", 95% interval {paired.ci95[0]:+.3g} to {paired.ci95[1]:+.3g}"
    return (
        f"{opening}: {metric} {distilled:.4g} with the teacher and {scratch:.4g} without "
        f"(gain {paired.gain:+.3g}{interval}, {seeds})."
    )
