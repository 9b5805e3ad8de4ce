"""From what a source has read to a checked `DataSet`: forms, identities, parts, constants."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from potstill.data import normalise, splits
from potstill.data.arrays import LAYOUTS, Array, check_finite, guess_kind, resized, to_inputs
from potstill.data.labels import Scheme, read_scheme
from potstill.data.options import Options
from potstill.data.samples import DataSet, Kind, Samples, TargetKind
from potstill.data.sounds import FULL_SCALE
from potstill.data.tokens import Tokens
from potstill.errors import DataError, RecipeError

PARTS = ("train", "validation", "test", "transfer")
TEST_SHARE = 0.25
"""Of all rows, when a source has no test part and none was asked for."""

FORM_OPTIONS = frozenset({"kind", "layout", "resize", "normalise", "classes", "features", "remap"})
"""Options that every source takes."""


@final
@dataclass(frozen=True, kw_only=True)
class Form:
    """How arrays are to be read; the options that every source shares.

    Args:
        kind: image, table, signal, text or audio; `None` decides by shape and type.
        layout: where channels are; see `arrays.to_inputs`.
        resize: height and width that images are brought to.
        standardise: whether inputs are standardised with constants of the training part
            (`normalise: standard`); if not, images are only divided by 255 (`normalise: none`).
        classes: names of the classes.
        features: names of the columns or channels.
        remap: number the label values that occur.
    """

    kind: Kind | None = None
    layout: str | None = None
    resize: tuple[int, int] | None = None
    standardise: bool = True
    classes: tuple[str, ...] | None = None
    features: tuple[str, ...] | None = None
    remap: bool = False

    @classmethod
    def parse(cls, options: Options) -> "Form":
        """From plain values."""
        kind = options.text("kind", choices=[k.value for k in Kind])
        return cls(
            kind=None if kind is None else Kind(kind),
            layout=options.text("layout", choices=LAYOUTS),
            resize=options.size("resize"),
            standardise=options.text("normalise", choices=("standard", "none")) != "none",
            classes=options.texts("classes"),
            features=options.texts("features"),
            remap=options.flag("remap"),
        )


@final
@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How rows are divided.

    Args:
        validation: share or number of training rows, cut off when the source has no such part.
        test: share or number of all rows, cut off when the source has no such part.
        seed: the only source of chance.
        limit: at most this many rows each for training with validation, test, transfer.
    """

    validation: float = 0.1
    test: float | None = None
    seed: int = 0
    limit: int | None = None


@final
@dataclass(frozen=True)
class RawPart:
    """The arrays of one part; labels `None` in the transfer part only; references of texts."""

    inputs: Array
    labels: Array | None = None
    references: tuple[str, ...] | None = None


@final
@dataclass(frozen=True, kw_only=True)
class Raw:
    """What a source has read, before any check. Names and kinds here give way to the form's."""

    name: str
    parts: Mapping[str, RawPart]
    kind: Kind | None = None
    layout: str | None = None
    classes: tuple[str, ...] | None = None
    features: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    tokens: Tokens | None = None
    sampling_rate: int | None = None  # of sounds
    masked: bool = False  # of sounds: a second plane says where they stand
    ordered: bool = False  # rows go on where the one before ended: parts are cut off the end


def assemble(
    raw: Raw, *, form: Form, sizes: Sizes, target_kind: TargetKind | None = None
) -> DataSet:
    """The data set, or the first thing that is wrong with it.

    Identities count the rows of training, validation, test and transfer part as the source has
    them, in this order; so they depend on no seed, size or limit.

    Raises:
        DataError: see `arrays`, `labels` and `splits`.
    """
    raw = _with_names(raw, form)
    scheme = _scheme(raw, form=form, target_kind=target_kind)
    parts = _samples(raw, form=form, scheme=scheme)
    parts = _divided(parts, sizes, ordered=raw.ordered)
    train, test = parts["train"], parts["test"]
    kind = {4: Kind.IMAGE, 3: Kind.SIGNAL, 2: Kind.TABLE}[train.inputs.ndim]
    if raw.kind is Kind.AUDIO:
        kind = Kind.AUDIO
    elif raw.tokens is not None:
        kind = Kind.TEXT
    return DataSet(
        name=raw.name,
        kind=kind,
        target_kind=scheme.target_kind,
        train=train,
        validation=parts["validation"],
        test=test,
        transfer=parts.get("transfer"),
        normalise=_constants(raw, train.inputs, kind=kind, standardise=form.standardise),
        num_outputs=scheme.num_outputs,
        classes=scheme.classes,
        features=raw.features,
        tokens=raw.tokens,
        sampling_rate=raw.sampling_rate,
        references=_references(raw),
        notes=(*raw.notes, *_class_notes(scheme, train, test), *_overlap_notes(parts)),
    )


