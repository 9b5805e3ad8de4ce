"""Hard conditions to test a student under: missing classes, long tails, wrong labels, other inputs.

A condition turns one data set into another. Those `of` students leave `train` to the teacher and
put what students learn on into `studied`; those of everyone change `train` itself. Validation and
test parts stay as they are, so that figures remain comparable.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import final

import torch
from torch import Tensor

from potstill.data.arrays import resized
from potstill.data.samples import DataSet, Kind, Samples, TargetKind
from potstill.data.tokens import Tokens
from potstill.errors import DataError, RecipeError


class Of(StrEnum):
    """Whom a condition meets."""

    STUDENTS = "students"  # the teacher learns from all of the training part, as it is
    EVERYONE = "everyone"


class NoiseKind(StrEnum):
    """How labels go wrong."""

    SYMMETRIC = "symmetric"  # to any other class, all alike
    ASYMMETRIC = "asymmetric"  # always to the next class


@final
@dataclass(frozen=True, kw_only=True)
class LongTail:
    """An exponential long tail: class c of C keeps `ratio ** (-c / (C - 1))` of its samples.

    The first class keeps all and the last `1 / ratio` of them. Cui et al. 2019, arXiv:1901.05555.

    Args:
        ratio: how much more frequent the commonest class is than the rarest, 1 or more.
        of: whom it meets.
    """

    ratio: float
    of: Of = Of.EVERYONE

    def __post_init__(self) -> None:
        if not self.ratio >= 1:
            raise RecipeError(f"`long_tail` is {self.ratio}; give a ratio of 1 or more, as in 100.")

    def __call__(self, samples: Samples, data: DataSet, *, seed: int) -> Samples:
        """The samples that are kept, in their order."""
        labels, classes = _classes_of(samples, "long_tail"), data.num_outputs
        order = torch.randperm(len(samples), generator=_generator(seed, "long tail"))
        kept = []
        for number in range(classes):
            rows = order[labels[order] == number]
            share = self.ratio ** (-number / max(classes - 1, 1))
            kept.append(rows[: max(1, round(share * len(rows)))])
        return samples.rows(torch.cat(kept).sort().values)


@final
@dataclass(frozen=True, kw_only=True)
class LabelNoise:
    """A share of the labels is wrong, drawn by the seed of the data.

    Args:
        share: how many are changed, 0 up to 1; each class loses the same share.
        kind: see `NoiseKind`.
        of: whom it meets.
    """

    share: float
    kind: NoiseKind = NoiseKind.SYMMETRIC
    of: Of = Of.EVERYONE

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise RecipeError(f"`label_noise.share` is {self.share}; give 0 up to below 1.")

    def __call__(self, samples: Samples, data: DataSet, *, seed: int) -> Samples:
        """The samples with some of their labels changed."""
        labels, classes = _classes_of(samples, "label_noise"), data.num_outputs
        generator = _generator(seed, "label noise")
        order = torch.randperm(len(samples), generator=generator)
        step = torch.randint(1, max(classes, 2), (len(samples),), generator=generator)
        if self.kind is NoiseKind.ASYMMETRIC:
            step = torch.ones_like(step)
        wrong = torch.zeros(len(samples), dtype=torch.bool)
        for number in range(classes):
            rows = order[labels[order] == number]
            wrong[rows[: round(self.share * len(rows))]] = True
        noisy = torch.where(wrong, (labels + step) % classes, labels)
        return replace(samples, labels=noisy)


@final
@dataclass(frozen=True, kw_only=True)
class Transfer:
    """Unlabelled samples that distilled students learn on as well, or alone.

    Args:
        samples: from elsewhere; the data's own transfer part if left out.
        tokens: what the numbers of the samples mean, if they are texts.
        weight: how much each counts in a loss against a training sample, above 0.
        only: whether distilled students learn on nothing else.
        name: of the source, for people.
    """

    samples: Samples | None = None
    tokens: Tokens | None = None
    weight: float = 1.0
    only: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise RecipeError(f"`transfer.weight` is {self.weight}; give a number above 0.")


@final
@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What the data of a run are put through, in the order of these fields.

    Args:
        long_tail: see `LongTail`.
        label_noise: see `LabelNoise`.
        omit: classes, by name or number, of which students see no sample.
        transfer: see `Transfer`.
        seed: the only source of chance.
    """

    long_tail: LongTail | None = None
    label_noise: LabelNoise | None = None
    omit: Sequence[str | int] = ()
    transfer: Transfer | None = None
    seed: int = 0

    def apply(self, data: DataSet) -> DataSet:
        """The data set under these conditions.

        Raises:
            DataError: a condition does not suit the data; the sentence says why.
        """
        for condition in (self.long_tail, self.label_noise):
            if condition is None:
                continue
            _check_classes(data, condition)
            if condition.of is Of.EVERYONE:
                data = replace(data, train=condition(data.train, data, seed=self.seed))
            else:
                studied = condition(data.lessons, data, seed=self.seed)
                data = replace(data, studied=studied)
            data = _noted(data, _said(condition, data))
        if self.omit:
            data = _omitted(data, self.omit)
        return data if self.transfer is None else _with_transfer(data, self.transfer)


