"""Folders of finished runs whose models are tiny ONNX files, for each kind of sample."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tests.unit.text.tiny import BAD, GOOD, WORDS, save_tokenizer

from potstill.data.tokens import Tokens

CLASSES = ["low", "middle", "high"]
SHAPES = {"image": (1, 6, 6), "audio": (1, 400), "table": (4,), "signal": (2, 30)}


def write_model(path: Path, shape: tuple[int, ...], *, scale: float, sharp: float) -> Path:
    """Logits by the mean size of a sample's numbers, `-sharp * (mean / scale - centre) ** 2`."""
    weights = {
        "axes": np.arange(1, 1 + len(shape)),
        "scale": np.array([scale], dtype=np.float32),
        "centres": np.array([0.0, 0.5, 1.0], dtype=np.float32),
        "sharp": np.array([-sharp], dtype=np.float32),
        "row": np.array([-1, 1]),
    }
    nodes = [
        ("Abs", ["input"], "size"),
        ("ReduceMean", ["size", "axes"], "mean"),
        ("Reshape", ["mean", "row"], "level"),
        ("Div", ["level", "scale"], "scaled"),
        ("Sub", ["scaled", "centres"], "apart"),
        ("Mul", ["apart", "apart"], "square"),
        ("Mul", ["square", "sharp"], "logits"),
    ]
    graph = helper.make_graph(
        [helper.make_node(kind, given, [made]) for kind, given, made in nodes],
        "by_mean",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    opset = helper.make_opsetid("", 18)
    onnx.save_model(helper.make_model(graph, opset_imports=[opset], ir_version=10), str(path))
    return path


def write_reader(path: Path) -> Path:
    """Logits of texts: how many good words there are, minus the bad ones, for and against."""
    good, bad = (np.array([WORDS.index(w) for w in words]) for words in (GOOD, BAD))
    values = np.zeros(len(WORDS), dtype=np.float32)
    values[good], values[bad] = 1.0, -1.0
    weights = {
        "values": values,
        "signs": np.array([[-4.0, 4.0]], dtype=np.float32),
        "axis": np.array([1]),
        "column": np.array([-1, 1]),
    }
    nodes = [
        ("Gather", ["values", "input_ids"], "moods"),
        ("Cast", ["attention_mask"], "mask"),
        ("Mul", ["moods", "mask"], "kept"),
        ("ReduceSum", ["kept", "axis"], "sums"),
        ("Reshape", ["sums", "column"], "mood"),
        ("Mul", ["mood", "signs"], "logits"),
    ]
    made = [
        helper.make_node(
            kind, given, [out], **({"to": TensorProto.FLOAT} if kind == "Cast" else {})
        )
        for kind, given, out in nodes
    ]
    graph = helper.make_graph(
        made,
        "by_words",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    opset = helper.make_opsetid("", 18)
    onnx.save_model(helper.make_model(graph, opset_imports=[opset], ir_version=10), str(path))
    return path


def write_text_run(folder: Path) -> Path:
    """A run about moods of texts, with its tokenizer; teacher and student are one model."""
    for name in ("teacher", "distilled"):
        write_reader(folder / "export" / f"{name}.onnx")
    save_tokenizer(folder / "export" / "tokenizer")
    tokens = Tokens.load(str(folder / "export" / "tokenizer"))
    planes, _ = tokens.planes(["the film was fine", "a dull story"], None, max_length=16)
    np.savez(folder / "samples.npz", ids=np.arange(2), inputs=planes)
    np.savez(folder / "predictions.npz", ids=np.arange(2), labels=np.array([1, 0]))
    data = {"kind": "text", "name": "moods", "classes": ["bad", "good"]}
    results = {"format": 1, "name": "moods", "data": data, "models": {}}
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "recipe.yaml").write_text("data: {max_length: 6}")
    return folder


def write_run(folder: Path, *, kind: str = "image", target_kind: str = "single_label") -> Path:
    """Three models that agree: the teacher is surest."""
    shape, scale = SHAPES[kind], {"image": 255.0, "audio": 32768.0}.get(kind, 1.0)
    samples = made_samples(kind)
    for name, sharp in (("teacher", 40.0), ("distilled", 20.0), ("scratch", 10.0)):
        write_model(folder / "export" / f"{name}.onnx", shape, scale=scale, sharp=sharp)
    labels = np.arange(len(samples)) % 3
    np.savez(folder / "samples.npz", ids=np.arange(len(samples)), inputs=samples)
    np.savez(folder / "predictions.npz", ids=np.arange(len(samples)), labels=labels)
    data = {
        "kind": kind, "name": "tiny", "classes": CLASSES, "target_kind": target_kind,
        "sampling_rate": 400 if kind == "audio" else None,
        "features": [f"f{i}" for i in range(shape[0])] if kind == "table" else None,
    }  # fmt: skip
    results = {"format": 1, "name": "tiny", "task": "classification", "data": data, "models": {}}
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def made_samples(kind: str) -> np.ndarray:
    """`[9, …]`, samples 0, 3, 6 low, 1, 4, 7 in the middle, 2, 5, 8 high."""
    levels = (np.arange(9) % 3 / 2).reshape(-1, *[1] * len(SHAPES[kind]))
    filled = np.ones((9, *SHAPES[kind])) * levels
    if kind == "image":
        return (255 * filled).astype(np.uint8)
    if kind == "audio":
        return (32767 * filled).astype(np.int16)
    return filled.astype(np.float32)
