"""Every term on maps and tokens from a recipe: trained, with live and with stored answers."""

import json
from pathlib import Path

import pytest

import potstill
from potstill.models import load_model
from potstill.recipe import parse

ONE = {"student_layer": "layer2", "teacher_layer": "layer2"}
SEVERAL = {"student_layer": ["layer1", "layer2"], "teacher_layer": ["layer1", "layer2"]}
OBJECTIVE = [
    {"term": "cross_entropy"},
    {"term": "ofa"},
    {"term": "ofa_exits", "student_layers": ["layer1", "pool"], "width": 8},
    {"term": "vid", **ONE},
    {"term": "factor_transfer", **ONE, "paraphraser_epochs": 1},
    {"term": "activation_boundaries", **ONE, "weight": 0.003},
    {"term": "review", **SEVERAL, "width": 8},
    {"term": "pkd", **ONE},
    {"term": "cwd", **ONE},
    {"term": "mgd", **ONE, "weight": 7e-5},
    {"term": "vitkd", **SEVERAL},
]


@pytest.mark.parametrize("store", ["off", "on"])
def test_all_of_them_at_once(store: str, tmp_path: Path) -> None:
    recipe = {
        "name": "maps",
        "data": {"source": "builtin", "name": "digits", "limit": 200},
        "teacher": {
            "model": {"source": "builtin", "name": "cnn", "width": 6, "depth": 2},
            "train": {"epochs": 1},
        },
        "student": {"model": {"source": "builtin", "name": "cnn", "width": 3, "depth": 2}},
        "distill": {"objective": OBJECTIVE, "epochs": 1, "batch_size": 32},
        "seeds": [0],
        "speed": "exact",
        "store": store,
        "export": [],
        "measure": {"seconds": 0.02, "energy": False},
    }

    potstill.run(parse(recipe), out=tmp_path)

    results = json.loads((tmp_path / "results.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    (terms,) = [li["terms"] for li in lines if li["role"] == "distilled" and li["split"] == "train"]
    assert set(terms) == {spec["term"] for spec in OBJECTIVE}
    names = [set(load_model(tmp_path / "models" / r / "seed-0")[0].state_dict())
             for r in ("scratch", "distilled")]  # fmt: skip
    assert names[0] == names[1]
    assert (
        results["models"]["distilled"]["parameters"] == results["models"]["scratch"]["parameters"]
    )
