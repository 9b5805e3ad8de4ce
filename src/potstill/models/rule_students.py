"""Students that are fitted instead of trained: a decision tree, a list of rules."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from math import prod
from typing import ClassVar, Protocol, final

import numpy as np
import torch
from torch import Tensor

from potstill.errors import ModelError
from potstill.models.config import ModelConfig
from potstill.models.options import nearest, refuse_unknown
from potstill.models.rule_growing import Path, answered, grow_list, grow_tree
from potstill.models.rules import FitRows, Floats, Rule, Rules, different

SOURCE = "sklearn"
_MOST_RULES = 1024


class Fitter(Protocol):
    """A kind of student that is fitted on rows and soft targets."""

    name: ClassVar[str]

    @property
    def rows(self) -> float:
        """The share of the rows that each seed draws."""
        ...

    def places(self) -> tuple[int, int]:
        """How many different conditions and how many rules there may be."""
        ...

    def grow(self, inputs_NF: Floats, targets_NK: Floats, *, seed: int) -> list[Path]:
        """The conditions of every rule."""
        ...


@final
@dataclass(frozen=True, kw_only=True)
class DecisionTree:
    """A decision tree that follows soft targets. Leaves are numbered from left to right.

    Args:
        max_leaf_nodes: leaves; the best cuts are made first. A page holds about 12.
        max_depth: questions on the way to a leaf; `None` for no bound.
        min_samples_leaf: rows in a leaf at least.
        min_impurity_decrease: what a cut must gain, in variance a row.
        ccp_alpha: of minimal cost-complexity pruning (Breiman et al. 1984, §3.3).
        rows: the share of the rows that each seed draws, without putting back. A tree on all rows
            is the same for every seed, which would say nothing about how far it can be relied on.
    """

    name: ClassVar[str] = "decision_tree"
    max_leaf_nodes: int = 12
    max_depth: int | None = None
    min_samples_leaf: int = 5
    min_impurity_decrease: float = 0.0
    ccp_alpha: float = 0.0
    rows: float = 0.9

    def __post_init__(self) -> None:
        _check(self, "max_leaf_nodes", 2, _MOST_RULES)
        _check(self, "max_depth", 1, _MOST_RULES)
        _check(self, "min_samples_leaf", 1)
        _check(self, "min_impurity_decrease", 0)
        _check(self, "ccp_alpha", 0)
        _check_share(self)

    def places(self) -> tuple[int, int]:
        """A tree of L leaves has L - 1 questions."""
        most = self.max_leaf_nodes
        if self.max_depth is not None:
            most = min(most, 2 ** min(self.max_depth, 10))
        return most - 1, most

    def grow(self, inputs_NF: Floats, targets_NK: Floats, *, seed: int) -> list[Path]:
        """The paths to the leaves."""
        options = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "rows"}
        return grow_tree(inputs_NF, targets_NK, options, seed=seed)


@final
@dataclass(frozen=True, kw_only=True)
class RuleList:
    """Rules in order, of which the first that holds answers (a decision list, Rivest 1987).

    Args:
        max_rules: besides the last, which holds for all that are left.
        max_conditions: of each rule.
        min_samples_leaf: rows that a rule decides at least.
        rows: as of `DecisionTree`.
    """

    name: ClassVar[str] = "rule_list"
    max_rules: int = 6
    max_conditions: int = 2
    min_samples_leaf: int = 5
    rows: float = 0.9

    def __post_init__(self) -> None:
        _check(self, "max_rules", 1, _MOST_RULES)
        _check(self, "max_conditions", 1, 10)
        _check(self, "min_samples_leaf", 1)
        _check_share(self)

    def places(self) -> tuple[int, int]:
        """Each rule may have conditions of its own."""
        return self.max_rules * self.max_conditions, self.max_rules + 1

    def grow(self, inputs_NF: Floats, targets_NK: Floats, *, seed: int) -> list[Path]:
        """Rule after rule."""
        return grow_list(
            inputs_NF,
            targets_NK,
            max_rules=self.max_rules,
            max_conditions=self.max_conditions,
            min_samples_leaf=self.min_samples_leaf,
            seed=seed,
        )


FITTERS: Mapping[str, Callable[..., "DecisionTree | RuleList"]] = {
    DecisionTree.name: DecisionTree,
    RuleList.name: RuleList,
}


def fitter_of(config: ModelConfig) -> "DecisionTree | RuleList":
    """The kind of student that a config of source `sklearn` names.

    Raises:
        ModelError: an unknown name, or an option that is unknown or out of range.
    """
    made = FITTERS.get(config.name)
    if made is None:
        raise ModelError(
            f"There is no student `{config.name}` of source `sklearn`: "
            f"{nearest(config.name, FITTERS)} Others teach, or learn by gradients."
        )
    known = [f.name for f in fields(DecisionTree if made is DecisionTree else RuleList)]
    refuse_unknown(config.options, known, model=config.name)
    return made(**config.options)


def config_of_fitter(
    fitter: "DecisionTree | RuleList", *, input_shape: tuple[int, ...], num_outputs: int
) -> ModelConfig:
    """How the student is named in files."""
    return ModelConfig(
        source=SOURCE,
        name=fitter.name,
        options={f.name: getattr(fitter, f.name) for f in fields(fitter)},
        input_shape=input_shape,
        num_outputs=num_outputs,
    )


def build_rules(config: ModelConfig) -> Rules:
    """The empty module that a fitted student's weights are loaded into."""
    conditions, rules = fitter_of(config).places()
    return Rules(conditions=conditions, rules=rules, num_outputs=config.num_outputs)


