"""One pass over the rows of a head, chunk by chunk, with the gradient taken on the way.

The logits of a chunk are computed into one buffer, replaced there by the gradient of the loss, and
multiplied out to the gradients of hidden states, weight and bias, so that nothing of the size of
rows times classes is ever held. The arithmetic is that of the plain way: three products with the
student's head, one with the teacher's.

M rows that count · R rows of a chunk · B rows of a block in it · C classes · D features · J terms.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.autograd.function import FunctionCtx

from potstill.errors import PotstillError
from potstill.functional.heads import PLAIN, Shape
from potstill.functional.reductions import upcast
from potstill.losses.rows import ABSENT, AnyRows, RowTerm, gradients_of_rows, losses_of_rows
from potstill.losses.sources import Head, TeacherRows, pick, teacher_rows
from potstill.signals import AnyLogits

_LEAST_BYTES, _MOST_BYTES = 32 * 2**20, 512 * 2**20
_SHARE = 0.125  # of all logits: what the buffers of a chunk may take between these bounds
_BLOCK_ELEMENTS = {"cpu": 2**19, "cuda": 2**23}  # on a processor a block stays in the caches
_SLICE_ELEMENTS = 2**23  # of the weight's gradient, where it is added up in another precision


class Scaled(NamedTuple):
    """A term of a pass.

    Args:
        term: what is summed up.
        scale: what its sum is multiplied with.
        mask_M: bool, the rows that it counts; `None` means all.
        absent: it has nothing to count and adds 0.
    """

    term: RowTerm
    scale: Tensor | float
    mask_M: Tensor | None = None
    absent: bool = False


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass computes, apart from the student.

    Args:
        terms: J of them.
        teacher: logits of all N rows; `None` if no term asks for them.
        labels: `[M, ...]`; `ABSENT` if no term asks for them.
        index_M: the rows that count; `None` means all N.
        chunk_rows: R; `None` chooses it by `rows_at_once`.
        weights_M: how much each row counts; `None` means 1.
        shape: what the student's head does after its weight and bias.
    """

    terms: tuple[Scaled, ...]
    teacher: AnyLogits | None
    labels: Tensor
    index_M: Tensor | None
    chunk_rows: int | None
    weights_M: Tensor | None = None
    shape: Shape = PLAIN


def rows_at_once(num_rows: int, *, bytes_per_row: int, whole_bytes: int) -> int:
    """R: buffers of an eighth of the whole logits, of 32 MiB at least and 512 MiB at most.

    Args:
        num_rows: M.
        bytes_per_row: of the buffers of a chunk, a lazy teacher's included.
        whole_bytes: of all the student's logits, were they computed at once.
    """
    budget = min(max(_SHARE * whole_bytes, _LEAST_BYTES), _MOST_BYTES)
    return max(1, min(num_rows, int(budget / bytes_per_row)))


@_disable_dynamo  # a compiler would unroll the loop; the public name imports the compiler
def evaluate(
    hidden_ND: Tensor, weight_CD: Tensor, bias_C: Tensor | None, work: Pass
) -> tuple[Tensor, Tensor]:
    """The scaled sum of all terms, with gradient, and of each term, `[J]`, without."""
    inputs = (hidden_ND, weight_CD, bias_C)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs):
        total, shares_J = _GradientInForward.apply(*inputs, work)
        return total, shares_J
    with torch.no_grad():
        shares_J = _Walk(*inputs, work).losses()
    return shares_J.sum(), shares_J


