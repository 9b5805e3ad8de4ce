"""From what the page sends to what models take: the same form as in training.

A question is a JSON object with a `kind`: `sample` (of the run, by number), `image` (a file),
`text` (one or two), `sound` (numbers at a rate), `row` (values of a table), `signal` (numbers).
"""

import base64
import binascii
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from potstill.data.arrays import resized
from potstill.data.sounds import Wave, resampled, to_int16, windows
from potstill.errors import DataError, need
from potstill.report.pictures import (
    Picture,
    image_picture,
    signal_picture,
    sound_picture,
    text_picture,
)
from potstill.runtime.texts import trimmed
from potstill.tryout.subject import Subject

Question = Mapping[str, object]

LOWEST_RATE, HIGHEST_RATE = 1_000, 384_000
LONGEST_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question as models take it: `[1, …]`, and what of it is shown."""

    rows: NDArray[np.generic]
    picture: Picture
    truth: str = ""


def read_question(subject: Subject, question: Question) -> Asked:
    """The sample that a question is about.

    Raises:
        DataError: it is of a kind that this run's models do not take, or broken.
        MissingExtra: pictures need Pillow.
    """
    kind = question.get("kind")
    if kind == "sample":
        return _sample(subject, question)
    readers = {"image": _image, "text": _text, "audio": _sound, "table": _row, "signal": _signal}
    wanted = {"image": "image", "text": "text", "audio": "sound", "table": "row"}
    expected = wanted.get(subject.facts.kind, subject.facts.kind)
    if kind != expected:
        raise DataError(
            f"The question is of kind {kind!r}, and the models of this run take {expected!r} or "
            "'sample'."
        )
    return readers[subject.facts.kind](subject, question)


def shown(subject: Subject, sample: NDArray[np.generic]) -> Picture:
    """A sample as people see or hear it."""
    facts = subject.facts
    if facts.kind == "image":
        return image_picture(sample, longest=256)
    if facts.kind == "audio":
        return sound_picture(_heard(sample), sampling_rate=facts.sampling_rate or 16_000)
    if facts.kind == "signal":
        return signal_picture(sample)
    if facts.kind == "text" and subject.tokens is not None:
        return text_picture(subject.tokens.texts(sample[None])[0])
    return Picture()


def _sample(subject: Subject, question: Question) -> Asked:
    number = question.get("number")
    if not isinstance(number, int) or not 0 <= number < len(subject.inputs):
        raise DataError(
            f"There is no test sample {number!r}; the run keeps 0 to {len(subject.inputs) - 1}."
        )
    sample = subject.inputs[number]
    return Asked(
        rows=_unpadded(subject, sample)[None],
        picture=shown(subject, sample),
        truth=subject.truth(number),
    )


def _unpadded(subject: Subject, sample: NDArray[np.generic]) -> NDArray[np.generic]:
    """Of a sound of its own length, the wave `[L]`, as exported transcribers take it."""
    if subject.facts.target_kind == "transcript":
        return _heard(sample)
    if subject.facts.kind == "text":
        cut: NDArray[np.generic] = trimmed(sample[None])[0]
        return cut
    return sample


def _heard(sample: NDArray[np.generic]) -> NDArray[np.generic]:
    wave: NDArray[np.generic] = (
        sample[0] if len(sample) == 1 else sample[0][: int(sample[1].astype(np.int64).sum())]
    )
    return wave


def _image(subject: Subject, question: Question) -> Asked:
    opened = need("PIL.Image", extra="vision")
    turned = need("PIL.ImageOps", extra="vision")
    channels, height, width = subject.shape
    try:
        with opened.open(io.BytesIO(_bytes(question, "file"))) as image:
            upright = turned.exif_transpose(image).convert("L" if channels == 1 else "RGB")
            pixels = np.asarray(upright, dtype=np.uint8)
    except (OSError, ValueError, SyntaxError, opened.DecompressionBombError) as error:
        raise DataError(
            f"This is no picture that can be opened ({error}); give a PNG or JPEG file."
        ) from error
    if question.get("invert") is True:
        pixels = 255 - pixels
    pixels_HWC = pixels[:, :, None] if channels == 1 else pixels
    image_1CHW = torch.from_numpy(pixels_HWC.copy()).permute(2, 0, 1)[None]
    rows = resized(image_1CHW, (height, width)).numpy()
    return Asked(rows=rows, picture=image_picture(rows[0], longest=256))


def _text(subject: Subject, question: Question) -> Asked:
    if subject.tokens is None:
        raise DataError("This run keeps no tokenizer in export/, so only its samples can be asked.")
    given = question.get("texts")
    whole = isinstance(given, list) and all(isinstance(text, str) for text in given)
    if not whole or not isinstance(given, list) or len(given) != subject.num_texts:
        raise DataError(f"The models of this run take {subject.num_texts} texts; write all.")
    if not any(text.strip() for text in given):
        raise DataError("The text is empty; write something.")
    second = [given[1]] if len(given) == 2 else None
    planes, cut = subject.tokens.planes([given[0]], second, max_length=subject.max_length)
    note = f" (cut to {subject.max_length} tokens)" if cut else ""
    return Asked(rows=planes, picture=text_picture(" / ".join(given) + note))


def _sound(subject: Subject, question: Question) -> Asked:
    rate, target = question.get("rate"), subject.facts.sampling_rate or 16_000
    if not isinstance(rate, int) or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise DataError(f"The sound has {rate!r} samples a second; record it again.")
    values = np.frombuffer(_bytes(question, "samples"), dtype="<f4").astype(np.float64)
    if not len(values) or not np.isfinite(values).all():
        raise DataError("The sound is empty or broken; record it again.")
    if len(values) > LONGEST_SECONDS * rate:
        raise DataError(
            f"The sound is {len(values) / rate:.0f} s long, and at most {LONGEST_SECONDS:.0f} s "
            "are heard; cut it."
        )
    wave: Wave = resampled(to_int16(values), source=rate, target=target)
    if subject.facts.target_kind == "transcript":
        return Asked(rows=wave[None], picture=sound_picture(wave, sampling_rate=target))
    rows, _ = windows([_loudest(wave, subject.shape[-1])], subject.shape[-1])
    return Asked(rows=rows, picture=sound_picture(rows[0, 0], sampling_rate=target))


def _loudest(wave: Wave, length: int) -> Wave:
    """Of a longer recording, the stretch of that length with the most energy."""
    if len(wave) <= length:
        return wave
    total = np.concatenate([[0.0], np.cumsum(np.square(wave.astype(np.float64)))])
    start = int((total[length:] - total[:-length]).argmax())
    return wave[start : start + length]


def _row(subject: Subject, question: Question) -> Asked:
    values = question.get("values")
    if subject.form is not None and isinstance(values, Mapping):
        row = subject.form.encode({name: [value] for name, value in values.items()})
    else:
        names = subject.facts.features or tuple(map(str, range(subject.shape[0])))
        listed = [values.get(name) for name in names] if isinstance(values, Mapping) else values
        row = _numbers(listed, subject.shape[0])[None].astype(np.float32)
    return Asked(rows=row, picture=Picture())


def _signal(subject: Subject, question: Question) -> Asked:
    channels, length = subject.shape
    rows = _numbers(question.get("values"), channels * length).astype(np.float32)
    rows = rows.reshape(1, channels, length)
    return Asked(rows=rows, picture=signal_picture(rows[0]))


def _numbers(values: object, count: int) -> NDArray[np.float64]:
    given = values if isinstance(values, Sequence) and not isinstance(values, str) else []
    try:
        found = np.array([float(value) for value in given], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"A value is no number ({error}); correct it.") from error
    if len(found) != count or not np.isfinite(found).all():
        raise DataError(
            f"The models of this run take {count} numbers, and {int(np.isfinite(found).sum())} "
            "were given; fill in all."
        )
    return found


def _bytes(question: Question, name: str) -> bytes:
    try:
        return base64.b64decode(str(question[name]), validate=True)
    except (KeyError, binascii.Error) as error:
        raise DataError(f"The question has no {name}; send it again.") from error
