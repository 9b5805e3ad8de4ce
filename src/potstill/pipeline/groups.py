"""Test figures of each group (domain, site, speaker), and of the worst one."""

from collections.abc import Mapping

import torch

from potstill.measure.summary import summarise
from potstill.pipeline.workshop import Workshop
from potstill.train.evaluate import Answers, score

ROLES = ("teacher", "scratch", "distilled")


def group_figures(shop: Workshop, answers: Mapping[str, Answers]) -> dict[str, object]:
    """The primary metric of every role on each group, and on the group where it is worst.

    Returns:
        Empty without groups; else `rows` of each group, `figures` by role and group (each a
        summary over seeds) and `worst` by role: the group with the worst mean, and its summary.
    """
    data, task = shop.experiment.data, shop.experiment.task
    if data.groups is None or data.test.groups is None:
        return {}
    group_of = dict(zip(data.test.ids.tolist(), data.test.groups.tolist(), strict=True))
    first = next(iter(answers.values()))
    rows_N = torch.tensor([group_of[sample] for sample in first.ids.tolist()])
    present = [number for number in range(len(data.groups)) if bool((rows_N == number).any())]
    figures: dict[str, dict[str, object]] = {}
    worst: dict[str, object] = {}
    for role in ROLES:
        mine = [a for name, a in answers.items() if name.rpartition("_")[0] == role]
        found = {
            data.groups[number]: summarise(
                [score(_some(a, rows_N == number), task)[task.primary] for a in mine]
            )
            for number in present
        }
        sign = 1 if task.higher_is_better else -1
        lowest = min(found, key=lambda name: sign * found[name]["mean"])
        figures[role], worst[role] = dict(found), {"group": lowest, **found[lowest]}
    counts = {data.groups[number]: int((rows_N == number).sum()) for number in present}
    return {"rows": counts, "figures": figures, "worst": worst}


def _some(answers: Answers, chosen_N: torch.Tensor) -> Answers:
    return Answers(answers.outputs[chosen_N], answers.labels[chosen_N], answers.ids[chosen_N])