@final
class _GradientInForward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, hidden_ND: Tensor, weight_CD: Tensor, bias_C: Tensor | None, work: Pass
    ) -> tuple[Tensor, Tensor]:
        walk = _Walk(hidden_ND, weight_CD, bias_C, work)
        gradients = _Gradients(hidden_ND, weight_CD, bias_C, wanted=ctx.needs_input_grad)  # type: ignore[attr-defined]
        shares_J = walk.losses(gradients)
        ctx.save_for_backward(*gradients.of_inputs(), walk.left_out)  # type: ignore[arg-type]
        ctx.mark_non_differentiable(shares_J)
        return shares_J.sum(), shares_J

    @staticmethod
    def backward(ctx: FunctionCtx, *outer: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise PotstillError(
                "Lazy logits have first derivatives only and `create_graph=True` asks for second "
                "ones; use dense logits, `Logits(lazy.dense())`."
            )
        *gradients, left_out = ctx.saved_tensors  # type: ignore[attr-defined]
        return (*(_times(gradient, outer[0], left_out) for gradient in gradients), None)


def _times(gradient: Tensor | None, outer: Tensor, left_out: Tensor | None) -> Tensor | None:
    if gradient is None:
        return None
    if left_out is not None:
        return (gradient.float() * (outer.float() * left_out)).to(gradient.dtype)
    if outer.device.type == "cpu" and float(outer) == 1:
        return gradient  # saves a second tensor of the size of the head
    return gradient * outer


@final
class _Gradients:
    """Sums up the gradients of hidden states, weight and bias; `None` for what is not wanted."""

    def __init__(
        self,
        hidden_ND: Tensor,
        weight_CD: Tensor,
        bias_C: Tensor | None,
        *,
        wanted: tuple[bool, ...],
    ) -> None:
        self._hidden_ND = torch.zeros_like(hidden_ND) if wanted[0] else None
        self._weight_CD = torch.zeros_like(weight_CD) if wanted[1] else None
        self._bias_C = (
            upcast(torch.zeros_like(bias_C)) if bias_C is not None and wanted[2] else None
        )
        self._bias_dtype = None if bias_C is None else bias_C.dtype

    def add_block(self, gradient_BC: Tensor) -> None:
        """The bias's share of some rows, before the gradient is rounded."""
        if self._bias_C is not None:
            self._bias_C.add_(gradient_BC.sum(dim=0))

    def add_chunk(
        self, gradient_RC: Tensor, hidden_RD: Tensor, weight_CD: Tensor, rows: slice | Tensor
    ) -> None:
        """The shares of a chunk, from the gradient by its logits."""
        if self._hidden_ND is not None:
            self._hidden_ND[rows] = torch.mm(gradient_RC, weight_CD).to(self._hidden_ND.dtype)
        if self._weight_CD is None:
            return
        if self._weight_CD.dtype is gradient_RC.dtype:
            self._weight_CD.addmm_(gradient_RC.t(), hidden_RD)
            return
        step = max(1, _SLICE_ELEMENTS // hidden_RD.shape[1])
        for classes in cut(len(self._weight_CD), step):
            self._weight_CD[classes].add_(gradient_RC[:, classes].t() @ hidden_RD)

    def of_inputs(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Of hidden states, weight and bias."""
        bias_C = None if self._bias_C is None else self._bias_C.to(self._bias_dtype)
        return self._hidden_ND, self._weight_CD, bias_C


@final
class _Walk:
    """One walk over all rows that count."""

    def __init__(
        self, hidden_ND: Tensor, weight_CD: Tensor, bias_C: Tensor | None, work: Pass
    ) -> None:
        self._terms = [scaled for scaled in work.terms if not scaled.absent]
        self._all_terms, self._labels, self._index_M = work.terms, work.labels, work.index_M
        self._weights_M = work.weights_M
        self._num_rows = len(hidden_ND if work.index_M is None else work.index_M)
        self._head = Head(hidden_ND, weight_CD, bias_C, work.index_M, shape=work.shape)
        self._teacher: TeacherRows = teacher_rows(work.teacher, work.index_M)
        mine = self._head.bytes_per_row
        self._chunk_rows = work.chunk_rows or rows_at_once(
            self._num_rows,
            bytes_per_row=mine + self._teacher.bytes_per_row,
            whole_bytes=self._num_rows * mine,
        )
        self._factors = [scaled.scale for scaled in self._terms]
        self.left_out: Tensor | None = None
        if self._head.dtype is torch.float16:
            self._keep_small_numbers()

    def _keep_small_numbers(self) -> None:
        """Leave the common factor to `backward`, where a loss scale may meet it first.

        Divided by the count, most probabilities are too small for half precision.
        """
        device = self._head.weight_CD.device
        factors_J = torch.stack([torch.as_tensor(f, device=device).float() for f in self._factors])
        self.left_out = factors_J.max().clamp(min=torch.finfo(torch.float32).tiny)
        self._factors = list((factors_J / self.left_out).unbind())

    def losses(self, gradients: _Gradients | None = None) -> Tensor:
        """The scaled sum of each term, `[J]`; its gradient is added to `gradients`."""
        exact = torch.float64 if self._head.dtype is torch.float64 else torch.float32
        device = self._head.weight_CD.device
        losses_JM = torch.zeros(len(self._terms), self._num_rows, dtype=exact, device=device)
        with torch.autocast(device.type, enabled=False):
            for chunk in cut(self._num_rows, self._chunk_rows) if self._terms else ():
                self._teacher.begin(chunk)
                hidden_RD, logits_RC = self._head.rows(chunk)
                self._walk_chunk(chunk, logits_RC, losses_JM, gradients)
                if gradients is not None:
                    rows = chunk if self._index_M is None else self._index_M[chunk]
                    gradients.add_chunk(logits_RC, hidden_RD, self._head.weight_CD, rows)
        sums = iter(losses_JM.sum(dim=1).unbind())
        zero = losses_JM.new_zeros(())
        return torch.stack([zero if s.absent else next(sums) * s.scale for s in self._all_terms])

    def _walk_chunk(
        self, chunk: slice, logits_RC: Tensor, losses_JM: Tensor, gradients: _Gradients | None
    ) -> None:
        """Note the losses, and put the gradient where the logits were."""
        limit = _BLOCK_ELEMENTS.get(logits_RC.device.type, 2**21)
        for part in cut(len(logits_RC), max(1, limit // logits_RC.shape[1])):
            block = slice(chunk.start + part.start, chunk.start + part.stop)
            student_BC, teacher = upcast(logits_RC[part]), self._teacher.rows(block)
            if gradients is None:
                self._note(block, student_BC, teacher, losses_JM)
            else:
                gradient_BC = self._differentiate(block, student_BC, teacher, losses_JM)
                gradients.add_block(gradient_BC)
                logits_RC[part] = gradient_BC

    def _note(self, block: slice, student_BC: Tensor, teacher: AnyRows, losses_JM: Tensor) -> None:
        for (whole, _, mask_M, _), losses_M in zip(self._terms, losses_JM, strict=True):
            term = whole.at(self._rows_of(block))
            labels = self._labels_of(term, block)
            losses_B = losses_of_rows(term, student_BC, _asked_for(term, teacher), labels)
            losses_M[block] = losses_B if mask_M is None else losses_B.where(mask_M[block], 0)
        if self._weights_M is not None:
            losses_JM[:, block] *= self._weights_M[block]

    def _differentiate(
        self, block: slice, student_BC: Tensor, teacher: AnyRows, losses_JM: Tensor
    ) -> Tensor:
        """The gradient of the scaled sum of all terms by what the head's weight and bias give."""
        total_BC: Tensor | None = None
        for scaled, factor, losses_M in zip(self._terms, self._factors, losses_JM, strict=True):
            term = scaled.term.at(self._rows_of(block))
            labels, rows = self._labels_of(term, block), _asked_for(term, teacher)
            losses_B, gradient_BC = gradients_of_rows(term, student_BC, rows, labels)
            if scaled.mask_M is not None:
                left_out_B = ~scaled.mask_M[block]
                losses_B = losses_B.masked_fill(left_out_B, 0)
                gradient_BC = gradient_BC.masked_fill_(left_out_B[:, None], 0)
            losses_M[block] = losses_B
            gradient_BC = gradient_BC.mul_(factor)
            total_BC = gradient_BC if total_BC is None else total_BC.add_(gradient_BC)
        assert total_BC is not None, "a walk has terms"
        if self._weights_M is not None:
            losses_JM[:, block] *= self._weights_M[block]
            total_BC.mul_(self._weights_M[block, None])
        if not self._head.shape.is_plain:
            self._head.shape.pull_back_(total_BC, student_BC)
        return total_BC

    def _rows_of(self, block: slice) -> slice | Tensor:
        """Which of the N rows a block has."""
        return block if self._index_M is None else self._index_M[block]

    def _labels_of(self, term: RowTerm, block: slice) -> Tensor:
        return pick(self._labels, None, block) if term.needs().labels else ABSENT


def _asked_for(term: RowTerm, teacher: AnyRows) -> AnyRows:
    return teacher if term.needs().teacher_logits else ABSENT


def cut(length: int, step: int) -> Iterator[slice]:
    """`range(length)` in slices of `step`."""
    return (slice(start, min(start + step, length)) for start in range(0, length, step))
