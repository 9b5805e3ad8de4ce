"""Writes run folders as the pipeline does, with made-up models: real inputs, consistent figures.

Every figure in `results.json` is counted from the answers in `predictions.npz`.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits

from potstill.measure.verdict import Trade, judge

SEEDS = (0, 1, 2, 3, 4)
EPOCHS = 30
T_975 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # of Student's t, by the number of seeds
SKILL = {"teacher": 3.6, "scratch": 2.35, "distilled": 2.9}
PARAMETERS = {"teacher": 2_395_210, "scratch": 84_618, "distilled": 84_618}


@dataclass(frozen=True, kw_only=True)
class Task:
    """The inputs and the targets of a made-up test set."""

    name: str
    kind: str
    target_kind: str
    inputs: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...] | None
    features: tuple[str, ...] | None = None

    @property
    def width(self) -> int:
        if self.target_kind == "single_label":
            return len(self.classes or ())
        return self.labels.shape[1]

    @property
    def primary(self) -> str:
        return {"single_label": "accuracy", "multi_label": "f1_macro"}.get(self.target_kind, "rmse")


def images() -> Task:
    digits = load_digits()
    pixels = (digits.images[:600, None] * 255 / 16).astype(np.uint8)
    names = tuple(str(digit) for digit in range(10))
    return Task(name="digits", kind="image", target_kind="single_label", inputs=pixels,
                labels=digits.target[:600], classes=names)  # fmt: skip


def table() -> Task:
    cancer = load_breast_cancer()
    return Task(name="breast-cancer", kind="table", target_kind="single_label",
                inputs=cancer.data[:400].astype(np.float32), labels=cancer.target[:400],
                classes=("malignant", "benign"), features=tuple(cancer.feature_names))  # fmt: skip


def signals(rng: np.random.Generator) -> Task:
    labels = (rng.random((300, 6)) < 0.25).astype(np.float32)
    time = np.linspace(0, 6 * np.pi, 300)
    waves = np.stack([np.sin(time * (k + 1) / 2 + k) for k in range(6)])
    inputs = (labels @ waves + 0.15 * rng.normal(size=(300, 300)))[:, None].astype(np.float32)
    names = ("flutter", "ectopic beat", "block", "noise", "pause", "<b>artefact</b>")
    return Task(name="beats", kind="signal", target_kind="multi_label", inputs=inputs,
                labels=labels, classes=names)  # fmt: skip


def values(rng: np.random.Generator) -> Task:
    inputs = rng.normal(size=(500, 8)).astype(np.float32)
    labels = (inputs[:, :1] * 2 + np.sin(3 * inputs[:, 1:2]) + 4).astype(np.float32)
    names = tuple(f"measure {letter}" for letter in "abcdefgh")
    return Task(name="strength", kind="table", target_kind="regression", inputs=inputs,
                labels=labels, classes=None, features=names)  # fmt: skip


def many_classes(rng: np.random.Generator, *, num_classes: int = 1000) -> Task:
    pixels = rng.integers(0, 255, size=(3000, 3, 24, 24), dtype=np.uint8)
    names = tuple(f"a class with a long name, number {i}" for i in range(num_classes))
    return Task(name="thousand", kind="image", target_kind="single_label", inputs=pixels,
                labels=rng.integers(0, num_classes, size=3000), classes=names)  # fmt: skip


def make_task(kind: str) -> Task:
    rng = np.random.default_rng(5)
    makers = {
        "image": images,
        "table": table,
        "signal": lambda: signals(rng),
        "regression": lambda: values(rng),
        "many": lambda: many_classes(rng),
    }
    return makers[kind]()


def write_run(
    folder: Path,
    *,
    kind: str = "image",
    seeds: tuple[int, ...] = SEEDS,
    skill: dict[str, float] = SKILL,
    name: str = "",
) -> Path:
    """A finished run. `skill` says how good each role's answers are."""
    task = make_task(kind)
    folder.mkdir(parents=True, exist_ok=True)
    answers = _answers(task, seeds, skill)
    results = _results(task, answers, seeds, name or task.name)
    _dump(folder / "results.json", results)
    ids = np.arange(len(task.labels)) + 1000
    np.savez_compressed(folder / "predictions.npz", ids=ids, labels=task.labels, **answers)
    _write_samples(folder, task, answers, ids, seeds)
    _write_history(folder, task, results, seeds)
    _write_recipe(folder, results["name"])
    _dump(folder / "environment.json", ENVIRONMENT | {"seeds": list(seeds)})
    names = ("teacher", "scratch", "distil", "measure", "export", "report")
    stages = {n: {"hash": "5f1c", "state": "done", "seconds": 4.2 * i} for i, n in enumerate(names)}
    _dump(folder / "stages.json", {"format": 1, "stages": stages})
    return folder


