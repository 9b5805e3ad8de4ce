"""What a page's reader has before its blocks run: files of their own, models, tokenizers."""

import gzip
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

Names = dict[str, Any]


def conditions(_: Path) -> Names:
    from potstill.data import from_arrays

    labels = np.arange(200) % 5
    inputs = np.eye(5)[labels] + np.random.default_rng(0).normal(0, 0.3, (200, 5))
    teacher = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 5))
    return {
        "data": from_arrays(inputs.astype(np.float32), labels),
        "teacher": teacher,
        "student": lambda: nn.Linear(5, 5),
    }


def deployment(folder: Path) -> Names:
    """A finished run of the digits, much shorter than its recipe."""
    import potstill

    short = ["teacher.train.epochs=1", "distill.epochs=1", "seeds=1", "speed=exact", "store=off"]
    small = ["export=[]", "teacher.model.width=4", "measure={energy: false, seconds: 0.05}"]
    potstill.run("digits", overrides=[*short, *small], out=folder / "runs/digits")
    return {}


def embeddings(folder: Path) -> Names:
    from tests.unit.embedding.tiny import save_sentence_encoder, save_texts

    from .written import blocks

    save_sentence_encoder(folder / "encoder")
    for part, path in save_texts(folder).items():
        (folder / f"{part}.jsonl.gz").write_bytes(gzip.compress(Path(path).read_bytes()))
    recipe = blocks("docs/embeddings.md", "yaml")[0].text
    (folder / "sentences.yaml").write_text(recipe, encoding="utf-8")
    return {}


def language_models(_: Path) -> Names:
    from tests.unit.language.tiny import config

    from potstill.models import create_model
    from potstill.tasks import CausalLM

    plain = config("qwen2")
    adapted = replace(plain, options={**plain.options, "lora": {"rank": 4}})
    return {"student": create_model(adapted, seed=0), "task": CausalLM()}


def on_policy(_: Path) -> Names:
    from types import SimpleNamespace

    from tests.unit.generation.tiny import llama, prompts
    from tests.unit.language.test_on_policy import END, questions
    from tests.unit.language.tiny import model

    from potstill import KD, CrossEntropy, ModuleTeacher
    from potstill.data import Feed, Normalise, Samples
    from potstill.tasks import CausalLM

    batch = questions()
    samples = Samples(inputs=batch.inputs, labels=batch.labels, ids=batch.ids)
    return {
        "tokenizer": SimpleNamespace(eos_token_id=END),
        "model": llama(),
        "prompts": prompts(3, 5),
        "CausalLM": CausalLM,
        "student": model(seed=1),
        "teacher": ModuleTeacher(model(seed=2), CausalLM()),
        "objective": 0.9 * KD(temperature=1) + 0.1 * CrossEntropy(),
        "feed": Feed(
            samples=samples, batch_size=3, seed=0, normalise=Normalise(tokens=True), shuffle=False
        ),
    }


def results(_: Path) -> Names:
    from tests.unit.vocab.tiny import TEXTS, byte_level

    import potstill.vocab

    return {"potstill": potstill, "tokenizer": byte_level(), "texts": TEXTS[:1]}


def quantisation(_: Path) -> Names:
    from tests.unit.compress.test_int4 import config, texts

    from potstill.models import create_model

    model = create_model(config())
    return {
        "language_model": model,
        "language_config": config(),
        "texts": [texts(seed) for seed in range(2)],
    }


def readme(_: Path) -> Names:
    """A teacher, a student, few data: what both ways of the first section begin with."""
    from potstill import KD, CrossEntropy, Distiller, ModuleTeacher, TensorBatches, TrainSettings
    from potstill.tasks import Classification

    torch.manual_seed(0)
    inputs, labels, epochs, rate = torch.randn(200, 6), torch.arange(200) % 3, 2, 3e-3
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3))
    student = nn.Linear(6, 3)
    optimizer = torch.optim.AdamW(student.parameters(), lr=rate, weight_decay=0.0)
    ours = [KD, Classification, CrossEntropy, Distiller, ModuleTeacher, TensorBatches]
    names: Names = {thing.__name__: thing for thing in [*ours, TrainSettings]}
    names |= {"torch": torch, "math": math, "F": nn.functional, "optimizer": optimizer}
    names |= {"inputs": inputs, "labels": labels, "epochs": epochs, "rate": rate, "seed": 0}
    return names | {"step": 0, "total": 8, "model": model, "teacher": model, "student": student}


def speech(folder: Path) -> Names:
    """Files of the shipped recipe, a microphone that hears nothing, a teacher of three words."""
    from tests.unit.speech.tiny import archive

    from potstill.export.streaming import export_streaming, initial_state
    from potstill.models import ModelConfig, create_model

    archive(folder / "fsdd.npz", each=6)
    options = {"sampling_rate": 8000, "widths": [4, 4]}
    hears = ModelConfig(
        source="builtin", name="tc_resnet", options=options, input_shape=(1, 8000), num_outputs=3
    )
    model, files = create_model(hears).eval(), folder / "runs/spoken-digits/export"
    files.mkdir(parents=True)
    made = files / "distilled-streaming.onnx"
    hop, frames = export_streaming(model, made, samples=8000, hop_ms=20, scale=32768)
    state = initial_state(model, frames)
    np.savez(made.with_suffix(".npz"), samples=state[0].numpy(), frames=state[1].numpy())
    return {"microphone": lambda: [np.zeros(hop, np.int16)] * 3, "teacher": model}


def tables(folder: Path) -> Names:
    """The columns of a finished run of `heart-tree`."""
    from potstill.data import TableColumn, TableForm

    codes = {"cp": "0123", "restecg": "012", "slope": "012", "thal": "123"}
    numbers = ("age", "sex", "trestbps", "chol", "fbs", "thalach", "exang", "oldpeak", "ca")
    columns = [TableColumn(name=name) for name in numbers]
    columns += [TableColumn(name=name, categories=tuple(c)) for name, c in codes.items()]
    file = folder / "runs/heart-tree/export/columns.json"
    file.parent.mkdir(parents=True)
    TableForm(tuple(columns)).save(file)
    return {}


def tokenizers(_: Path) -> Names:
    from tests.unit.language.tiny import model
    from tests.unit.vocab.tiny import byte_level, sentencepiece

    return {
        "student_tokenizer": byte_level(),
        "teacher_tokenizer": sentencepiece(),
        "model": model(vocabulary=400),
    }


def translation(folder: Path) -> Names:
    from tests.unit.translation.tiny import config, save_pairs
    from tests.unit.vocab.tiny import byte_level

    from potstill.models import create_model

    byte_level().save_pretrained(str(folder / "teacher"))
    small = config()
    wide = replace(small, num_outputs=len(byte_level()))
    return {
        "files": save_pairs(folder, train=24, others=6),
        "teacher": create_model(wide, seed=1),
        "student": lambda: create_model(wide, seed=2),
    }


GIVEN: dict[str, Callable[[Path], Names]] = {
    "README.md": readme,
    "docs/conditions.md": conditions,
    "docs/deployment.md": deployment,
    "docs/measure.md": deployment,
    "docs/embeddings.md": embeddings,
    "docs/language-models.md": language_models,
    "docs/on-policy.md": on_policy,
    "docs/quantisation.md": quantisation,
    "docs/results.md": results,
    "docs/speech.md": speech,
    "docs/tables.md": tables,
    "docs/tokenizers.md": tokenizers,
    "docs/translation.md": translation,
}


def given(page: str, folder: Path) -> Names:
    """What is there before the first block of a page; most pages need nothing."""
    return GIVEN[page](folder) if page in GIVEN else {}
