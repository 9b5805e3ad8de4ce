"""`example.py`: fifteen lines that ask an artefact, without Potstill or torch.

Written as text from what `preprocessing.json` says; a test runs it where little is installed.
"""

from collections.abc import Mapping, Sequence

from potstill.export.formats import Format
from potstill.export.manifest import Artefact

_FIRST = (Format.ONNX, Format.ONNX_INT8, Format.ONNX_FP16, Format.EXECUTORCH, Format.TORCH)
"""Which of several files the example opens."""

_SHOWN = {
    "single_label": (
        "for row in logits:  # the label and its probability",
        '    print({label}, f"{{1 / np.exp(row - row.max()).sum():.3f}}")',
    ),
    "multi_label": (
        "for row in logits:",
        "    print([{each} for i, value in enumerate(row) if value > 0])",
    ),
    "tokens": ("for row in logits:", "    print([{each} for i in row.argmax(-1)])"),
    "embedding": ("print(logits.shape, logits[0][:8])",),
}
_PARTS = (
    'parts = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}'
)
_USUAL = ("print(logits)",)


def chosen_artefact(artefacts: Sequence[Artefact]) -> Artefact | None:
    """The one that examples open: float32 ONNX before the others; weights alone are none."""
    by_format = {artefact["format"]: artefact for artefact in artefacts}
    return next((by_format[form] for form in _FIRST if form in by_format), None)


def example_code(artefact: Artefact, told: Mapping[str, object], *, labelled: bool) -> str:
    """A program that answers for rows in a `.npy` file, or for texts on the command line.

    Args:
        artefact: what it opens.
        told: as `preprocessing` makes it.
        labelled: whether `labels.json` lies beside.
    """
    texts, form = told["kind"] == "text", Format(artefact["format"])
    needs = {Format.EXECUTORCH: "executorch", Format.TORCH: "torch"}.get(form, "onnxruntime")
    libraries = f"numpy, {needs}{' and tokenizers' if texts else ''}"
    read = _texts() if texts else _rows(told)
    lines = [
        f'"""Ask {artefact["file"]}; needs {libraries}: python example.py {_given(told)}"""',
        "import json, sys",
        "from pathlib import Path",
        "import numpy as np",
        *_imports(form, texts=texts),
        "here = Path(__file__).parent",
        *(['labels = json.loads((here / "labels.json").read_text())["labels"]'] * labelled),
        *read,
        *_asked(form, artefact["file"], told),
        *_answers(str(told["target"]), labelled=labelled),
    ]
    return "\n".join(lines) + "\n"


def _given(told: Mapping[str, object]) -> str:
    return "'a text' 'another'" if told["kind"] == "text" else "rows.npy"


def _imports(form: Format, *, texts: bool) -> list[str]:
    imported = {
        Format.EXECUTORCH: ["import torch", "from executorch.runtime import Runtime"],
        Format.TORCH: ["import torch"],
    }.get(form, ["import onnxruntime"])
    return [*imported, *(["from tokenizers import Tokenizer"] * texts)]


def _rows(told: Mapping[str, object]) -> list[str]:
    given = told["input"]
    assert isinstance(given, Mapping), "as `preprocessing` makes it"
    shape = ", ".join(map(str, given["shape"]))
    largest = f", raw: up to {given['largest']:g}" if "largest" in given else ""
    return [f"rows = np.load(sys.argv[1]).astype(np.float32)  # [{shape}]{largest}"]


def _texts() -> list[str]:
    return [
        'tokenizer = Tokenizer.from_file(str(here / "tokenizer" / "tokenizer.json"))',
        "told = tokenizer.encode_batch(sys.argv[1:])",
        _PARTS,
        "planes = {n: np.array([getattr(t, part) for t in told]) for n, part in parts.items()}",
    ]


def _asked(form: Format, file: str, told: Mapping[str, object]) -> list[str]:
    texts, given = told["kind"] == "text", told["input"]
    assert isinstance(given, Mapping), "as `preprocessing` makes it"
    tensors = "[torch.from_numpy(rows)]"
    if texts:
        tensors = f"[torch.from_numpy(planes[n]) for n in {list(given['names'])}]"
    match form:
        case Format.EXECUTORCH:
            return [
                f'method = Runtime.get().load_program(here / "{file}").load_method("forward")',
                f"logits = method.execute({tensors})[0].numpy()",
            ]
        case Format.TORCH:
            return [
                f'program = torch.export.load(here / "{file}").module()',
                f"logits = program(*{tensors}).detach().numpy()",
            ]
    feed = "{n.name: planes[n.name] for n in session.get_inputs()}" if texts else '{"input": rows}'
    return [
        f'session = onnxruntime.InferenceSession(here / "{file}")',
        f"logits = session.run(None, {feed})[0]",
    ]


def _answers(target: str, *, labelled: bool) -> list[str]:
    label = "labels[row.argmax()]" if labelled else "row.argmax()"
    each = "labels[i]" if labelled else "int(i)"
    return [line.format(label=label, each=each) for line in _SHOWN.get(target, _USUAL)]