ENVIRONMENT = {
    "format": 1,
    "versions": {"potstill": "0.1.0", "python": "3.11.9", "torch": "2.15.0", "numpy": "2.4.1"},
    "hardware": {"cpu": "8-core x86-64", "memory_gb": 16, "accelerator": None},
    "git": {"revision": "5c1095c", "dirty": False},
    "command": "potstill run digits",
}


def _answers(task: Task, seeds: tuple[int, ...], skill: dict[str, float]) -> dict[str, np.ndarray]:
    """Logits around the truth. Noise of the sample is shared, so that the roles err together."""
    hard = np.random.default_rng(1).normal(size=(len(task.labels), task.width))
    follow = np.random.default_rng(2).normal(size=hard.shape)
    found: dict[str, np.ndarray] = {}
    for role, good in skill.items():
        for seed in seeds[:1] if role == "teacher" else seeds:
            own = np.random.default_rng([seed, len(role)]).normal(size=hard.shape)
            like_teacher = 0.75 if role != "scratch" else 0.2
            noise = 0.85 * hard + like_teacher * follow + (1 - like_teacher) * 0.5 * own
            found[f"{role}_{seed}"] = _answer(task, noise, good + 0.06 * (seed % 3))
    return found


def _answer(task: Task, noise: np.ndarray, good: float) -> np.ndarray:
    if task.target_kind == "regression":
        return (task.labels + noise / good).astype(np.float32)
    if task.target_kind == "multi_label":
        return ((2 * task.labels - 1) * good + 1.6 * noise).astype(np.float32)
    truth = np.eye(task.width)[task.labels.astype(int)]
    # Neighbouring classes are mistaken for each other more often than others.
    near = 0.3 * np.roll(truth, 1, axis=1) * (task.labels[:, None] % 3 == 0)
    reach = 1.6 if task.width > 100 else 1.0
    return (reach * good * 2.1 * (truth + near) + 1.7 * noise).astype(np.float32)


def metrics_of(task: Task, logits: np.ndarray) -> dict[str, float]:
    """The test metrics, the primary one first."""
    if task.target_kind == "regression":
        error = logits - task.labels
        return {"rmse": float(np.sqrt((error**2).mean())), "mae": float(np.abs(error).mean())}
    if task.target_kind == "multi_label":
        said, truth = logits > 0, task.labels > 0.5
        f1 = 2 * (said & truth).sum(0) / (said.sum(0) + truth.sum(0))
        return {"f1_macro": float(f1.mean()), "label_accuracy": float((said == truth).mean())}
    right = logits.argmax(1) == task.labels
    recalls = [right[task.labels == c].mean() for c in np.unique(task.labels)]
    return {"accuracy": float(right.mean()), "balanced_accuracy": float(np.mean(recalls))}


def summary(values: list[float]) -> dict[str, object]:
    mean = float(np.mean(values))
    if len(values) < 2:
        return {"mean": mean, "std": None, "ci95": None, "values": values}
    std = float(np.std(values, ddof=1))
    half = T_975[len(values)] * std / math.sqrt(len(values))
    return {"mean": mean, "std": std, "ci95": [mean - half, mean + half], "values": values}


def _results(
    task: Task, answers: dict[str, np.ndarray], seeds: tuple[int, ...], name: str
) -> dict[str, object]:
    up = task.primary != "rmse"
    models = {role: _model(task, answers, role, seeds) for role in SKILL}
    classes = list(task.classes) if task.classes else None
    return {
        "format": 1,
        "name": name,
        "task": "regression" if task.target_kind == "regression" else "classification",
        "primary": task.primary,
        "higher_is_better": up,
        "seeds": list(seeds),
        "models": models,
        "verdict": _verdict(models, task.primary, up=up),
        "data": {
            "kind": task.kind, "name": task.name, "train": 1078, "validation": 120,
            "test": len(task.labels), "classes": classes,
            "features": list(task.features) if task.features else None,
            "target_kind": task.target_kind,
        },
        "objective": "0.9 * KD(temperature=4) + 0.1 * CrossEntropy()",
        "command": f"potstill run {name}",
        "created": "2026-11-21T10:15:00+00:00",
        "warnings": [],
    }  # fmt: skip