def _with_names(raw: Raw, form: Form) -> Raw:
    return replace(
        raw,
        kind=form.kind or raw.kind,
        layout=raw.layout or form.layout,
        classes=raw.classes if raw.masked else form.classes or raw.classes,
        features=form.features or raw.features,
    )


def _scheme(raw: Raw, *, form: Form, target_kind: TargetKind | None) -> Scheme:
    if target_kind is TargetKind.EMBEDDING and "train" in raw.parts:
        return Scheme(target_kind=target_kind, num_outputs=1)  # there are no labels
    for name in PARTS[:3]:
        part = raw.parts.get(name)
        if part is None:
            continue
        if part.labels is None:
            raise DataError(
                f"The {name} part of `{raw.name}` has no labels; give them, or give the rows as "
                "transfer data."
            )
        if len(part.labels) != len(part.inputs):
            raise DataError(
                f"The {name} part of `{raw.name}` has {len(part.inputs)} inputs and "
                f"{len(part.labels)} labels; give one label for each input."
            )
    if "train" not in raw.parts:
        raise DataError(f"`{raw.name}` has no training part; name one.")
    labels = raw.parts["train"].labels
    assert labels is not None
    if not len(labels):
        raise DataError(f"The training part of `{raw.name}` is empty; give at least two rows.")
    if target_kind in (TargetKind.TOKENS, TargetKind.TAGS) and raw.tokens is not None:
        size = len(raw.classes) if raw.classes else raw.tokens.size
        return Scheme(target_kind=TargetKind.TOKENS, num_outputs=size, classes=raw.classes)
    if target_kind is TargetKind.TRANSCRIPT and raw.tokens is not None:
        return Scheme(target_kind=TargetKind.TOKENS, num_outputs=raw.tokens.size)
    if target_kind is TargetKind.TRANSCRIPT:
        letters = raw.classes or ()
        return Scheme(target_kind=target_kind, num_outputs=len(letters), classes=letters)
    return read_scheme(labels, target_kind=target_kind, classes=raw.classes, remap=form.remap)


def _samples(raw: Raw, *, form: Form, scheme: Scheme) -> dict[str, Samples]:
    """Each part as samples, with identities."""
    kind = raw.kind or guess_kind(raw.parts["train"].inputs)
    if form.resize is not None and kind is not Kind.IMAGE:
        raise RecipeError(f"`resize:` is for images, and `{raw.name}` is a {kind}; leave it out.")
    if kind is not Kind.AUDIO and (kind is Kind.TEXT) != (raw.tokens is not None):
        raise RecipeError(
            f"`kind: {kind}` does not suit `{raw.name}`: texts are read by data source `hf`, from "
            "columns of texts."
        )
    parts: dict[str, Samples] = {}
    first = 0
    for name in PARTS:
        part = raw.parts.get(name)
        if part is None:
            continue
        inputs = to_inputs(part.inputs, kind=kind, layout=raw.layout, part=name)
        if form.resize is not None:
            inputs = resized(inputs, form.resize)
        _check_shape(inputs, parts, name=name, features=raw.features)
        check_finite(inputs, part=name, features=raw.features)
        labels = None if part.labels is None else scheme.encode(part.labels, part=name)
        ids = torch.arange(first, first + len(inputs))
        parts[name] = Samples(inputs, ids, None if name == "transfer" else labels)
        first += len(inputs)
    return parts


def _references(raw: Raw) -> dict[int, str] | None:
    """By identity, which counts the rows of all parts in their order."""
    found: list[str] = []
    for name in PARTS:
        part = raw.parts.get(name)
        if part is not None:
            found += part.references or [""] * len(part.inputs)
    return dict(enumerate(found)) if any(found) else None


def _check_shape(
    inputs: Tensor, others: Mapping[str, Samples], *, name: str, features: tuple[str, ...] | None
) -> None:
    shape = tuple(inputs.shape[1:])
    if "train" in others and (expected := tuple(others["train"].inputs.shape[1:])) != shape:
        advice = (
            "set `resize:` to bring images to one size" if len(shape) == 3 else "make them equal"
        )
        raise DataError(
            f"The {name} samples have shape {shape} and the training samples {expected}; {advice}."
        )
    if features is not None and len(features) != shape[0]:
        raise DataError(
            f"`features:` has {len(features)} names for {shape[0]} columns or channels; give one "
            "name for each."
        )


