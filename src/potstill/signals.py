"""What flows between data, models and terms: plain frozen records of tensors, no behaviour.

Shapes: N rows (samples, or valid token positions), C classes, D features, K kept entries.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """What a set of batches shows, for sources that answer about known samples alone.

    Args:
        ids: `[N]` int64, every sample that may come.
        inputs: `[N, ...]`, the same samples as they lie in the data, in the order of `ids`.
        preparation: names what is done to `inputs` before a model sees them (normalisation).
        augment: names the family of views, ops and seed; empty where samples are shown as they are.
        views: how many views the epochs rotate through; `None` for a fresh one each epoch.
    """

    ids: Tensor
    inputs: Tensor
    preparation: str = ""
    augment: str = ""
    views: int | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples on their way through one training step.

    Args:
        inputs: `[B, ...]`, what the models are given, already augmented and normalised.
        labels: `[B]` classes (int64), `[B, C]` soft or multi-label targets (float32), `[B, O]`
            regression values (float32), `[B, L]` what is asked at each position (int64, -100 where
            nothing is), `[B, M, 6]` boxes (float32: class, corners x1, y1, x2, y2 in pixels of the
            input, 1 where a box is to be ignored; class -1 where there is none); `None` when
            nothing is labelled.
        labelled: `[B]` bool, which rows carry a label; `None` means all (if `labels` is given).
        ids: `[B]` int64, the stable identity of each sample in its data set.
        view: `[B]` int64, which augmented view of the sample this is; 0 is the sample itself.
        raw: `[B, ...]`, the same (augmented) inputs before normalisation, in the units of the data,
            for teachers that bring their own preprocessing (trees, ONNX files).
        origin: the set the samples are from, which stored teachers check; mixed ones have none.
        positions: of texts, `[B, L]` bool, where a token stands; `None` means everywhere.
        logprobs: of texts that a student wrote itself, `[B, L]` float32, of each label when it was
            drawn; NaN for labels that were not.
        chance: `[B]` int64, a word for each sample that no other sample and no other step of a
            training has: what terms that draw (masks) begin with. `None` unless a term asks.
        weights: `[B]` float32, how much each sample counts in row-wise terms; `None` means 1 each.
        encoded: `[B, S, D]`, what a frozen encoder says that teacher and student share.
    """

    inputs: Tensor
    labels: Tensor | None = None
    labelled: Tensor | None = None
    ids: Tensor | None = None
    view: Tensor | None = None
    raw: Tensor | None = None
    origin: Origin | None = None
    positions: Tensor | None = None
    logprobs: Tensor | None = None
    chance: Tensor | None = None
    weights: Tensor | None = None
    encoded: Tensor | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def rows(self, index: slice | Tensor) -> Self:
        """The same batch, cut to some of its rows."""
        return self._each(lambda tensor: tensor[index])

    def to(self, device: torch.device | str) -> Self:
        """The same batch on another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        def maybe(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else change(tensor)

        return replace(
            self,
            inputs=change(self.inputs),
            labels=maybe(self.labels),
            labelled=maybe(self.labelled),
            ids=maybe(self.ids),
            view=maybe(self.view),
            raw=maybe(self.raw),
            positions=maybe(self.positions),
            logprobs=maybe(self.logprobs),
            chance=maybe(self.chance),
            weights=maybe(self.weights),
            encoded=maybe(self.encoded),
        )


@dataclass(frozen=True, slots=True)
class Logits:
    """Dense logits, `[N, C]`."""

    values_NC: Tensor

    @property
    def num_classes(self) -> int:
        """C."""
        return int(self.values_NC.shape[-1])

    def dense(self) -> Tensor:
        """`[N, C]`, as they are."""
        return self.values_NC


@dataclass(frozen=True, slots=True)
class LazyLogits:
    """Logits that are not computed yet: `hidden_ND @ head.weight.T + head.bias`.

    A head may scale or cap each logit after that (`functional.heads.ShapedLinear`).

    For heads over a vocabulary the product is never needed as a whole; `rows` gives a part.

    Args:
        hidden_ND: what goes into the head.
        head: the last layer.
        chunk_rows: of how many rows at a time the losses are computed; `None` chooses from memory.
        classes: C where the head has more columns, which pad its width and mean nothing.
    """

    hidden_ND: Tensor
    head: nn.Linear
    chunk_rows: int | None = None
    classes: int | None = None

    @property
    def num_classes(self) -> int:
        """C."""
        return self.head.out_features if self.classes is None else self.classes

    @property
    def weight(self) -> Tensor:
        """`[C, D]`, the head's weight for C classes."""
        return self.head.weight if self.classes is None else self.head.weight[: self.classes]

    @property
    def bias(self) -> Tensor | None:
        """`[C]`, the head's bias for C classes, if it has one."""
        if self.head.bias is None or self.classes is None:
            return self.head.bias
        return self.head.bias[: self.classes]

    def rows(self, index: slice | Tensor) -> Logits:
        """The logits of some rows."""
        return Logits(self.head(self.hidden_ND[index])[..., : self.classes])

    def dense(self) -> Tensor:
        """`[N, C]`, all rows at once."""
        return torch.as_tensor(self.head(self.hidden_ND))[..., : self.classes]


