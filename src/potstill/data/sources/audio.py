"""Sounds: archives of int16 waves, folders of sound files, whatever `datasets` has of audio."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from potstill.data.arrays import Array
from potstill.data.assembly import Raw, RawPart
from potstill.data.options import Options
from potstill.data.samples import Kind, TargetKind
from potstill.data.sounds import Joining, Wave, check_waves, planes, resampled, windows
from potstill.data.sources.archives import read_archive
from potstill.data.sources.recordings import READING, Recordings, read_recordings
from potstill.data.sources.request import Request
from potstill.data.tokens import DEFAULT_LENGTH, Tokens
from potstill.data.transcripts import Alphabet, encoded
from potstill.data.vocabulary import train_tokenizer
from potstill.errors import DataError, RecipeError

OPTIONS = (
    READING
    | {"tokenizer", "fetch_tokenizer", "max_length"}
    | {"path", "keys", "sampling_rate", "recorded_at", "seconds", "join", "longest"}
)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Waves of one rate, with what is said about them."""

    waves: list[Wave]
    labels: Array | None
    texts: list[str] | None


def read(request: Request) -> Raw:
    """The sounds at `path:`, brought to one sampling rate and one length.

    - An `.npz` archive with all waves end to end: `pcm` int16, `offset` `[N + 1]`, `label`, and if
      there are such `is_test` and `sampling_rate`. `keys: {label: digit}` names members that
      differ; `recorded_at:` says samples a second where the archive does not.
    - A folder of sound files (WAV, FLAC, OGG, MP3), one folder a class, or all in one with
      `label_pattern:`, a regular expression whose first group is the label; files whose names
      match `test_pattern:` are the test part.
    - A hub id; `inputs:`, `label:` and `text:` name columns, `splits:`, `config:`, `revision:` as
      in source `hf`.

    `sampling_rate:` is what models are given (samples a second); sounds of another rate are
    resampled. For `task: keyword`, `seconds:` is the length of the window that models look at: each
    sound stands in its middle, what is longer is cut. For `task: asr`, sounds keep their length (up
    to `longest:` seconds) and texts are those of column `text:`; or, with `join: {words: [3, 5],
    pause: [0.05, 0.3], train: 2000, validation: 200, test: 300}`, sequences are made of recordings
    of single words, whose names are `classes:`. Models that write tokens and not letters need
    `tokenizer:`, a folder (or a hub id with `fetch_tokenizer: true`) or `{vocabulary: 300}`, learnt
    from the training texts.

    Raises:
        RecipeError: options that do not go together.
        DataError: files that cannot be read, are empty, or have several sampling rates.
        MissingExtra: `soundfile`, or for hub ids `datasets`, is not installed.
    """
    options = request.options
    path = options.required("path", why="an .npz archive, a folder or a hub id")
    if path.endswith(".npz"):
        recordings = read_archive(Path(path).expanduser(), options)
    else:
        recordings = read_recordings(path, options, texts=_writes(request) and not _joins(options))
    rate, parts = _at_one_rate(recordings, options.whole("sampling_rate"))
    if _writes(request):
        return _transcribed(recordings.name, parts, rate, request, recordings.classes)
    return _windowed(recordings, parts, rate, options)


def _writes(request: Request) -> bool:
    return request.target_kind is TargetKind.TRANSCRIPT


def _joins(options: Options) -> bool:
    return bool(options.mapping("join"))


def _at_one_rate(recordings: Recordings, wanted: int | None) -> tuple[int, dict[str, _Part]]:
    """Every wave at the rate that models are given."""
    found = Counter(rate for part in recordings.parts.values() for rate in part.rates)
    if wanted is not None and not 1000 <= wanted <= 192_000:
        raise RecipeError(f"`sampling_rate: {wanted}` must lie between 1000 and 192000.")
    if wanted is None and len(found) > 1:
        listed = ", ".join(f"{rate} Hz ({count})" for rate, count in sorted(found.items()))
        raise DataError(
            f"The sounds of `{recordings.name}` have several sampling rates: {listed}. Set "
            "`sampling_rate:` to the one that the device records with."
        )
    rate = wanted or next(iter(found))
    parts = {}
    for name, part in recordings.parts.items():
        check_waves(part.waves, part=name)
        waves = [
            resampled(wave, source=own, target=rate)
            for wave, own in zip(part.waves, part.rates, strict=True)
        ]
        parts[name] = _Part(waves=waves, labels=part.labels, texts=part.texts)
    return rate, parts


