"""The contracts that everything else stands on: `Teacher`, `Task`, `Term`.

A third party adds one of these by writing one class; `potstill.testing` has the contract tests
that prove it. Concrete classes are final and override only what is abstract here.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from potstill.signals import Batch, Logits, Partial, Signals, Target

if TYPE_CHECKING:
    from torchmetrics import MetricCollection


class LogitKind(StrEnum):
    """What the numbers in `Signals.logits` mean."""

    RAW = "raw logits"
    LOGPROBS = "log-probabilities"  # right up to a constant a row: enough for any softmax
    SPARSE = "sparse log-probabilities"
    FOREIGN = "logits of other tokens"
    VALUES = "regression values"


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a term asks of a student, a teacher and the data before it can be computed."""

    student_logits: bool = False
    teacher_logits: bool = False
    raw_teacher_logits: bool = False  # not only log-probabilities
    teacher_members: bool = False  # the answer of each of several teachers, `Signals.members`
    sparse_teacher: bool = False  # the teacher's kept classes and their tail will do
    foreign_teacher: bool = False  # a teacher with other tokens, brought to the student's rows
    labels: bool = False
    class_labels: bool = False  # one class a row, as numbers 0..C-1 (no soft or multi-label rows)
    teacher_places: bool = False  # what a detector says at its places
    drawn: bool = False  # labels that the student drew itself, whether or not they are to be learnt
    student_layers: tuple[str, ...] = ()
    teacher_layers: tuple[str, ...] = ()
    student_weights: bool = False
    second_view: bool = False  # the student's answers of a second pass, `Signals.second`
    chance: bool = False  # a word for each sample and step to draw from, `Target.chance`
    min_classes: int = 0
    kinds: frozenset[str] = frozenset()  # target kinds the term makes sense for; empty: any

    @property
    def labelled_rows(self) -> bool:
        """Whether rows without a label do not count."""
        return self.labels and not self.drawn


@dataclass(frozen=True, kw_only=True)
class Offers:
    """What a teacher or a student can give.

    `layers=None` means that features cannot be read at all. `members` is how many teachers it is
    made of, if it shows the answers of each; `places` is for detectors.
    """

    logits: LogitKind | None = LogitKind.RAW
    num_classes: int | None = None
    layers: tuple[str, ...] | None = None
    members: int = 0
    places: bool = False


@dataclass(frozen=True)
class SeenLayer:
    """What was seen of a layer while its model ran.

    Args:
        name: as taps take it.
        shape: of its output, samples first.
        ran: how many layers with weights had run when it ended, those inside it included.
    """

    name: str
    shape: tuple[int, ...]
    ran: int


class Teacher(ABC):
    """A source of signals. A store, an ensemble, an estimator and a server are teachers too.

    A teacher is frozen: in eval mode, without gradient, absent from optimiser and checkpoint.
    """

    @abstractmethod
    def offers(self) -> Offers:
        """What this teacher can give."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hex digest of all that its answers depend on: weights and preprocessing."""

    @abstractmethod
    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """The teacher's signals for a batch, without gradient; `features` has `layers`."""

    def trace(self, batch: Batch) -> tuple[SeenLayer, ...]:
        """Its layers in the order in which they end, for those who pair layers; empty if unknown.

        Args:
            batch: a few samples are enough.
        """
        return ()

    @property
    def reads_raw(self) -> bool:
        """Whether batches must carry `raw` inputs for this teacher."""
        return False

    def to(self, device: torch.device) -> Self:
        """Move to a device. Teachers that do not live on one stay as they are."""
        return self