@dataclass(frozen=True, slots=True)
class SparseLogits:
    """The teacher's K most useful log-probabilities of each row and what is left in the tail.

    Args:
        ids_NK: int64, the classes kept, each once.
        logprobs_NK: float32, log-probabilities at `temperature`. Rows may keep fewer than K: -inf
            marks an empty place, whose id is 0 and means nothing.
        tail_N: float32, the probability mass that is not kept; with the kept mass it makes 1.
        num_classes: C.
        temperature: the one that `logprobs_NK` were computed at.
        sampled: the classes were drawn from the teacher and `logprobs_NK` are their frequencies:
            right on average only.
    """

    ids_NK: Tensor
    logprobs_NK: Tensor
    tail_N: Tensor
    num_classes: int
    temperature: float
    sampled: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class CommonTokens:
    """Which tokens of two vocabularies are the same.

    Args:
        student_ids_J: `[J]` int64, the student's numbers of the J common tokens.
        teacher_ids_J: `[J]` int64, the teacher's numbers of the same tokens.
        student_rest: int64, the student's other tokens; head columns in neither mean nothing.
        teacher_rest: likewise.
    """

    student_ids_J: Tensor
    teacher_ids_J: Tensor
    student_rest: Tensor
    teacher_rest: Tensor

    def __len__(self) -> int:
        return len(self.student_ids_J)

    @property
    def overlap(self) -> float:
        """The share of the student's tokens that the teacher has."""
        return len(self) / (len(self) + len(self.student_rest))

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        return type(self)(
            self.student_ids_J.to(device),
            self.teacher_ids_J.to(device),
            self.student_rest.to(device),
            self.teacher_rest.to(device),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """S stretches of text, each a whole number of tokens for both models, and with the same start.

    Rows are those of the logits that predict the tokens. Places beyond a span's tokens hold -1.

    Args:
        student_rows_SA: `[S, A]` int64, rows of the student.
        student_ids_SA: `[S, A]` int64, the tokens that stand there.
        teacher_rows_SB: `[S, B]` int64, rows of the teacher.
        teacher_ids_SB: `[S, B]` int64.
    """

    student_rows_SA: Tensor
    student_ids_SA: Tensor
    teacher_rows_SB: Tensor
    teacher_ids_SB: Tensor

    def __len__(self) -> int:
        return len(self.student_rows_SA)

    def pick(self, index: Tensor) -> Self:
        """Some of the spans."""
        return type(self)(
            self.student_rows_SA[index],
            self.student_ids_SA[index],
            self.teacher_rows_SB[index],
            self.teacher_ids_SB[index],
        )


@dataclass(frozen=True, slots=True, eq=False)
class ForeignLogits:
    """Logits of a teacher with other tokens, and how its rows belong to the student's.

    Args:
        logits: of the teacher's own rows and tokens.
        spans: the text that both sides have.
        common: the tokens that both sides have.
        num_rows: N, of the student.
        num_classes: C, of the student.
    """

    logits: "Logits | LazyLogits"
    spans: Spans
    common: CommonTokens
    num_rows: int
    num_classes: int


AnyLogits = Logits | LazyLogits | SparseLogits | ForeignLogits


@dataclass(frozen=True, slots=True, eq=False)
class MemberLogits:
    """What one of several teachers says about the classes that it knows.

    Args:
        values_NM: `[N, M]` logits of its M classes.
        classes_M: `[M]` int64, which of the student's classes these are; `None` for all, in order.
        weight: its share among the teachers, from 0 to 1.
    """

    values_NM: Tensor
    classes_M: Tensor | None = None
    weight: float = 1.0


class BoxReader(Protocol):
    """What a detector makes of what it said at its places."""

    def losses(self, places: "Places", labels_BM6: Tensor) -> Mapping[str, Tensor]:
        """The detector's own losses, `[B]` each, against boxes as in `Batch.labels`."""
        ...

    def found(self, places: "Places") -> Tensor:
        """`[B, K, 6]`: corners, score and class of what it finds; class -1 and score 0: nothing."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """What a detector says at each of its A places: cells of a grid, anchors, queries, proposals.

    Args:
        scores_BAC: `[B, A, C]` class logits, one sigmoid each; if `exclusive`, `[B, A, C + 1]` of
            one softmax whose last column means that nothing is there.
        boxes_BA4: `[B, A, 4]`, corners x1, y1, x2, y2 in pixels of the input.
        reader: the detector, for its own losses and for what it finds; both are made when asked.
        bins_BA4R: `[B, A, 4, R]`, of detectors that give distributions of the distances to the
            left, upper, right and lower side: their logits, in units of R bins.
        grid: names the places; two models with the same grid speak of the same ones.
        exclusive: see `scores_BAC`.
        state: what `reader` needs besides.
    """

    scores_BAC: Tensor
    boxes_BA4: Tensor
    reader: BoxReader
    bins_BA4R: Tensor | None = None
    grid: str = ""
    exclusive: bool = False
    state: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """C."""
        return int(self.scores_BAC.shape[-1]) - self.exclusive

    def losses(self, labels_BM6: Tensor) -> Mapping[str, Tensor]:
        """See `BoxReader.losses`."""
        return self.reader.losses(self, labels_BM6)

    def found(self) -> Tensor:
        """See `BoxReader.found`."""
        return self.reader.found(self)

    def presence(self) -> Tensor:
        """`[B, A]`: how sure the detector is that anything is there."""
        if self.exclusive:
            return 1 - self.scores_BAC.softmax(-1)[..., -1]
        return self.scores_BAC.sigmoid().amax(-1)


@dataclass(frozen=True, slots=True)
class Signals:
    """What a model says about a batch. Any part may be absent.

    Args:
        logits: class scores before the softmax (or sigmoid); for regression, the values.
        features: outputs of named modules, as they come: `[B, C, H, W]`, `[B, T, D]` or `[B, D]`.
        embedding: `[B, D]`, one vector a sample.
        weights: the parameters that the signals came from; only a student's, and only for terms
            that penalise them.
        second: `[N, D]`, the same rows again from a second pass of a student in training, which
            differs in what dropout left out; only for terms that compare the two.
        members: of several teachers, what each of them says; `logits` is what they say together.
        places: of detectors, what they say at each place; they have no logits.
    """

    logits: AnyLogits | None = None
    features: Mapping[str, Tensor] = field(default_factory=dict)
    embedding: Tensor | None = None
    weights: tuple[Tensor, ...] = ()
    second: Tensor | None = None
    members: tuple[MemberLogits, ...] = ()
    places: Places | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What the data say about the N rows of the logits.

    Args:
        num_rows: N.
        labels: `[N]` int64, `[N, C]` float32 or `[N, O]` float32; absent if nothing is labelled.
        valid: `[N]` bool, which rows count at all; `None` means all.
        labelled: `[N]` bool, which rows carry a label; `None` means all valid ones.
        positions: `[N, L]` bool, of samples that are padded to L positions, which of them count in
            layers that answer position by position; `None` means all.
        samples: `[N]` int64, which sample of the batch a row is about, in order; `None` means that
            each sample has one row.
        logprobs: `[N]` float32, of labels that a student drew itself, the log-probability that each
            was drawn with; NaN for labels that were not drawn.
        weights: `[N]` float32, how much each row counts in row-wise terms; `None` means 1 each.
        chance: `[B]` int64, of the samples; see `Batch`.
    """

    num_rows: int
    labels: Tensor | None = None
    valid: Tensor | None = None
    labelled: Tensor | None = None
    positions: Tensor | None = None
    samples: Tensor | None = None
    logprobs: Tensor | None = None
    weights: Tensor | None = None
    chance: Tensor | None = None

    def mask(self, *, labels: bool) -> Tensor | None:
        """`[N]` bool, the rows that a term counts; `None` means all of them."""
        if not labels or self.labelled is None:
            return self.valid
        return self.labelled if self.valid is None else self.valid & self.labelled


class Partial(NamedTuple):
    """A sum over rows, and over how many rows. Sums add up over micro-batches and ranks.

    `total` carries the gradient; `count` never does.
    """

    total: Tensor
    count: Tensor | int  # type: ignore[assignment]  # the tuple method of that name is not used
