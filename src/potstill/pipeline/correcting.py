"""The stage `correct`: a correction of students' output biases that the run proposes by itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.errors import ModelError
from potstill.measure.bias import fitted_shift, prior_shift, recall
from potstill.measure.summary import summarise
from potstill.models.output_bias import shift_outputs
from potstill.models.weights import write_weights
from potstill.pipeline.experiment import Correct
from potstill.pipeline.noticing import Frequencies, notice
from potstill.pipeline.training import BEST, CORRECTION, LAST, SELECTED, restored
from potstill.pipeline.workshop import Workshop
from potstill.protocols import Teacher
from potstill.runtime.files import write_json
from potstill.train.evaluate import Answers, answers_of, score

Outcome = Mapping[str, object]

WAYS = {
    "teacher": "the teacher's class frequencies on the validation data",
    "labels": "the class frequencies of the validation labels",
    "priors": "the class frequencies that the teacher knows",
}
"""What a correction matches, by the name of the way; the one that varies least comes first."""


def correct(shop: Workshop, teacher: Teacher) -> Outcome:
    """Notice missing classes, propose a correction for every seed, and ship it if that is asked.

    Of the ways to find a correction the one with the best validation figure is proposed; if leaving
    the student as it is has a better one than all of them, nothing is.

    Returns:
        Empty where nothing was noticed; else `rare`, `known`, `seen`, and by seed `shift`, `way`,
        `validation` before and after, `shipped`.
    """
    wanted, seeds = shop.experiment.correct_bias, shop.experiment.seeds
    found = None if wanted is Correct.OFF else notice(shop, teacher)
    if found is None:
        for seed in seeds:
            _restore(shop, seed)
        return {}
    outcome = shop.run(
        "correct",
        depends_on=shop.key(
            "correct", teacher.fingerprint(), wanted, found.apart, seeds, list(WAYS)
        ),
        files=[shop.models("distilled", seed) / CORRECTION for seed in seeds],
        work=lambda: _correct(shop, teacher, found),
    )
    for line in sentences(shop, outcome):
        shop.warn(line)
    return outcome


def _correct(shop: Workshop, teacher: Teacher, found: Frequencies) -> Outcome:
    device, validation = shop.runtime.device, shop.feed(shop.experiment.data.validation)
    taught = answers_of(teacher.to(device), validation, shop.experiment.task)
    seeds = {}
    for seed in shop.experiment.seeds:
        module, _ = _as_trained(shop, seed)
        answers = answers_of(module.to(device), validation, shop.experiment.task)
        proposed = _proposed(shop, answers, taught.outputs, found)
        _restore(shop, seed)
        wanted = shop.experiment.correct_bias is Correct.AUTO and proposed["way"] != "none"
        seeds[str(seed)] = {**proposed, "shipped": wanted and _ship(shop, seed, proposed)}
        write_json(shop.models("distilled", seed) / CORRECTION, seeds[str(seed)])
    return {
        "rare": list(found.rare),
        "known": [round(v, 5) for v in found.known.tolist()],
        "seen": [round(v, 5) for v in found.seen.tolist()],
        "answers": [round(v, 5) for v in found.answers.tolist()],
        "apart": found.apart,
        "seeds": seeds,
    }


def _proposed(
    shop: Workshop, answers: Answers, teacher_NC: Tensor, found: Frequencies
) -> dict[str, object]:
    """What every way would add, and the way that is proposed."""
    task, outputs_NC = shop.experiment.task, answers.outputs
    classes = outputs_NC.shape[1]
    shifts = {  # in the order of `WAYS`
        "teacher": fitted_shift(outputs_NC, teacher_NC.double().softmax(-1)),
        "labels": fitted_shift(outputs_NC, F.one_hot(answers.labels, classes)),
        "priors": prior_shift(found.known, found.answers),
        "none": torch.zeros(classes, dtype=torch.float64),
    }
    figures = {way: shifted(answers, shift, shop) for way, shift in shifts.items()}
    way = chosen(figures, higher_is_better=task.higher_is_better)
    return {
        "way": way,
        "shift": [round(v, 6) for v in shifts[way].tolist()],
        "validation": {"before": figures["none"], "after": figures[way]},
        "ways": figures,
    }


def chosen(figures: Mapping[str, float], *, higher_is_better: bool) -> str:
    """The way with the best validation figure; of equals the first of `WAYS`, and `none` the last.

    It is known that the student lacks classes, and a validation set can hold too few rows of them
    to show it.
    """
    sign = 1 if higher_is_better else -1
    return max([*WAYS, "none"], key=lambda way: sign * figures[way])


def shifted(answers: Answers, shift_C: Tensor, shop: Workshop) -> float:
    """The primary metric of some answers with a shift of their logits."""
    task = shop.experiment.task
    moved = Answers(answers.outputs + shift_C.to(answers.outputs), answers.labels, answers.ids)
    return score(moved, task)[task.primary]


def _as_trained(shop: Workshop, seed: int) -> tuple[nn.Module, Path]:
    """The selected weights before any correction: always those of the last or the best epoch."""
    outcome, folder = shop.ledger.outcome(f"distilled/{seed}"), shop.models("distilled", seed)
    file = LAST if outcome["selected_epoch"] == outcome["epochs"] else BEST
    student = shop.experiment.student
    return restored(student, folder, num_outputs=shop.num_outputs, file=file), folder


def _restore(shop: Workshop, seed: int) -> None:
    """Take a correction back that an earlier call has shipped, if there is one."""
    marker = shop.models("distilled", seed) / CORRECTION
    if not marker.exists():
        return
    module, folder = _as_trained(shop, seed)
    write_weights(module, folder / SELECTED)
    marker.unlink()


def _ship(shop: Workshop, seed: int, proposed: Mapping[str, object]) -> bool:
    """Write the corrected weights as the selected ones; whether that was possible."""
    module, folder = _as_trained(shop, seed)
    shift_C = torch.tensor(cast("list[float]", proposed["shift"]))
    try:
        shift_outputs(module, shift_C, shop.experiment.data.example())
    except ModelError as error:
        shop.warn(f"The correction of the output biases is not applied: {error}")
        return False
    write_weights(module, folder / SELECTED)
    return True


def sentences(shop: Workshop, outcome: Outcome) -> list[str]:
    """What was noticed and what is proposed, for people."""
    names = shop.experiment.data.classes or ()
    known, seen = (cast("list[float]", outcome[key]) for key in ("known", "seen"))
    rare = cast("list[int]", outcome["rare"])
    listed = ", ".join(
        f"`{names[c] if names else c}` ({seen[c]:.1%} instead of {known[c]:.1%})" for c in rare[:8]
    )
    what = f"classes {listed}" if rare else "the classes"
    apart = cast("float", outcome["apart"])
    first = (
        f"Students see {what} less often than the teacher knows them: the class frequencies are "
        f"{apart:.1%} apart."
        if rare
        else f"Students see other class frequencies than the teacher knows ({apart:.1%} apart)."
    )
    each = cast("Mapping[str, Mapping[str, object]]", outcome["seeds"]).values()
    ways = sorted({str(seed["way"]) for seed in each} - {"none"})
    if not ways:
        return [f"{first} The validation figure is better without a correction."]
    shipped = all(seed["shipped"] for seed in each if seed["way"] != "none")
    matched = " or ".join(WAYS[way] for way in ways)
    done = "It is applied to the shipped student." if shipped else (
        "Set `distill.correct_bias: auto` to apply it."
    )  # fmt: skip
    return [f"{first} A correction of the output biases that matches {matched} is proposed. {done}"]


def correction_figures(
    shop: Workshop, answers: Mapping[str, Answers], outcome: Outcome
) -> dict[str, object]:
    """Test figures before and after the correction, of whatever was shipped."""
    if not outcome:
        return {}
    rare = cast("list[int]", outcome["rare"])
    seeds = cast("Mapping[str, Mapping[str, object]]", outcome["seeds"])
    values: dict[str, list[float]] = {"before": [], "after": []}
    recalls: dict[int, dict[str, list[float]]] = {c: {"before": [], "after": []} for c in rare}
    for seed, proposed in seeds.items():
        found = answers[f"distilled_{seed}"]
        shift_C = torch.tensor(cast("list[float]", proposed["shift"]))
        moves = {"before": -shift_C, "after": 0 * shift_C}
        if not proposed["shipped"]:
            moves = {"before": 0 * shift_C, "after": shift_C}
        for when, move in moves.items():
            values[when].append(shifted(found, move, shop))
            outputs = (found.outputs + move).numpy()
            for number in rare:
                right = recall(outputs, found.labels.numpy(), number)
                if right is not None:
                    recalls[number][when].append(right)
    return {
        "primary": {when: summarise(v) for when, v in values.items()},
        "recall": {
            str(number): {when: summarise(v) for when, v in both.items() if v}
            for number, both in recalls.items()
        },
        **{key: outcome[key] for key in ("rare", "known", "seen", "answers", "apart", "seeds")},
    }
