"""The stage `calibrate`: the teacher's confidence corrected on the validation data."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from potstill.errors import RecipeError
from potstill.measure.quality import calibration_error, softmax
from potstill.pipeline.teaching import Ready
from potstill.pipeline.workshop import Workshop
from potstill.teachers.calibrated import Calibrated, best_temperature, cross_entropy
from potstill.train.evaluate import Answers, answers_of


def calibrated(shop: Workshop, ready: Ready) -> Ready:
    """The teacher, calibrated if the experiment asks for it.

    Raises:
        RecipeError: the task is not about one class a sample.
        HandshakeError: the teacher has no logits of all classes.
    """
    experiment = shop.experiment
    if not experiment.calibrate:
        return ready
    if experiment.task.kind != "single_label":
        raise RecipeError(
            f"Calibration is for classes, one a sample, and the task is {experiment.task.kind}; "
            "leave `calibrate` out."
        )
    outcome = shop.run(
        "calibrate",
        depends_on=shop.key("calibrate", ready.teacher.fingerprint()),
        files=(),
        work=lambda: _calibrate(shop, ready),
    )
    temperature = cast("float", outcome["temperature"])
    shop.progress.note(f"teacher calibrated: temperature {temperature:.3f}")
    return replace(
        ready,
        teacher=Calibrated(ready.teacher, temperature),
        other={name: Calibrated(each, temperature) for name, each in ready.other.items()},
        description=f"{ready.description}, calibrated (logits / {temperature:.3f})",
    )


def _calibrate(shop: Workshop, ready: Ready) -> Mapping[str, object]:
    data, task = shop.experiment.data, shop.experiment.task
    teacher = Calibrated(ready.teacher.to(shop.runtime.device), 1.0).teacher
    answers = answers_of(teacher, shop.feed(data.validation), task)
    temperature = best_temperature(answers.outputs, answers.labels)
    return {"temperature": temperature, **confidence(answers, temperature)}


def confidence(answers: Answers, temperature: float) -> dict[str, object]:
    """Calibration error and likelihood of uncalibrated answers, before and after."""
    after = answers.outputs / temperature
    return {
        "ece": {"before": _ece(answers), "after": _ece(replace(answers, outputs=after))},
        "nll": {
            "before": cross_entropy(answers.outputs, answers.labels),
            "after": cross_entropy(after, answers.labels),
        },
    }


def _ece(answers: Answers) -> float:
    return calibration_error(softmax(answers.outputs.numpy()), answers.labels.numpy())["ece"]


def calibration_figures(shop: Workshop, answers: Answers, ready: Ready) -> dict[str, object]:
    """Of a calibrated teacher, its test figures before and after beside those of validation."""
    if not isinstance(ready.teacher, Calibrated):
        return {}
    temperature = ready.teacher.temperature
    raw = replace(answers, outputs=answers.outputs * temperature)
    found = shop.ledger.outcome("calibrate")
    validation = {key: found[key] for key in ("ece", "nll")}
    return {
        "temperature": temperature,
        "validation": validation,
        "test": confidence(raw, temperature),
    }