def _windowed(recordings: Recordings, parts: dict[str, _Part], rate: int, options: Options) -> Raw:
    """One window of the same length for each sound."""
    if _joins(options):
        raise RecipeError("`join:` makes sequences for `task: asr`; leave it out.")
    seconds = options.number("seconds", default=1.0)
    if not 0.05 <= seconds <= 60:
        raise RecipeError(f"`seconds: {seconds:g}` must lie between 0.05 and 60.")
    raw: dict[str, RawPart] = {}
    notes: list[str] = []
    for name, part in parts.items():
        found, cut = windows(part.waves, round(seconds * rate))
        raw[name] = RawPart(found, None if name == "transfer" else part.labels)
        if cut:
            notes.append(
                f"{cut} of {len(part.waves)} {name} sounds are longer than {seconds:g} s, and "
                "their ends were left out."
            )
    return Raw(
        name=recordings.name,
        parts=raw,
        kind=Kind.AUDIO,
        classes=recordings.classes,
        notes=tuple(notes),
        sampling_rate=rate,
    )


def _transcribed(
    name: str, parts: dict[str, _Part], rate: int, request: Request, classes: tuple[str, ...] | None
) -> Raw:
    """Sounds of any length with what is said in them, letter by letter."""
    options, notes = request.options, list[str]()
    if _joins(options):
        parts = _joined(parts, rate, options, request.form.classes or classes)
    elif parts["train"].texts is None:
        raise DataError(
            f"`{name}` has sounds and no texts; name a column with `text:`, or make sequences of "
            "single words with `join: {words: [3, 5]}`."
        )
    longest = options.number("longest", default=30.0)
    for part_name, part in parts.items():
        kept = [row for row, wave in enumerate(part.waves) if len(wave) <= longest * rate]
        if len(kept) < len(part.waves):
            notes.append(
                f"{len(part.waves) - len(kept)} of {len(part.waves)} {part_name} sounds are longer "
                f"than {longest:g} s and were left out."
            )
            texts = None if part.texts is None else [part.texts[row] for row in kept]
            parts[part_name] = replace(part, waves=[part.waves[r] for r in kept], texts=texts)
        check_waves(parts[part_name].waves, part=part_name)
    alphabet = Alphabet.of(parts["train"].texts or ())
    tokens = spoken_tokens(options, parts["train"].texts or ())
    length = max(len(wave) for part in parts.values() for wave in part.waves)
    raw = {}
    for part_name, part in parts.items():
        texts = part.texts or [""] * len(part.waves)
        labels = (
            encoded(texts, alphabet, part=part_name)
            if tokens is None
            else tokens.written(texts, max_length=options.whole("max_length") or DEFAULT_LENGTH)
        )
        raw[part_name] = RawPart(planes(part.waves, length), labels, tuple(texts))
    return Raw(
        name=name,
        parts=raw,
        kind=Kind.AUDIO,
        classes=alphabet.letters if tokens is None else None,
        notes=tuple(notes),
        sampling_rate=rate,
        masked=True,
        tokens=tokens,
    )


def spoken_tokens(options: Options, texts: Sequence[str]) -> Tokens | None:
    """Who turns texts into tokens, where models write tokens and not letters."""
    wanted = options.mapping_if("tokenizer")
    if wanted is not None:
        size = Options(wanted, known=("vocabulary",), owner="`tokenizer:`").whole("vocabulary")
        if size is None:
            raise RecipeError("`tokenizer: {vocabulary: …}` needs the number of tokens.")
        return Tokens(train_tokenizer(texts, size=size))
    folder = options.text("tokenizer")
    if folder is None:
        return None
    return Tokens.load(folder, fetch=options.flag("fetch_tokenizer"))


def _joined(
    parts: dict[str, _Part], rate: int, options: Options, names: tuple[str, ...] | None
) -> dict[str, _Part]:
    told = Options(
        options.mapping("join"),
        known={"words", "pause", "seed", "train", "validation", "test"},
        owner="`join:`",
    )
    words = told.pair("words", default=(3, 5))
    joining = Joining(
        words=(int(words[0]), int(words[1])),
        pause=told.pair("pause", default=(0.05, 0.3)),
        count={
            part: count
            for part in ("train", "validation", "test")
            if (count := told.whole(part)) is not None
        },
        seed=told.whole("seed") or 0,
    )
    made = {}
    for part, each in _with_validation(parts, joining).items():
        said = _words(each, names)
        waves, texts = joining.sequences(each.waves, said, part=part, rate=rate)
        made[part] = _Part(waves=waves, labels=None, texts=texts)
    return made


def _with_validation(parts: dict[str, _Part], joining: Joining) -> dict[str, _Part]:
    """Every tenth training recording for validation, so that its sequences are of other sounds."""
    if "validation" in parts or not joining.count.get("validation"):
        return parts
    train = parts["train"]
    assert train.labels is not None
    rows = np.arange(len(train.waves))
    cut = {}
    for name, chosen in (("train", rows[rows % 10 != 0]), ("validation", rows[rows % 10 == 0])):
        waves = [train.waves[row] for row in chosen]
        cut[name] = _Part(waves=waves, labels=train.labels[chosen], texts=None)
    return {**parts, **cut}


def _words(part: _Part, names: tuple[str, ...] | None) -> list[str]:
    if part.labels is None:
        raise DataError("`join:` needs a label for each recording, the word that is said in it.")
    if names is None:
        return [str(label) for label in part.labels]
    return [names[int(label)] for label in part.labels]