def _model(
    task: Task, answers: dict[str, np.ndarray], role: str, seeds: tuple[int, ...]
) -> dict[str, object]:
    scores = [metrics_of(task, v) for k, v in answers.items() if k.startswith(role + "_")]
    test = {metric: summary([s[metric] for s in scores]) for metric in scores[0]}
    worse = 0.003 if task.primary != "rmse" else -0.004
    last = [s[task.primary] - worse for s in scores]
    large = role == "teacher"
    ece = summary([0.031 - 0.004 * large + 0.002 * i for i in range(len(scores))])
    latency = {"p50": 0.841 if large else 0.0312, "p95": 1.02 if large else 0.0407}
    return {
        "name": "cnn" if large else "mlp",
        "description": "CNN with 6 layers" if large else "MLP, 64-128-64-10",
        "test": test,
        "test_last": {task.primary: summary(last)},
        "calibration": None if task.target_kind == "regression" else {"ece": ece},
        "parameters": PARAMETERS[role],
        "bytes": PARAMETERS[role] * 4,
        "flops": PARAMETERS[role] * 2,
        "train_seconds": 31.5 if large else 6.2,
        "energy_wh": 0.42 if large else 0.08,
        "co2_g": None,
        "agreement": None if large else summary([0.97 + 0.002 * i for i in range(len(scores))]),
        "latency_ms": {**latency, "batch": 1, "threads": 1, "engine": "onnxruntime"},
        "file": None if large else f"export/{role}.onnx",
        "file_bytes": None if large else PARAMETERS[role] * 4 + 2048,
    }


def _verdict(models: dict, primary: str, *, up: bool) -> dict[str, object]:
    values = [models[role]["test"][primary]["values"] for role in ("distilled", "scratch")]
    teacher = models["teacher"]["test"][primary]["values"]
    trade = Trade(agreement=0.981, speedup=26.9, compression=28.3)
    return dict(judge(*values, teacher, metric=primary, higher_is_better=up, trade=trade))


def _write_samples(
    folder: Path, task: Task, answers: dict[str, np.ndarray], ids: np.ndarray, seeds: tuple
) -> None:
    """Up to 96 samples on which the models disagree."""
    first = seeds[0]
    outs = [answers[f"{role}_{first}"] for role in ("teacher", "scratch", "distilled")]
    apart = np.abs(outs[0] - outs[2]).sum(1)
    if task.target_kind == "single_label":
        wrong = [out.argmax(1) != task.labels for out in outs]
        apart = apart + 100.0 * (wrong[0] | wrong[2])
    elif task.target_kind == "multi_label":
        wrong = [((out > 0) != (task.labels > 0.5)).any(1) for out in outs]
        apart = apart + 100.0 * (wrong[0] ^ wrong[2])
    chosen = np.sort(np.argsort(-apart)[:96])
    np.savez_compressed(folder / "samples.npz", ids=ids[chosen], inputs=task.inputs[chosen])


def _write_history(folder: Path, task: Task, results: dict, seeds: tuple[int, ...]) -> None:
    lines = []
    for role, model in results["models"].items():
        goal = model["test"][task.primary]["values"]
        for i, seed in enumerate(seeds[: len(goal)]):
            rng = np.random.default_rng([seed, len(role)])
            stop = EPOCHS - (4 if role == "distilled" and i == 1 else 0)  # stopped early
            for epoch in range(1, stop + 1):
                fade = math.exp(-epoch / 5)
                start = 0.35 if task.primary != "rmse" else 2.4
                score = goal[i] + (start - goal[i]) * fade + 0.004 * rng.normal()
                loss = 0.05 + 2.1 * fade * (1.4 if role == "distilled" else 1) + 0.01 * rng.random()
                line = {"role": role, "seed": seed, "epoch": epoch, "step": epoch * 34,
                        "seconds": 0.2 * epoch}  # fmt: skip
                lines.append({**line, "split": "train", "loss": loss, "terms": {"kd": 0.9 * loss},
                              "lr": 0.001})  # fmt: skip
                lines.append({**line, "split": "validation", "loss": loss * 1.1,
                              "metrics": {task.primary: score}})  # fmt: skip
    text = "\n".join(json.dumps(line) for line in lines)
    (folder / "metrics.jsonl").write_text(text + "\n", encoding="utf-8")


def _write_recipe(folder: Path, name: str) -> None:
    recipe = f"""name: {name}
task: classification
data: {{source: builtin, name: digits, validation: 0.1}}
teacher:
  model: {{source: builtin, name: cnn, width: 64}}
  train: {{epochs: 30, optimizer: adamw, lr: 1.0e-3}}
student:
  model: {{source: builtin, name: mlp, hidden: [128, 64]}}
distill:
  objective: [{{term: kd, temperature: 4, weight: 0.9}}, {{term: cross_entropy, weight: 0.1}}]
  epochs: 30
seeds: 5
export: [onnx]
"""
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")


def _dump(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def change(path: Path, **changes: object) -> None:
    """Change keys of a JSON file."""
    _dump(path, json.loads(path.read_text(encoding="utf-8")) | changes)
