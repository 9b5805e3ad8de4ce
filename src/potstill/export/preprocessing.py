"""What someone without Potstill must know of an artefact: `preprocessing.json`, `labels.json`.

The normalisation is inside every graph. What cannot be, the size that pictures are brought to, the
tokenizer, the coding of columns, is said here or lies beside.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from potstill.data.samples import DataSet, Kind
from potstill.data.tokens import Tokens
from potstill.errors import need
from potstill.export.onnx import INPUT, OUTPUT
from potstill.runtime.files import write_json, write_with
from potstill.runtime.texts import NAMES

PREPROCESSING, LABELS = "preprocessing.json", "labels.json"
TOKENIZER, COLUMNS = "tokenizer", "columns.json"

_MEANINGS = {
    "single_label": "logits: softmax gives probabilities, the largest is the label",
    "multi_label": "logits: a sigmoid gives the probability of each label, above 0 is yes",
    "regression": "values, in the units of the data",
    "embedding": "vectors, compared by cosine",
    "tokens": "logits of each token, [batch, length, labels]",
}
_LAYOUTS = {Kind.IMAGE: "NCHW", Kind.SIGNAL: "NCL", Kind.TABLE: "NF", Kind.TEXT: "NL"}


def preprocessing(data: DataSet, kind: str) -> dict[str, object]:
    """How raw samples become the inputs of a file, and what its output means.

    Args:
        data: what the student was trained on.
        kind: of the targets, as `Task.kind`.
    """
    told: dict[str, object] = {
        "kind": str(data.kind),
        "target": kind,
        "input": _input(data),
        "output": {"name": OUTPUT, "means": _MEANINGS.get(kind, "logits")},
        "normalisation": _normalisation(data),
    }
    if data.kind is Kind.IMAGE:
        height, width = data.input_shape[-2:]
        told["resize"] = {"height": height, "width": width, "mode": "bilinear, antialiased"}
    if data.sampling_rate is not None:
        told["sound"] = {
            "sampling_rate": data.sampling_rate,
            "samples": data.input_shape[-1],
            "spectrogram": "inside the file: it takes the wave",
        }
    if data.normalise.tokens:
        told["text"] = {"tokenizer": TOKENIZER, "max_length": data.input_shape[-1]}
    if data.features is not None:
        told["features"] = list(data.features)
    if data.table is not None:
        told["columns"] = COLUMNS
    return told


def write_preprocessing(folder: Path, told: Mapping[str, object], data: DataSet) -> list[Path]:
    """Write both files, and tokenizer and columns if there are any; return what is there now."""
    write_json(folder / PREPROCESSING, told)
    written = [folder / PREPROCESSING]
    if data.classes is not None:
        write_json(folder / LABELS, {"labels": list(data.classes)})
        written.append(folder / LABELS)
    if data.tokens is not None:
        data.tokens.save(folder / TOKENIZER)
        _let_pad(folder / TOKENIZER / "tokenizer.json", data.input_shape[-1], data.tokens)
        written.append(folder / TOKENIZER)
    if data.table is not None:
        data.table.save(folder / COLUMNS)
        written.append(folder / COLUMNS)
    return written


def _let_pad(path: Path, longest: int, tokens: Tokens) -> None:
    """Let the file itself cut and pad, as Transformers does when it is asked to."""
    if not path.is_file():  # a tokenizer without the fast form
        return
    tokenizer = need("tokenizers", extra="text").Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(longest)
    mark = tokenizer.id_to_token(tokens.pad)
    tokenizer.enable_padding(pad_id=tokens.pad, pad_token=mark or "[PAD]")
    write_with(path, lambda draft: tokenizer.save(str(draft)))


def _input(data: DataSet) -> dict[str, object]:
    if data.normalise.tokens:
        planes = data.input_shape[0]
        return {"names": list(NAMES[:planes]), "dtype": "int64", "shape": ["batch", "length"]}
    given: dict[str, object] = {
        "names": [INPUT],
        "dtype": "float32",
        "shape": ["batch", "length"] if data.normalise.masked else ["batch", *data.input_shape],
    }
    if data.kind in _LAYOUTS:
        given["layout"] = _LAYOUTS[data.kind]
    if data.normalise.scale != 1.0:
        given["largest"] = data.normalise.scale
    return given


def _normalisation(data: DataSet) -> dict[str, object] | None:
    """`(raw / scale - mean) / std`, for weights alone and for people."""
    if data.normalise.tokens:
        return None
    return {
        "where": "inside the graphs; before the weights of a safetensors file",
        "formula": "(raw / scale - mean) / std",
        "scale": data.normalise.scale,
        "mean": _list(data.normalise.mean),
        "std": _list(data.normalise.std),
    }


def _list(values: Tensor | None) -> object:
    return None if values is None else values.flatten().tolist()
