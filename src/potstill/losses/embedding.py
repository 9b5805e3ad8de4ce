"""Terms on embeddings: one vector a sample, which may be wider at the teacher than at the student.

Shapes: N samples, D features of the student, E of the teacher.
"""

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, Self, final

from torch import Tensor

from potstill.errors import HandshakeError
from potstill.features.projectors import Projector
from potstill.functional.distances import cosine_similarity, squared_error
from potstill.functional.reductions import keep_rows, sum_rows
from potstill.functional.similarity import contrast, similarity_kl
from potstill.losses.checks import check_number
from potstill.losses.term import ArithmeticTerm
from potstill.protocols import Needs
from potstill.signals import Logits, Partial, Signals, Target

EMBEDDINGS: Final = frozenset({"embedding"})


@dataclass(frozen=True, kw_only=True, repr=False)
class EmbeddingTerm(ArithmeticTerm):
    """A distance from the teacher's embedding, through a learnable projector where widths differ.

    Args:
        seed: of the projector's initial weights.
    """

    seed: int = 0
    projector: Projector | None = field(default=None, init=False, repr=False, compare=False)

    @abstractmethod
    def distances(self, student_NE: Tensor, teacher_NE: Tensor) -> Tensor:
        """`[N]`, zero where the two are equal."""

    def needs(self) -> Needs:
        """Embeddings on both sides."""
        return _both()

    @final
    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """The sum over samples, and how many count."""
        mask_N = target.mask(labels=False)
        mine = keep_rows(embeddings(self, student, of="student"), mask_N)
        theirs = keep_rows(embeddings(self, teacher, of="teacher").detach(), mask_N)
        if self.projector is not None:
            mine, theirs = self.projector(mine, theirs)
        elif mine.shape != theirs.shape:
            raise HandshakeError(
                f"`{self.name}` has no projector yet from {mine.shape[1]} features to "
                f"{theirs.shape[1]}; call `objective.bind(student, teacher)` with one batch."
            )
        return Partial(sum_rows(self.distances(mine, theirs), mask_N), self.count(target))

    @final
    def bind(self, student: Signals, teacher: Signals) -> Self:
        """A copy with its projector, for these widths."""
        bound = replace(self)
        projector = Projector(
            embeddings(self, student, of="student"),
            embeddings(self, teacher, of="teacher"),
            seed=self.seed,
        )
        object.__setattr__(bound, "projector", projector)
        return bound

    @final
    def parts(self) -> Projector | None:
        """The projector, once bound and where widths differ."""
        if self.projector is None or self.projector.is_identity:
            return None
        return self.projector


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class EmbeddingCosine(EmbeddingTerm):
    r"""Point where the teacher's embedding points.

    Formula: $1 - \cos(W e_s, e_t)$; W, with a bias, only where the widths differ.
    Shapes: embeddings `[N, D]` and `[N, E]`.
    Paper: Reimers and Gurevych 2020, arXiv:2004.09813 (there the squared error, of which this is
        half for vectors of length 1).
    Requires: the task `embedding`. No labels.
    Related: `SimilarityKL` needs no projector, for it compares texts with texts.
    Example: `EmbeddingCosine() + SimilarityKL()`

    Args:
        seed: of the projector's initial weights.
    """

    def distances(self, student_NE: Tensor, teacher_NE: Tensor) -> Tensor:
        """As in `EmbeddingTerm`."""
        return 1 - cosine_similarity(student_NE, teacher_NE, dim=-1)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class EmbeddingMSE(EmbeddingTerm):
    r"""Equal the teacher's embedding.

    Formula: $\|W e_s - e_t\|^2$, summed over features; W, with a bias, only where widths differ.
    Shapes: embeddings `[N, D]` and `[N, E]`.
    Paper: Reimers and Gurevych 2020, arXiv:2004.09813.
    Requires: the task `embedding`. No labels.
    Related: of vectors of length 1 it is twice `EmbeddingCosine`.
    Example: `EmbeddingMSE() + 0.1 * SimilarityKL()`

    Args:
        seed: of the projector's initial weights.
    """

    def distances(self, student_NE: Tensor, teacher_NE: Tensor) -> Tensor:
        """As in `EmbeddingTerm`."""
        return squared_error(student_NE, teacher_NE).sum(dim=-1)


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class SimilarityKL(ArithmeticTerm):
    r"""Find the same texts alike as the teacher does.

    Formula: $\mathrm{mean}_i\, \mathrm{KL}(p_i \| q_i)$, $p_{ij} = \mathrm{softmax}_{j \ne i}(s
        \cos(e^t_i, e^t_j))$, q alike for the student; j runs over the batch.
    Shapes: embeddings `[N, D]` and `[N, E]`; widths may differ, and no projector is needed.
    Paper: Fang et al. 2021, arXiv:2101.04731 (SEED; there with a queue instead of the batch).
    Requires: the task `embedding`, and batches of many texts (32 or more). No labels.
    Related: `EmbeddingCosine` compares each text with itself.
    Example: `EmbeddingCosine() + SimilarityKL(scale=20)`

    Args:
        scale: s, the inverse of a temperature, above 0.
    """

    batchwise: ClassVar[bool] = True

    scale: float = 20.0

    def __post_init__(self) -> None:
        check_number(self, "scale", self.scale, above=0)

    def needs(self) -> Needs:
        """Embeddings on both sides."""
        return _both()

    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """The sum over samples, and how many count."""
        mask_N = target.mask(labels=False)
        losses_N = similarity_kl(
            keep_rows(embeddings(self, student, of="student"), mask_N),
            keep_rows(embeddings(self, teacher, of="teacher").detach(), mask_N),
            scale=self.scale,
            mask_N=mask_N,
        )
        return Partial(sum_rows(losses_N, mask_N), self.count(target))


