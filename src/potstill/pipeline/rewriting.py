"""Sequence-level distillation: the teacher writes the texts that students learn on.

Kim and Rush 2016, arXiv:1606.07947, sections 3.2 and 3.3. What the teacher's beam search makes of
the training texts is kept in the run folder line by line, so a run that was killed goes on where it
stopped.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from potstill.data.samples import DataSet, Samples
from potstill.errors import RecipeError
from potstill.functional.tokens import IGNORED
from potstill.measure.transcription import word_errors
from potstill.measure.translation import sentence_bleu
from potstill.pipeline.experiment import Experiment, Keep
from potstill.pipeline.teaching import Ready
from potstill.pipeline.workshop import Workshop
from potstill.pipeline.writing import BATCH, Writer, read_by, written_by
from potstill.runtime.files import write_with
from potstill.runtime.progress import showing
from potstill.teachers.fingerprints import digest

FOLDER, WRITTEN, HALF = "sequences", "written.jsonl", "half.jsonl"


def with_texts(shop: Workshop, ready: Ready) -> Experiment:
    """The experiment whose students learn on the teacher's texts, if it asks for that."""
    experiment = shop.experiment
    if experiment.sequences is None:
        return experiment
    return replace(experiment, data=replace(experiment.data, taught=rewritten(shop, ready)))


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
    said = _read(folder / WRITTEN)
    if wanted.max_wer is None:
        return _in_place(data, said)
    kept, dropped = alike(said, data.references or {}, most=wanted.max_wer)
    shop.progress.note(
        f"sequences: {len(dropped)} of {len(said)} texts of the teacher have a word error rate "
        f"above {wanted.max_wer:g} and are not learnt"
    )
    left = torch.tensor([n not in dropped for n in data.train.ids.tolist()])
    if not left.any():
        raise RecipeError(
            f"Every text of the teacher has a word error rate above `distill.sequences.max_wer: "
            f"{wanted.max_wer:g}`; train the teacher longer, or raise the bound."
        )
    return _in_place(data, kept).rows(left)


def alike(
    said: Mapping[int, str], references: Mapping[int, str], *, most: float
) -> tuple[dict[int, str], set[int]]:
    """The texts whose word error rate is `most` or less, and the samples of the others.

    The filter of distil-whisper (Gandhi et al. 2023, arXiv:2311.00430, section 4).
    """
    wrong = {n for n, text in said.items() if word_errors(text, references[n]) > most}
    return {n: text for n, text in said.items() if n not in wrong}, wrong


def _chosen(total: int, share: float) -> list[int]:
    """Evenly spaced rows, as many as the share says."""
    count = max(1, round(share * total))
    return [index * total // count for index in range(count)]


def _write_all(
    shop: Workshop, module: nn.Module, chosen: Sequence[int], folder: Path, *, key: str
) -> int:
    """Append what is missing to the half-written file, then give it its name."""
    data, wanted = shop.experiment.data, shop.experiment.sequences
    assert wanted is not None
    assert data.references is not None
    folder.mkdir(parents=True, exist_ok=True)
    half = folder / HALF
    known = _resumed(half, key)
    ids = data.train.ids[list(chosen)].tolist()
    done = {row for row, sample in enumerate(ids) if sample in known}
    inputs = data.train.inputs[list(chosen)]
    sources = read_by(data, inputs)
    total = -(-(len(chosen) - len(done)) // BATCH)
    with (
        showing(shop.progress, "sequences", total) as advance,
        half.open("a", encoding="utf-8") as file,
    ):
        batches = written_by(
            module,
            inputs,
            data,
            device=shop.runtime.device,
            beams=wanted.beams,
            each=wanted.beams if wanted.keep is Keep.NEAREST else 1,
            done=done,
        )
        for number, (rows, texts) in enumerate(batches, start=1):
            for row, of_row in zip(rows, texts, strict=True):
                if row in done:
                    continue
                said = nearest(of_row, data.references[ids[row]])
                line = {"id": ids[row], "source": sources[row], "target": said}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            advance(number)
    half.replace(folder / WRITTEN)
    return len(chosen) - len(done)


def nearest(texts: Sequence[str], reference: str) -> str:
    """The text that comes nearest to the reference by BLEU; of equal ones the first."""
    if len(texts) == 1:
        return texts[0]
    return max(texts, key=lambda text: sentence_bleu(text, reference))


def _resumed(half: Path, key: str) -> dict[int, str]:
    """What was written before under the same key; anything else is thrown away.

    A line that was cut by a kill is left out; the file is written anew with the whole ones.
    """
    lines: list[str] = []
    if half.exists():
        lines = half.read_text(encoding="utf-8", errors="replace").split("\n")
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
    if data.normalise.masked:
        new = torch.from_numpy(tokens.written(written, max_length=train.labels.shape[1]))
        told = train.labels.clone()
        told[rows] = IGNORED
        told[rows, : new.shape[1]] = new
        return replace(train, labels=told)
    length = train.inputs.shape[2]
    planes = torch.from_numpy(tokens.retold(train.inputs[rows].numpy(), written, length=length))
    labels = planes[:, 2].long().masked_fill(planes[:, 3] == 0, IGNORED)
    inputs, all_labels = train.inputs.clone(), train.labels.clone()
    inputs[rows], all_labels[rows] = planes, labels
    return replace(train, inputs=inputs, labels=all_labels)
