"""How a candidate learns: terms, temperature, weights, learning rate."""

from collections.abc import Mapping, Sequence

from potstill.search.families import OWN, TERMS
from potstill.search.space import Choice, Knob, Value, of_branch

LR, SHARE, TEMPERATURE = "lr", "soft_weight", "temperature"
_LR_FACTOR = 4.0


def terms_choice(task: str, *, temperature: float | None) -> Choice:
    """The recipe's objective and, where the task has classes, others over the same answers.

    Args:
        task: by name.
        temperature: the recipe's, so that it lies within what is searched.

    `kd` is Hinton et al. 2015, `dkd` Zhao et al. 2022 (arXiv:2203.08679), `dist` Huang et al. 2022
    (arXiv:2205.10536); each beside cross entropy on the labels.
    """
    if task not in ("classification", "keyword"):
        return Choice(name=TERMS, branches={OWN: ()})
    own = temperature or 4.0
    warmth = Knob(name=TEMPERATURE, low=min(1.0, own), high=max(8.0, own), log=True)
    share = Knob(name=SHARE, low=0.5, high=1.0)
    return Choice(
        name=TERMS,
        branches={OWN: (), "kd": (warmth, share), "dkd": (warmth, share), "dist": (warmth, share)},
    )


def learning_knobs(lr: float) -> tuple[Knob, ...]:
    """The learning rate, from a quarter of the recipe's to four times it."""
    return (Knob(name=LR, low=lr / _LR_FACTOR, high=lr * _LR_FACTOR, log=True),)


def objective(
    values: Mapping[str, Value], own: Sequence[Mapping[str, object]]
) -> list[dict[str, object]]:
    """The terms as a recipe's `distill.objective` says them.

    Args:
        values: of a trial.
        own: the recipe's.
    """
    chosen = str(values[TERMS])
    if chosen == OWN:
        return [dict(term) for term in own]
    knobs = of_branch(values, chosen)
    share = round(float(knobs[SHARE]), 4)
    soft: dict[str, object] = {"term": chosen, "weight": share}
    soft[TEMPERATURE] = round(float(knobs[TEMPERATURE]), 4)
    if share >= 1.0:
        return [soft]
    return [soft, {"term": "cross_entropy", "weight": round(1.0 - share, 4)}]


def lesson(values: Mapping[str, Value]) -> str:
    """How a candidate learns, in few words: `dkd at 3.2, 0.85 of the loss, lr 0.004`."""
    chosen, rate = str(values.get(TERMS, OWN)), values.get(LR)
    end = "" if rate is None else f", lr {float(rate):.2g}"
    if chosen == OWN:
        return f"as in the recipe{end}"
    knobs = of_branch(values, chosen)
    warmth, share = float(knobs[TEMPERATURE]), float(knobs[SHARE])
    return f"{chosen} at {warmth:.2g}, {share:.2g} of the loss{end}"