def fit_rules(
    config: ModelConfig,
    rows: FitRows,
    *,
    kind: str,
    normalise: Callable[[Tensor], Tensor],
    seed: int,
) -> tuple[Rules, list[Rule]]:
    """Grow a student and put it into a module.

    Args:
        config: of source `sklearn`.
        rows: what it is fitted on.
        kind: of the targets: `single_label`, `multi_label` or `regression`.
        normalise: raw samples `[N, *input_shape]` to the module's inputs; must not fall.
        seed: of ties between equal cuts.

    Returns:
        The module, and its rules with thresholds in the units of the data.
    """
    paths = fitter_of(config).grow(rows.inputs_NF, rows.targets_NK, seed=seed)
    rules = answered(paths, rows, kind=kind)
    module = build_rules(config)
    module.fill(rules, _normalised(different(rules), config.input_shape, normalise))
    return module, rules


def _normalised(
    places: list[tuple[int, float]],
    shape: tuple[int, ...],
    normalise: Callable[[Tensor], Tensor],
) -> list[float]:
    """Thresholds as the module's inputs are: a sample of each, normalised."""
    found: list[float] = []
    for feature, threshold in places:
        raw = torch.zeros(prod(shape))
        raw[feature] = threshold
        found.append(float(normalise(raw.reshape(1, *shape)).flatten()[feature]))
    return found


def drawn_rows(count: int, *, share: float, seed: int) -> np.ndarray:
    """Which of `count` rows a seed draws, in rising order."""
    chosen = max(1, round(share * count))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return np.sort(order[:chosen].numpy())


def _check(owner: object, name: str, least: float, most: float | None = None) -> None:
    value = getattr(owner, name)
    if value is None and name == "max_depth":
        return
    is_whole = least != 0
    is_number = isinstance(value, int if is_whole else int | float) and not isinstance(value, bool)
    if not is_number or value < least or (most is not None and value > most):
        bound = f"at least {least:g}" if most is None else f"from {least:g} to {most:g}"
        kind = "a whole number" if is_whole else "a number"
        raise ModelError(
            f"The option `{name}` of `{type(owner).name}` is {value!r}; "  # type: ignore[attr-defined]
            f"give {kind} {bound}."
        )


def _check_share(owner: "DecisionTree | RuleList") -> None:
    if isinstance(owner.rows, bool) or not isinstance(owner.rows, int | float):
        raise ModelError(f"The option `rows` of `{owner.name}` is {owner.rows!r}; give a share.")
    if not 0 < owner.rows <= 1:
        raise ModelError(
            f"The option `rows` of `{owner.name}` is {owner.rows!r}; give a share of the rows, "
            "above 0 and at most 1."
        )
