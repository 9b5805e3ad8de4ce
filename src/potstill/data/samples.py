"""What a data set is: frozen records of tensors in memory, each sample with an identity."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self, final

import torch
from torch import Tensor

from potstill.data.normalise import Normalise
from potstill.data.table_form import TableForm
from potstill.data.tokens import Tokens
from potstill.errors import DataError
from potstill.runtime.texts import lengths_of, trimmed
from potstill.vocab.templates import Message


class Kind(StrEnum):
    """What one sample is."""

    IMAGE = "image"
    TABLE = "table"
    SIGNAL = "signal"
    TEXT = "text"
    AUDIO = "audio"


class TargetKind(StrEnum):
    """What is to be predicted."""

    SINGLE_LABEL = "single_label"
    MULTI_LABEL = "multi_label"
    REGRESSION = "regression"
    TOKENS = "tokens"
    EMBEDDING = "embedding"
    BOXES = "boxes"
    TRANSCRIPT = "transcript"
    TAGS = "tags"  # asked of a source; the data set that it gives is of tokens


@final
@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Raw samples, their labels and identities.

    Args:
        inputs: images `[N, C, H, W]` uint8, signals `[N, C, L]` or tables `[N, F]` float32, texts
            `[N, P, L]` int32 (planes: token ids, attention mask, perhaps token types), sounds
            `[N, 1, L]` int16, or of unequal length `[N, 2, L]` (the wave, and 1 where it stands).
        ids: `[N]` int64, stable, unique within a data set.
        labels: `[N]` int64 classes, `[N, C]` float32 of 0 and 1, `[N, O]` float32 values, or what
            is asked at each position, `[N, L]` int64 (-100: nothing), or boxes `[N, M, 6]` float32
            (see `potstill.signals.Batch`), or, of sounds that are written down, the letters
            `[N, U]` int64 (-100 behind the last).
        labelled: `[N]` bool, which rows carry a label; `None` means all (if `labels` is given).
        weights: `[N]` float32, how much each sample counts in a loss; `None` means 1 each.
        groups: `[N]` int64, which group (domain, site, speaker) a sample is of; -1 is unknown.

    Raises:
        DataError: the tensors differ in length.
    """

    inputs: Tensor
    ids: Tensor
    labels: Tensor | None = None
    labelled: Tensor | None = None
    weights: Tensor | None = None
    groups: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("ids", "labels", "labelled", "weights", "groups"):
            value: Tensor | None = getattr(self, name)
            if value is not None and len(value) != len(self.inputs):
                raise DataError(
                    f"{len(self.inputs)} inputs came with {len(value)} {name}; "
                    "give one for each input."
                )

    def __len__(self) -> int:
        return len(self.inputs)

    def rows(self, index: slice | Tensor) -> Self:
        """Some of the samples, in the order of `index`."""
        own = (self.labels, self.labelled, self.weights, self.groups)
        some = [None if tensor is None else tensor[index] for tensor in own]
        return type(self)(self.inputs[index], self.ids[index], *some)

    def concat(self, other: Self) -> Self:
        """These samples, then the others; where only one side has labels, `labelled` says so.

        Rows without a label hold zeros in `labels`, so that they can be indexed with.

        Raises:
            DataError: inputs or labels differ in shape.
        """
        _check_same_shape("inputs", self.inputs, other.inputs)
        labels, labelled = None, None
        if self.labels is not None or other.labels is not None:
            mine, theirs = _filled(self, like=other), _filled(other, like=self)
            _check_same_shape("labels", mine, theirs)
            labels = torch.cat([mine, theirs])
            labelled = torch.cat([self.label_mask(), other.label_mask()])
        return type(self)(
            torch.cat([self.inputs, other.inputs]),
            torch.cat([self.ids, other.ids]),
            labels,
            None if labelled is None or bool(labelled.all()) else labelled,
            _joined(self, other, "weights", 1),
            _joined(self, other, "groups", -1),
        )

    def unlabelled(self) -> Self:
        """The same samples without their labels."""
        return type(self)(self.inputs, self.ids, weights=self.weights, groups=self.groups)

    def label_mask(self) -> Tensor:
        """`[N]` bool: which rows carry a label."""
        if self.labelled is not None:
            return self.labelled
        return torch.full((len(self),), self.labels is not None, device=self.inputs.device)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DataSet:
    """Everything a run reads: three labelled parts, perhaps an unlabelled one, and what they mean.

    Args:
        name: for people.
        kind: what one sample is.
        target_kind: what is to be predicted.
        train: what models learn from.
        validation: what they are selected on.
        test: what is read once, at the end.
        normalise: raw → model input, with constants from `train` alone.
        num_outputs: C classes or labels, O regression values, or V tokens of the vocabulary.
        transfer: samples without labels that a student may learn from as well.
        classes: their names; `None` for regression.
        features: names of table columns, signal channels or regression inputs, if known.
        notes: what is odd about the data but no error, one sentence each.
        tokens: of texts, who turns them into numbers and back.
        references: of texts to be written, each sample's, as it stands in the data, by identity.
        table: how the columns of a table became numbers, if they were read from one.
        taught: what distilled students learn on; `studied` (with `transfer`) if left out.
        studied: what students learn on in place of `train`, which is then the teacher's alone.
        groups: names of the groups that samples are of.
        sampling_rate: of sounds, samples a second.
        conversations: of samples that are one chat each, its messages, by identity.
    """

    name: str
    kind: Kind
    target_kind: TargetKind
    train: Samples
    validation: Samples
    test: Samples
    normalise: Normalise
    num_outputs: int
    transfer: Samples | None = None
    classes: tuple[str, ...] | None = None
    features: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    tokens: Tokens | None = None
    references: Mapping[int, str] | None = None
    taught: Samples | None = None
    table: TableForm | None = None
    studied: Samples | None = None
    groups: tuple[str, ...] | None = None
    sampling_rate: int | None = None
    conversations: Mapping[int, Sequence[Message]] | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample: `(C, H, W)`, `(C, L)`, `(F,)` or, of texts, `(P, L)`."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def lessons(self) -> Samples:
        """What a student without a teacher learns on."""
        return self.train if self.studied is None else self.studied

    def example(self) -> Tensor:
        """One test sample as models are given it, `[1, ...]`; of texts, one of middle length."""
        inputs = self.test.inputs
        if self.tokens is None and not self.normalise.is_padded:
            return self.normalise(inputs[:1])
        middle = int(lengths_of(inputs).argsort(stable=True)[len(inputs) // 2])
        return self.normalise(trimmed(inputs[middle : middle + 1]))

    def fingerprint(self) -> str:
        """Hex digest of the contents: every sample of every part, and how they are normalised."""
        digest = hashlib.sha256(
            repr((self.kind, self.target_kind, self.classes, self.features)).encode()
        )
        if self.sampling_rate is not None:
            digest.update(repr(self.sampling_rate).encode())
        for part in (self.train, self.validation, self.test, self.transfer):
            tensors = () if part is None else (part.inputs, part.ids, part.labels, part.labelled)
            _digest(digest, tensors)
        for part in (self.studied, self.taught):
            if part is not None:
                _digest(digest, (part.inputs, part.ids, part.labels, part.labelled))
        for part in (self.train, self.test, self.studied, self.taught, self.transfer):
            if part is not None and (part.weights is not None or part.groups is not None):
                _digest(digest, (part.weights, part.groups))
        _digest(digest, (self.normalise.mean, self.normalise.std))
        digest.update(repr(self.normalise.scale).encode())
        return digest.hexdigest()


def _check_same_shape(name: str, mine: Tensor, theirs: Tensor) -> None:
    if mine.shape[1:] != theirs.shape[1:] or mine.dtype != theirs.dtype:
        raise DataError(
            f"Samples whose {name} are {tuple(mine.shape[1:])} {mine.dtype} cannot be joined with "
            f"{tuple(theirs.shape[1:])} {theirs.dtype}; bring both to one shape and type."
        )


def _joined(mine: Samples, other: Samples, name: str, usual: float) -> Tensor | None:
    """A field of both; where one side has none, the usual value stands."""
    values: list[Tensor | None] = [getattr(part, name) for part in (mine, other)]
    known = next((v for v in values if v is not None), None)
    if known is None:
        return None
    sizes = (len(mine), len(other))
    each = [
        known.new_full((size,), usual) if value is None else value
        for value, size in zip(values, sizes, strict=True)
    ]
    return torch.cat(each)


def _filled(samples: Samples, *, like: Samples) -> Tensor:
    """The labels of some samples, or as many zeros shaped as the labels of others."""
    if samples.labels is not None:
        return samples.labels
    assert like.labels is not None, "at least one side has labels"
    return like.labels.new_zeros(len(samples), *like.labels.shape[1:])


def _digest(digest: "hashlib._Hash", tensors: Iterable[Tensor | None]) -> None:
    for tensor in tensors:
        if tensor is None:
            digest.update(b"none")
            continue
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.data if array.size else b"")
