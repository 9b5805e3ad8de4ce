"""On-policy after off-policy beside off-policy alone, at equal steps: ROUGE-L, time and all.

Made-up instructions (`potstill.testing.pairs`): a teacher that has seen many teaches a student that
has few prompts. Both ways train the same student on the same prompts for the same steps with the
same term; one lets it write all of its samples from half of the steps on.
`python bench/on_policy.py [SEEDS [PAIRS]]`.
"""

import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import torch

from potstill.build import build
from potstill.pipeline import Experiment
from potstill.pipeline.writing import Exam, exam_of, rollout_of
from potstill.protocols import Teacher
from potstill.recipe import parse
from potstill.runtime.environment import processor_name
from potstill.runtime.fabric import Runtime
from potstill.teachers import ModuleTeacher
from potstill.testing.pairs import save_pairs
from potstill.train import Distiller

WAYS = {"off-policy": 0.0, "on-policy after half": 1.0}


def model(layers: int, width: int) -> dict[str, object]:
    config = {
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    }
    return {"source": "hf", "name": f"llama-{width}", "model_type": "llama", "config": config}


def experiment(files: dict[str, str], fraction: float) -> Experiment:
    common = {"batch_size": 32, "warmup": 0.05, "clip_norm": 1.0, "select": "last"}
    teach = {"epochs": 14, "lr": 4e-3, **common}
    distill = {"epochs": 96, "lr": 6e-3, "objective": [{"term": "kd", "temperature": 1}], **common}
    distill["on_policy"] = {"fraction": fraction, "after": 0.5, "max_new_tokens": 20}
    recipe = {
        "name": "pairs",
        "task": "causal_lm",
        "data": {
            "source": "hf",
            "files": files,
            "prompt": "question",
            "answer": "answer",
            "template": "{prompt} = ",
            "tokenizer": {"vocabulary": 320},
        },
        "teacher": {"model": model(2, 64), "train": teach},
        "student": {"model": model(1, 24)},
        "distill": distill,
    }
    return build(parse(recipe))


def trained_teacher(e: Experiment) -> ModuleTeacher:
    source, data = e.teacher, e.data
    learner = Distiller(
        source.model.make(0), task=e.task, settings=source.learning.settings, runtime=cpu()
    )
    fit = learner.fit(source.learning.feed(data.train, data, seed=0, device="cpu"), seed=0)
    return ModuleTeacher(fit.student, e.task)


def cpu() -> Runtime:
    return Runtime(device="cpu")


def student_scores(
    e: Experiment, teacher: Teacher, exam: Exam, *, seed: int, pairs: int
) -> dict[str, float]:
    samples = e.data.train.rows(slice(0, pairs))
    learner = Distiller(
        e.student.make(seed),
        teacher,
        objective=e.objective,
        task=e.task,
        settings=e.learning.settings,
        runtime=cpu(),
        rollout=rollout_of(e.on_policy, e.data, seed=seed),
    )
    feed = e.learning.feed(samples, e.data, seed=seed, device="cpu")
    fit = learner.fit(feed, seed=seed)
    scores = exam.scores(exam.answers(fit.student))
    wrote = 0.0 if fit.rollout is None else fit.rollout.seconds
    return {**scores, "steps": fit.steps, "seconds": fit.seconds, "of them writing": wrote}


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 250
    torch.set_num_threads(1)
    print(f"{processor_name()}, 1 thread, torch {torch.__version__}, Python", end=" ")
    print(f"{platform.python_version()}; {pairs} prompts, 200 test prompts", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        files = save_pairs(Path(folder), train=1500, test=200)
        made = {way: experiment(files, fraction) for way, fraction in WAYS.items()}
        first = made["off-policy"]
        teacher, exam = trained_teacher(first), exam_of(first.data, count=200)
        assert exam is not None
        found = exam.scores(exam.answers(teacher.model))
        print("teacher", {name: round(value, 4) for name, value in found.items()}, flush=True)
        gains = []
        for seed in range(seeds):  # in turns
            scores = {
                way: student_scores(e, teacher, exam, seed=seed, pairs=pairs)
                for way, e in made.items()
            }
            for way, values in scores.items():
                shown = {name: round(value, 4) for name, value in values.items()}
                print(seed, f"{way:22}", shown, flush=True)
            off, on = scores.values()
            gains.append(on["rouge_l"] - off["rouge_l"])
    mean, spread = statistics.mean(gains), statistics.stdev(gains) if seeds > 1 else float("nan")
    print(f"gain in ROUGE-L {mean:+.4f}, std over seeds {spread:.4f}, {seeds} seeds")


if __name__ == "__main__":
    main()