@final
@dataclass(frozen=True, kw_only=True, repr=False)
class Contrastive(ArithmeticTerm):
    r"""Tell texts apart, without teacher and labels: two passes of one text belong together.

    Formula: $-\log \mathrm{softmax}_j(s \cos(e_i, e'_j))_i$ with e and e' the embeddings of two
        passes of the student, which differ in what dropout leaves out.
    Shapes: embeddings `[N, D]`, twice.
    Paper: Gao et al. 2021, arXiv:2104.08821 (SimCSE, unsupervised).
    Requires: the task `embedding` and a student with dropout; each step runs the student twice.
    Related: what the task's control run learns with.
    Example: `EmbeddingCosine() + 0.1 * Contrastive()`

    Args:
        scale: s, the inverse of a temperature, above 0.
    """

    batchwise: ClassVar[bool] = True

    scale: float = 20.0

    def __post_init__(self) -> None:
        check_number(self, "scale", self.scale, above=0)

    def needs(self) -> Needs:
        """The student's embeddings, twice."""
        return Needs(student_logits=True, second_view=True, kinds=EMBEDDINGS)

    def __call__(self, student: Signals, teacher: Signals, target: Target) -> Partial:
        """The sum over samples, and how many count."""
        if student.second is None:
            raise HandshakeError(
                f"`{self.name}` needs the student's answers of a second pass; a `Distiller` gives "
                "them, your own loop must (`Signals.second`)."
            )
        mask_N = target.mask(labels=False)
        losses_N = contrast(
            keep_rows(embeddings(self, student, of="student"), mask_N),
            keep_rows(student.second, mask_N),
            scale=self.scale,
            mask_N=mask_N,
        )
        return Partial(sum_rows(losses_N, mask_N), self.count(target))


def embeddings(term: ArithmeticTerm, signals: Signals, *, of: str) -> Tensor:
    """`[N, D]`: what a model of embeddings says, which stands where others have logits."""
    if not isinstance(signals.logits, Logits):
        raise HandshakeError(
            f"`{term.name}` needs the {of}'s embeddings and got none; use it with the task "
            "`embedding`."
        )
    return signals.logits.values_NC


def _both() -> Needs:
    return Needs(
        student_logits=True, teacher_logits=True, raw_teacher_logits=True, kinds=EMBEDDINGS
    )
