"""Rules in words, and as values that JSON can hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from potstill.models.rules import Condition, Rule

_SIGNIFICANT = 7  # digits of a threshold, as many as float32 has


@final
@dataclass(frozen=True, kw_only=True)
class Naming:
    """What inputs and classes are called.

    Args:
        features: one name for each input; of a category's 0/1 column, `column=category`.
        classes: one name for each output; `None` for values.
        kind: of the targets.
    """

    features: tuple[str, ...] | None
    classes: tuple[str, ...] | None
    kind: str

    def feature(self, number: int) -> str:
        """The name of an input."""
        return f"input {number}" if self.features is None else self.features[number]

    def output(self, number: int) -> str:
        """The name of an output."""
        if self.classes is not None:
            return self.classes[number]
        return f"{'value' if self.kind == 'regression' else 'class'} {number}"

    def condition(self, condition: Condition) -> str:
        """`age > 54`, `thal is 7`, `sex is not male`."""
        name = self.feature(condition.feature)
        column, equals, category = name.partition("=")
        if equals and 0 <= condition.threshold < 1:
            return f"{column} is {'' if condition.above else 'not '}{category}"
        return f"{name} {'>' if condition.above else '≤'} {_number(condition.threshold)}"


def described(rules: Sequence[Rule], naming: Naming) -> list[dict[str, object]]:
    """One record a rule, for JSON: conditions, words, answer, rows."""
    return [
        {
            "if": [naming.condition(c) for c in merged(rule.conditions)],
            "path": [[c.feature, c.threshold, c.above] for c in rule.conditions],
            "then": _answer(rule, naming),
            "answer": list(rule.answer),
            "rows": rule.rows,
            "right": rule.right,
        }
        for rule in rules
    ]


def merged(conditions: Sequence[Condition]) -> list[Condition]:
    """The same without what a later, narrower condition says already."""
    kept: dict[tuple[int, bool], Condition] = {}
    for condition in conditions:
        key = (condition.feature, condition.above)
        known = kept.get(key)
        if known is not None:
            narrow = max if condition.above else min
            condition = narrow(known, condition, key=lambda c: c.threshold)
        kept[key] = condition
    return list(kept.values())


def tree_lines(rules: Sequence[Rule], naming: Naming) -> list[str]:
    """A tree as indented lines: questions, and behind `→` the answers of the leaves."""
    lines: list[str] = []
    before: tuple[Condition, ...] = ()
    for rule in rules:
        shared = 0
        while shared < min(len(before), len(rule.conditions)) and (
            before[shared] == rule.conditions[shared]
        ):
            shared += 1
        for depth in range(shared, len(rule.conditions)):
            lines.append("  " * depth + naming.condition(rule.conditions[depth]))
        answer = f"→ {_answer(rule, naming)}{_counted(rule)}"
        lines[-1:] = [f"{lines[-1]}  {answer}"] if rule.conditions else [answer]
        before = rule.conditions
    return lines


def list_lines(rules: Sequence[Rule], naming: Naming) -> list[str]:
    """A list of rules as lines: if …, else if …, else."""
    lines = []
    for number, rule in enumerate(rules):
        head = " and ".join(naming.condition(c) for c in merged(rule.conditions))
        word = ("else if " if number else "if ") + head if head else "else"
        lines.append(f"{word}  → {_answer(rule, naming)}{_counted(rule)}")
    return lines


def _counted(rule: Rule) -> str:
    """`, 41 of 43 rows`: how often the data's label is the answer."""
    if rule.right is None:
        return f", {rule.rows} rows"
    return f", {rule.right} of {rule.rows} rows"


def _answer(rule: Rule, naming: Naming) -> str:
    values = np.asarray(rule.answer, dtype=np.float64)
    if naming.kind == "regression":
        return ", ".join(
            _short(value) if len(values) == 1 else f"{naming.output(i)} {_short(value)}"
            for i, value in enumerate(values)
        )
    if naming.kind == "multi_label":
        on = [f"{naming.output(i)} {_share(_sigmoid(v))}" for i, v in enumerate(values) if v > 0]
        return ", ".join(on) or "none"
    weights = np.exp(values - values.max())
    best = int(values.argmax())
    return f"{naming.output(best)} {_share(float(weights[best] / weights.sum()))}"


def _sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def _short(value: float) -> str:
    return f"{value:.4g}"


def _number(value: float) -> str:
    text = f"{value:.{_SIGNIFICANT}g}"
    return text if "e" not in text else f"{value:g}"