def _omitted(data: DataSet, omit: Sequence[str | int]) -> DataSet:
    _check_classes(data, "omit")
    numbers = torch.tensor([_class_number(data, each) for each in omit])
    labels = _classes_of(data.lessons, "omit")
    kept = ~torch.isin(labels, numbers)
    if not bool(kept.any()):
        raise DataError(f"`omit: {list(omit)}` leaves students nothing to learn on; name fewer.")
    names = ", ".join(f"`{each}`" for each in omit)
    gone = int((~kept).sum())
    note = f"Students learn on no sample of class {names}: {gone} of {len(kept)} are left out."
    return _noted(replace(data, studied=data.lessons.rows(kept)), note)


def _with_transfer(data: DataSet, transfer: Transfer) -> DataSet:
    samples = data.transfer if transfer.samples is None else transfer.samples
    if samples is None:
        raise DataError(
            "`transfer` is set, and the data have no transfer part; name a `source` of it, or give "
            "the data one (`x_transfer` of an .npz file)."
        )
    if transfer.samples is not None:
        _check_tokens(transfer.tokens, data.tokens)
    samples = _fitted(samples.unlabelled(), data)
    if transfer.samples is not None:
        places = _first_free(data) + torch.arange(len(samples))
        samples = replace(samples, ids=places)
    weight = transfer.weight
    if weight != 1 and not transfer.only:
        samples, data = _weighed(samples, data, weight)
    data = replace(data, transfer=samples)
    if transfer.only:
        data = replace(data, taught=samples, transfer=None)
    where = f" of {transfer.name}" if transfer.name else ""
    how = "nothing but" if transfer.only else "also"
    weighed = f", each counting {weight:g} times" if weight != 1 and not transfer.only else ""
    said = f"Distilled students learn on {how} {len(samples)} unlabelled samples{where}{weighed}."
    return _noted(data, said)


def _check_tokens(theirs: Tokens | None, mine: Tokens | None) -> None:
    if mine is None or (theirs is not None and theirs.same_as(mine)):
        return
    given = "no tokens" if theirs is None else f"other tokens ({theirs.size} of them)"
    raise DataError(
        f"The transfer texts are in {given} than the training texts ({mine.size}); give them as a "
        "part of the data, `files: {train: …, transfer: …}`, so that both are read alike."
    )


def _weighed(samples: Samples, data: DataSet, weight: float) -> tuple[Samples, DataSet]:
    """Weights whose ratio is as asked and whose mean over all taught samples is 1."""
    mine, theirs = len(data.lessons), len(samples)
    scale = (mine + theirs) / (mine + weight * theirs)
    heavy = replace(samples, weights=torch.full((theirs,), weight * scale))
    light = replace(data.lessons, weights=torch.full((mine,), scale))
    return heavy, replace(data, studied=light)


def _fitted(samples: Samples, data: DataSet) -> Samples:
    """Images from elsewhere brought to the size and channels of the data, texts to their length."""
    inputs, shape = samples.inputs, data.input_shape
    if data.kind is Kind.IMAGE and inputs.ndim == 4:
        inputs = resized(inputs, (shape[1], shape[2]))
        if inputs.shape[1] == 1 and shape[0] == 3:
            inputs = inputs.expand(-1, 3, -1, -1).contiguous()
        elif inputs.shape[1] == 3 and shape[0] == 1:
            inputs = inputs.float().mean(dim=1, keepdim=True).round_().to(torch.uint8)
    if data.tokens is not None and inputs.ndim == 3 and inputs.shape[2] < shape[1]:
        inputs = torch.from_numpy(data.tokens.padded(inputs.numpy(), shape[1]))
    if tuple(inputs.shape[1:]) != shape or inputs.dtype != data.train.inputs.dtype:
        raise DataError(
            f"The transfer samples have shape {tuple(inputs.shape[1:])} and the training samples "
            f"{shape}; give samples of the same kind and shape."
        )
    return replace(samples, inputs=inputs)


def _first_free(data: DataSet) -> int:
    parts = (data.train, data.validation, data.test, data.transfer)
    return 1 + max(int(part.ids.max()) for part in parts if part is not None)


def _class_number(data: DataSet, given: str | int) -> int:
    names = data.classes or ()
    if str(given) in names:
        return names.index(str(given))
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given < data.num_outputs:
        return given
    listed = ", ".join(f"`{name}`" for name in names[:12])
    raise DataError(f"`omit` names the class `{given}`, and the classes are {listed}.")


def _check_classes(data: DataSet, condition: object) -> None:
    if data.target_kind is not TargetKind.SINGLE_LABEL:
        name = condition if isinstance(condition, str) else type(condition).__name__
        raise DataError(
            f"`{name}` is about classes, one a sample, and the targets are {data.target_kind}; "
            "leave it out."
        )


def _classes_of(samples: Samples, name: str) -> Tensor:
    if samples.labels is None or samples.labels.ndim != 1:
        raise DataError(f"`{name}` needs samples with one class each; leave it out.")
    return samples.labels


def _noted(data: DataSet, note: str) -> DataSet:
    return replace(data, notes=(*data.notes, note))


def _said(condition: LongTail | LabelNoise, data: DataSet) -> str:
    if isinstance(condition, LongTail):
        part = data.train if condition.of is Of.EVERYONE else data.lessons
        return f"A long tail of ratio {condition.ratio:g} leaves {len(part)} samples to learn on."
    whose = "the students'" if condition.of is Of.STUDENTS else "all"
    return f"{condition.share:.0%} of {whose} training labels are wrong ({condition.kind})."


def _generator(seed: int, name: str) -> torch.Generator:
    """A stream of its own for each condition."""
    value = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:7], "big")
    return torch.Generator().manual_seed(value)
