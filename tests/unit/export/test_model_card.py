"""The model card: every figure that was measured is there, and what was not is said."""

import copy
import sys

import pytest

from potstill.errors import ExportError
from potstill.export.card import model_card


def summary(mean: float) -> dict[str, object]:
    return {"mean": mean, "std": 0.01, "ci95": [mean - 0.02, mean + 0.02], "values": [mean] * 3}


RESULTS: dict[str, object] = {
    "format": 1,
    "name": "digits",
    "task": "classification",
    "primary": "accuracy",
    "higher_is_better": True,
    "seeds": [0, 1, 2],
    "objective": "0.9 * KD(temperature=4) + 0.1 * CrossEntropy()",
    "command": "potstill run digits",
    "created": "2026-01-02T03:04:05+00:00",
    "warnings": ["the validation part is small"],
    "data": {
        "kind": "image",
        "name": "digits",
        "train": 1200,
        "validation": 200,
        "test": 397,
        "classes": ["0", "1"],
        "features": None,
        "target_kind": "single_label",
    },
    "models": {
        "teacher": {
            "name": "forest",
            "description": "A random forest.",
            "test": {"accuracy": {"mean": 0.98, "std": None, "ci95": None, "values": [0.98]}},
            "parameters": None,
            "bytes": None,
            "flops": None,
            "file": None,
        },
        "distilled": {
            "name": "mlp",
            "description": "One hidden layer.",
            "test": {"accuracy": summary(0.97), "f1": summary(0.96)},
            "test_last": {"accuracy": summary(0.955)},
            "calibration": {"ece": summary(0.031)},
            "parameters": 1234,
            "bytes": 4936,
            "flops": 2400,
            "train_seconds": 12.5,
            "energy_wh": None,
            "latency_ms": {
                "p50": 0.0123,
                "p95": 0.0456,
                "batch": 1,
                "threads": 1,
                "engine": "onnxruntime",
            },
            "file": "export/distilled.onnx",
        },
    },
    "verdict": {
        "helped": "yes",
        "sentence": "Distillation helped: accuracy 0.97.",
        "reason": "The gain is significant.",
        "retention": 0.99,
        "agreement": 0.985,
        "speedup": 5.0,
        "compression": None,
    },
}


def test_the_card_of_a_student_has_its_figures() -> None:
    card = model_card(RESULTS, "distilled")

    for fact in (
        "# mlp (digits, distilled)",
        "One hidden layer.",
        "| test accuracy (decides) | 0.97 ± 0.01 (std of 3 seeds; 95% interval 0.95 to 0.99) |",
        "| test accuracy, last epoch | 0.955 ± 0.01",
        "| calibration error (ECE) | 0.031 ± 0.01",
        "| parameters | 1,234 |",
        "p50 0.0123 ms, p95 0.0456 ms (batch 1, 1 threads, onnxruntime, CPU)",
        "| training energy (estimate) | not measured |",
        "Data: digits (image; 1,200 train, 200 validation, 397 test samples).",
        "Teacher: forest, not measured parameters.",
        "`0.9 * KD(temperature=4) + 0.1 * CrossEntropy()`",
        "`potstill run digits`",
        "Distillation helped: accuracy 0.97. The gain is significant.",
        "99.0% of the teacher's quality kept",
        "5 times faster than the teacher",
        "the validation part is small",
        'InferenceSession("export/distilled.onnx")',
    ):
        assert fact in card
    assert "smaller than the teacher" not in card  # compression is not known


def test_the_card_of_a_teacher_has_no_verdict_and_no_file() -> None:
    card = model_card(RESULTS, "teacher")

    assert "| test accuracy (decides) | 0.98 (one seed) |" in card
    assert "| parameters | not measured |" in card
    assert "Did the teacher help" not in card
    assert "InferenceSession" not in card
    assert "Objective" not in card


def test_results_with_little_in_them_still_make_a_card() -> None:
    card = model_card({"models": {"scratch": {"name": "mlp"}}}, "scratch")

    assert card.startswith("---\n")
    assert card.endswith("\n")
    assert "| latency | not measured |" in card
    assert "None" not in card


def test_front_matter_opens_the_card_and_is_closed() -> None:
    lines = model_card(RESULTS, "distilled").splitlines()

    assert lines[0] == "---"
    assert "tags: [knowledge-distillation, potstill]" in lines[: lines.index("---", 1)]


@pytest.mark.parametrize("role", ["scratch", "prof"])
def test_a_role_without_results_is_told(role: str) -> None:
    with pytest.raises(ExportError, match=rf"'{role}' \(there are: teacher, distilled\)"):
        model_card(RESULTS, role)


def test_the_results_are_not_changed() -> None:
    before = copy.deepcopy(RESULTS)

    model_card(RESULTS, "distilled")

    assert before == RESULTS
    assert sys.modules["potstill.export.card"].__doc__
