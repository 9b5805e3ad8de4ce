"""Texts that models write, texts of like length together; of the test data, with their scores."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Protocol, final, runtime_checkable

import torch
from torch import Tensor, nn

from potstill.data.samples import DataSet, Samples
from potstill.errors import RecipeError
from potstill.measure.transcription import transcription_scores
from potstill.measure.translation import translation_scores
from potstill.pipeline.workshop import Workshop
from potstill.runtime.files import write_text
from potstill.runtime.texts import MASK
from potstill.teachers import ModuleTeacher
from potstill.teachers.fingerprints import module_digest

BATCH = 64
"""Texts that are written together."""
MARGIN = 8
"""Tokens that may be written beyond the longest reference of the training part."""


def read_by(data: DataSet, inputs_NPL: Tensor) -> list[str]:
    """The texts that are read; of sounds, nothing that could be shown as text."""
    if not data.normalise.tokens:
        return [""] * len(inputs_NPL)
    assert data.tokens is not None, "data of texts have a tokenizer"
    return data.tokens.texts(inputs_NPL[:, :2].numpy())


@runtime_checkable
class Writer(Protocol):
    """A module that writes texts (`models.encoder_decoder.TranslationModel`)."""

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
    data: DataSet,
    *,
    device: torch.device,
    beams: int = 1,
) -> list[str]:
    """What a model writes about each sample, in the order of the samples."""
    found: dict[int, str] = {}
    for rows, texts in written_by(module, samples.inputs, data, device=device, beams=beams):
        found |= {row: of_row[0] for row, of_row in zip(rows, texts, strict=True)}
    return [found[row] for row in range(len(samples))]


def written_by(
    module: nn.Module,
    inputs_NPL: Tensor,
    data: DataSet,
    *,
    device: torch.device,
    beams: int,
    each: int = 1,
    done: Collection[int] = (),
) -> Iterator[tuple[list[int], list[list[str]]]]:
    """Rows and `each` texts of each, batch by batch; texts of like length are written together.

    Which rows share a batch depends on the inputs alone, and batches whose rows are all in `done`
    are left out; so the texts are the same whether or not some were written before.
    """
    assert isinstance(module, Writer), "a model of this task writes"
    assert data.tokens is not None, "data that are written about have a tokenizer"
    longest, normalise = longest_written(data), data.normalise.to(device)
    module = module.to(device)
    was_training = module.training
    module.eval()
    order = torch.argsort(inputs_NPL[:, MASK].sum(-1), descending=True, stable=True)
    try:
        for rows in torch.split(order, BATCH):
            if done and all(row in done for row in rows.tolist()):
                continue
            read = normalise(inputs_NPL[rows].to(device))
            ids = module.write(read, beams=beams, each=each, longest=longest)
            said = data.tokens.decode(ids.tolist())
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
        key = module_digest(module)
        if key not in self._known:
            self._known[key] = texts_by(
                module,
                data.test,
                data,
                device=shop.runtime.device,
            )
        self._by.setdefault(which, {})[name] = self._known[key]

    def scores(self, which: str) -> dict[str, dict[str, float]]:
        """By model: BLEU, chrF and the ratio of lengths, or of sounds word and letter errors."""
        scored = translation_scores
        if self._shop.experiment.task.judged_by == "wer":
            scored = transcription_scores
        return {
            name: scored(texts, self._references())
            for name, texts in self._by.get(which, {}).items()
        }

    def save(self, path: Path) -> None:
        """One line a test text: what was read, the reference, and what each model wrote."""
        data, written = self._shop.experiment.data, self._by.get("selected", {})
        if not written:
            return
        sources = read_by(data, data.test.inputs)
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