class Term(ABC):
    """One summand of an objective: a sum over rows and a count of rows.

    Terms add up and scale: `0.9 * KD(temperature=4) + 0.1 * CrossEntropy()`
    (see `potstill.losses.Objective`).
    """

    @property
    def name(self) -> str:
        """The key under which its value is logged, in snake case."""
        words = (
            f"_{c.lower()}" if c.isupper() and not p.isupper() else c.lower()
            for p, c in zip("A" + type(self).__name__, type(self).__name__, strict=False)
        )
        return "".join(words).lstrip("_")

    @abstractmethod
    def needs(self) -> Needs:
        """What must be there."""

    @abstractmethod
    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """The sum of this term over the rows that count, and their number."""

    def count(self, target: Target) -> Tensor | int:
        """The same number as in `__call__`, known before any model has run."""
        mask = target.mask(labels=self.needs().labelled_rows)
        return target.num_rows if mask is None else mask.sum()

    def bind(self, student: Signals, teacher: Signals) -> Self:
        """A copy sized for these signals (from one dry batch), with its projectors made.

        Terms without learnable parts return themselves.
        """
        return self

    @property
    def moves(self) -> bool:
        """Whether its options change as the training goes on."""
        return False

    def during(self, share: float) -> "Term":
        """The term when this share of all steps is over; most stay as they are."""
        return self

    def parts(self) -> nn.Module | None:
        """Learnable parts that train with the student and are thrown away with the teacher."""
        return None

    def rehearsals(self) -> int:
        """How many epochs of the teacher's answers the parts learn from before the student does."""
        return 0

    def rehearse(self, taught: Iterable[Signals]) -> None:
        """Learn from the teacher alone, once and before step one; for terms with `rehearsals`.

        Args:
            taught: the teacher's signals for every batch of those epochs, in order.
        """
        raise NotImplementedError(f"`{self.name}` has rehearsals and does not say how")


@runtime_checkable
class TokenModel(Protocol):
    """A module that answers position by position; its last layer is left to the caller."""

    @property
    def head(self) -> nn.Linear:
        """From the states to the logits."""
        ...

    def states(self, batch: Batch) -> Tensor:
        """`[B, L, D]`: what goes into the head at each position that `batch.labels` speaks of."""
        ...


@runtime_checkable
class Staged(Protocol):
    """A student, or a module in it, that changes as training goes on: removes weights, say."""

    def reach(self, share: float) -> None:
        """Told before each step which share of all steps is over, if it is known how many come.

        What it does then must follow from the share and the module's state alone.
        """
        ...


@runtime_checkable
class EncoderDecoder(Protocol):
    """A module whose encoder may be frozen, and run once for a teacher that has the same one."""

    frozen_encoder: bool

    def encode(self, batch: Batch) -> Tensor:
        """`[B, S, D]`, what the encoder says; `batch.encoded` if that is there."""
        ...

    def encoder_state(self) -> Mapping[str, Tensor]:
        """All that the encoder's answers depend on."""
        ...


class Task(ABC):
    """How a model is called on a batch, what the data say, and how answers are scored."""

    kind: ClassVar[str]  # what targets are: single_label, multi_label, regression, tokens, …
    name: ClassVar[str] = ""  # of the task, where the kind does not say it: causal_lm, …
    primary: str  # the metric that decides; a class attribute, or an option of the task
    higher_is_better: bool  # of the primary metric
    truth_from_teacher: ClassVar[bool] = False  # labels of what is scored are its answers
    digests_samples: ClassVar[bool] = False  # `digest` keeps one row a sample, whatever rows are
    judged_by: ClassVar[str] = ""  # a metric of what is written, if not the primary one
    judged_higher_is_better: ClassVar[bool] = True  # of that metric

    @abstractmethod
    def forward(self, model: nn.Module, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """Run the model and name what it says; `features` holds the outputs of `layers`."""

    @abstractmethod
    def target(self, batch: Batch) -> Target:
        """What the data say about the rows of the logits."""

    def digest(self, signals: Signals, target: Target) -> Tensor:
        """What is kept of each row of an evaluated batch, `[N, K]` float32: its logits or values.

        Tasks with more rows and classes than can be kept give a few figures of each row instead.
        """
        logits = signals.logits
        assert isinstance(logits, Logits), "tasks with one row a sample give dense logits"
        return logits.values_NC.detach().float()

    @abstractmethod
    def scores(self, outputs_NC: Tensor) -> Tensor:
        """What the metrics take, made of what `digest` kept: probabilities, or the values."""

    @abstractmethod
    def metrics(self, num_outputs: int) -> "MetricCollection":
        """Fresh metrics, called with `(scores, labels)`; they include the primary."""

    @abstractmethod
    def default_objective(self) -> object:
        """The supervised loss alone: what the scratch student and a trained teacher learn with."""