def _divided(parts: dict[str, Samples], sizes: Sizes, *, ordered: bool) -> dict[str, Samples]:
    """Cut off what is missing: test from all, then limits, then validation from training."""
    parts = dict(parts)
    if "test" not in parts:
        share = TEST_SHARE if sizes.test is None else sizes.test
        parts["train"], parts["test"] = _cut(
            parts["train"], share, name="test", seed=sizes.seed, ordered=ordered
        )
    elif sizes.test is not None:
        raise RecipeError(
            f"`test: {sizes.test}` was given, and the source has a test part of "
            f"{len(parts['test'])} rows of its own; leave `test:` out."
        )
    if sizes.limit is not None:
        parts = {
            name: _limited(part, sizes, name=name, ordered=ordered) for name, part in parts.items()
        }
    if "validation" not in parts:
        parts["train"], parts["validation"] = _cut(
            parts["train"], sizes.validation, name="validation", seed=sizes.seed, ordered=ordered
        )
    return parts


def _cut(
    samples: Samples, size: float, *, name: str, seed: int, ordered: bool
) -> tuple[Samples, Samples]:
    count = splits.part_size(size, len(samples), name=name)
    if ordered:
        whole = len(samples) - count
        return samples.rows(slice(0, whole)), samples.rows(slice(whole, len(samples)))
    kept, cut = splits.cut(
        len(samples), count, seed=_part_seed(seed, name), classes=_classes(samples)
    )
    return samples.rows(kept), samples.rows(cut)


def _limited(samples: Samples, sizes: Sizes, *, name: str, ordered: bool) -> Samples:
    limit = sizes.limit
    assert limit is not None
    if limit < 2:
        raise RecipeError(f"`limit` must be 2 rows or more, got {limit}.")
    if len(samples) <= limit:
        return samples
    if ordered:
        return samples.rows(slice(0, limit))
    _, chosen = splits.cut(
        len(samples),
        limit,
        seed=_part_seed(sizes.seed, f"limit {name}"),
        classes=_classes(samples),
    )
    return samples.rows(chosen)


def _part_seed(seed: int, name: str) -> int:
    """A seed of its own for each cut, so that the cuts are independent."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:7], "big")


def _classes(samples: Samples) -> Tensor | None:
    labels = samples.labels
    is_class = labels is not None and labels.dtype == torch.int64 and labels.ndim == 1
    return labels if is_class else None


def _constants(raw: Raw, inputs: Tensor, *, kind: Kind, standardise: bool) -> normalise.Normalise:
    if kind is Kind.AUDIO:  # loudness is a model's own business: it hears one sound at a time
        return normalise.Normalise(scale=FULL_SCALE, masked=raw.masked)
    if not standardise and kind is not Kind.TEXT:
        return normalise.Normalise(scale=255.0 if kind is Kind.IMAGE else 1.0)
    match kind:
        case Kind.IMAGE:
            return normalise.fit_images(inputs)
        case Kind.SIGNAL:
            return normalise.fit_signals(inputs)
        case Kind.TABLE:
            return normalise.fit_tables(inputs)
        case Kind.TEXT:
            return normalise.Normalise(tokens=True)


def _class_notes(scheme: Scheme, train: Samples, test: Samples) -> list[str]:
    """Classes that stand in one part and not in the other."""
    if scheme.target_kind is not TargetKind.SINGLE_LABEL or scheme.classes is None:
        return []
    assert train.labels is not None
    assert test.labels is not None
    notes = []
    trained, tested = set(train.labels.tolist()), set(test.labels.tolist())
    for missing, where in (
        (sorted(set(range(scheme.num_outputs)) - trained), "training"),
        (sorted(trained - tested), "test"),
    ):
        if missing:
            names = ", ".join(f"`{scheme.classes[number]}`" for number in missing[:8])
            more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
            notes.append(f"No {where} row has class {names}{more}.")
    return notes


def _overlap_notes(parts: Mapping[str, Samples]) -> list[str]:
    """Test rows that a model has seen while learning."""
    tested = _row_digests(parts["test"].inputs)
    seen: set[bytes] = set()
    for name in ("train", "validation"):
        seen.update(_row_digests(parts[name].inputs))
    repeated = sum(digest in seen for digest in tested)
    if not repeated:
        return []
    total = len(tested)
    return [f"{repeated} of {total} test rows repeat the inputs of a training or validation row."]


def _row_digests(inputs: Tensor) -> list[bytes]:
    rows = inputs.reshape(len(inputs), -1).numpy()
    return [hashlib.blake2b(row.data, digest_size=16).digest() for row in rows]
