"""Texts that models write: of the test data for their scores, of the training data to teach with.

The second is sequence-level distillation (Kim and Rush 2016, arXiv:1606.07947, section 3.2): the
student learns on what the teacher's beam search makes of the training texts. What is written is
kept in the run folder line by line, so a run that was killed goes on where it stopped.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, final, runtime_checkable

import torch
from torch import Tensor, nn

from potstill.data.samples import DataSet, Samples
from potstill.data.tokens import Tokens
from potstill.errors import RecipeError
from potstill.functional.tokens import IGNORED
from potstill.measure.translation import sentence_bleu, translation_scores
from potstill.pipeline.experiment import Keep
from potstill.pipeline.teaching import Ready
from potstill.pipeline.workshop import Workshop
from potstill.runtime.files import write_text, write_with
from potstill.runtime.texts import MASK
from potstill.teachers import ModuleTeacher
from potstill.teachers.fingerprints import digest, module_digest

FOLDER, WRITTEN, HALF = "sequences", "written.jsonl", "half.jsonl"
BATCH = 64
"""Texts that are written together."""
MARGIN = 8
"""Tokens that may be written beyond the longest reference of the training part."""


@runtime_checkable
class Writer(Protocol):
    """A module that writes texts (`models.translation.TranslationModel`)."""

    def write(self, planes_BPL: Tensor, *, beams: int = 1, each: int = 1, longest: int) -> Tensor:
        """`[B * each, T]` int64, with padding."""
        ...


def longest_written(data: DataSet) -> int:
    """How many tokens a model may write about these data."""
    labels = data.train.labels
    assert labels is not None, "training data have texts to be written"
    return int((labels >= 0).sum(-1).max()) + MARGIN


def texts_by(
    module: nn.Module,
    samples: Samples,
    tokens: Tokens,
    *,
    longest: int,
    device: torch.device,
    beams: int = 1,
) -> list[str]:
    """What a model writes about each sample, in the order of the samples."""
    found: dict[int, str] = {}
    for rows, texts in _written(
        module, samples.inputs, tokens, longest=longest, device=device, beams=beams
    ):
        found |= {row: of_row[0] for row, of_row in zip(rows, texts, strict=True)}
    return [found[row] for row in range(len(samples))]


def _written(
    module: nn.Module,
    inputs_NPL: Tensor,
    tokens: Tokens,
    *,
    longest: int,
    device: torch.device,
    beams: int,
    each: int = 1,
) -> Iterator[tuple[list[int], list[list[str]]]]:
    """Rows and `each` texts of each, batch by batch; texts of like length are written together."""
    assert isinstance(module, Writer), "a model of this task writes"
    module = module.to(device)
    was_training = module.training
    module.eval()
    order = torch.argsort(inputs_NPL[:, MASK].sum(-1), descending=True, stable=True)
    try:
        for rows in order.split(BATCH):
            ids = module.write(inputs_NPL[rows].to(device), beams=beams, each=each, longest=longest)
            said = tokens.decode(ids.tolist())
            yield rows.tolist(), [said[i : i + each] for i in range(0, len(said), each)]
    finally:
        module.train(was_training)


@final
class Texts:
    """What the models write about the test data, greedily, for tasks that are judged by it.

    Args:
        shop: the run. For tasks without a `judged_by` nothing is written.
    """

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self._by: dict[str, dict[str, list[str]]] = {}
        self._known: dict[str, list[str]] = {}

    def write(self, which: str, name: str, source: object) -> None:
        """Let one model write; weights that were seen before (best is last) are not asked again."""
        shop, data = self._shop, self._shop.experiment.data
        if not shop.experiment.task.judged_by:
            return
        module = source.model if isinstance(source, ModuleTeacher) else source
        if not isinstance(module, nn.Module) or not isinstance(module, Writer):
            raise RecipeError(
                f"The test data are judged by {shop.experiment.task.judged_by} of what models "
                f"write, and {type(source).__name__} does not write; use an encoder-decoder."
            )
        assert data.tokens is not None, "data of texts have a tokenizer"
        key = module_digest(module)
        if key not in self._known:
            self._known[key] = texts_by(
                module,
                data.test,
                data.tokens,
                longest=longest_written(data),
                device=shop.runtime.device,
            )
        self._by.setdefault(which, {})[name] = self._known[key]

    def scores(self, which: str) -> dict[str, dict[str, float]]:
        """By model: BLEU, chrF, and how long the texts are beside the references."""
        return {
            name: translation_scores(texts, self._references())
            for name, texts in self._by.get(which, {}).items()
        }

    def save(self, path: Path) -> None:
        """One line a test text: what was read, the reference, and what each model wrote."""
        data, written = self._shop.experiment.data, self._by.get("selected", {})
        if not written:
            return
        assert data.tokens is not None
        sources = data.tokens.texts(data.test.inputs[:, :2].numpy())
        lines = [
            {"id": sample, "source": source, "reference": reference}
            | {name: texts[row] for name, texts in written.items()}
            for row, (sample, source, reference) in enumerate(
                zip(data.test.ids.tolist(), sources, self._references(), strict=True)
            )
        ]
        write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))

    def _references(self) -> list[str]:
        data = self._shop.experiment.data
        assert data.references is not None, "data of pairs keep the texts to be written"
        return [data.references[sample] for sample in data.test.ids.tolist()]


def rewritten(shop: Workshop, ready: Ready) -> Samples:
    """The training part with the teacher's texts in place of the data's.

    Equivalent to writing every text by the teacher, tokenizing what it wrote, and putting it where
    the data's text stood. Samples keep their identity.

    Raises:
        RecipeError: the teacher cannot write texts.
    """
    experiment, folder = shop.experiment, shop.folder / FOLDER
    wanted, data = experiment.sequences, experiment.data
    assert wanted is not None, "the experiment asks for it"
    if len(ready.modules) != 1 or not isinstance(ready.modules[0], Writer):
        raise RecipeError(
            f"`distill.sequences` needs a teacher that writes texts, and {ready.name} does not; "
            "give one encoder-decoder of source hf."
        )
    module = ready.modules[0]
    chosen = _chosen(len(data.train), wanted.share)
    key = shop.key(ready.teacher.fingerprint(), wanted)

    def work() -> Mapping[str, object]:
        done = _write_all(shop, module, chosen, folder, key=digest(key))
        return {"texts": len(chosen), "written_now": done}

    shop.run("sequences", depends_on=key, files=[folder / WRITTEN], work=work)
    module.to(shop.runtime.device)
    return _in_place(data, _read(folder / WRITTEN))


def _chosen(total: int, share: float) -> list[int]:
    """Evenly spaced rows, as many as the share says."""
    count = round(share * total)
    return [index * total // count for index in range(count)]


def _write_all(
    shop: Workshop, module: nn.Module, chosen: Sequence[int], folder: Path, *, key: str
) -> int:
    """Append what is missing to the half-written file, then give it its name."""
    data, wanted = shop.experiment.data, shop.experiment.sequences
    assert wanted is not None
    assert data.tokens is not None
    assert data.references is not None
    folder.mkdir(parents=True, exist_ok=True)
    half = folder / HALF
    done = _resumed(half, key)
    left = [row for row in chosen if int(data.train.ids[row]) not in done]
    each = wanted.beams if wanted.keep is Keep.NEAREST else 1
    inputs = data.train.inputs[torch.tensor(left, dtype=torch.int64)]
    sources = data.tokens.texts(inputs[:, :2].numpy())
    shop.progress.begin("sequences", -(-len(left) // BATCH), 0)
    try:
        with half.open("a", encoding="utf-8") as file:
            batches = _written(
                module,
                inputs,
                data.tokens,
                longest=longest_written(data),
                device=shop.runtime.device,
                beams=wanted.beams,
                each=each,
            )
            for number, (rows, texts) in enumerate(batches, start=1):
                for row, of_row in zip(rows, texts, strict=True):
                    sample = int(data.train.ids[left[row]])
                    said = _kept(of_row, data.references[sample])
                    line = {"id": sample, "source": sources[row], "target": said}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
                file.flush()
                shop.progress.advance(number)
    finally:
        shop.progress.end()
    half.replace(folder / WRITTEN)
    return len(left)


def _kept(texts: Sequence[str], reference: str) -> str:
    if len(texts) == 1:
        return texts[0]
    return max(texts, key=lambda text: sentence_bleu(text, reference))


def _resumed(half: Path, key: str) -> dict[int, str]:
    """What was written before under the same key; anything else is thrown away.

    A line that was cut by a kill is left out; the file is written anew with the whole ones.
    """
    lines: list[str] = []
    if half.exists():
        lines = half.read_text(encoding="utf-8", errors="replace").splitlines()
    head = json.dumps({"format": 1, "key": key})
    whole = [line for line in lines[1:] if _is_whole(line)] if lines[:1] == [head] else []

    def save(temporary: Path) -> None:
        temporary.write_text("".join(f"{line}\n" for line in [head, *whole]), encoding="utf-8")

    write_with(half, save)
    return {int(entry["id"]): str(entry["target"]) for entry in map(json.loads, whole)}


def _is_whole(line: str) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return isinstance(entry, dict) and {"id", "source", "target"} <= set(entry)


def _read(path: Path) -> dict[int, str]:
    with path.open(encoding="utf-8") as file:
        next(file)
        return {int(entry["id"]): str(entry["target"]) for entry in map(json.loads, file)}


def _in_place(data: DataSet, said: Mapping[int, str]) -> Samples:
    """The training samples, some with other texts to be written."""
    train, tokens = data.train, data.tokens
    assert tokens is not None, "data of texts have a tokenizer"
    assert train.labels is not None, "training data have texts to be written"
    rows = [row for row, sample in enumerate(train.ids.tolist()) if sample in said]
    if not rows:
        return train
    written = [said[sample] for sample in train.ids[rows].tolist()]
    length = train.inputs.shape[2]
    planes = torch.from_numpy(tokens.retold(train.inputs[rows].numpy(), written, length=length))
    labels = planes[:, 2].long().masked_fill(planes[:, 3] == 0, IGNORED)
    inputs, all_labels = train.inputs.clone(), train.labels.clone()
    inputs[rows], all_labels[rows] = planes, labels
    return replace(train, inputs=inputs, labels=all_labels)
