"""The ways of computing a row-wise loss from hidden states and heads that `row_loss.py` compares.

Each takes a `Problem`, computes the loss and its gradients by student's hidden states and head,
and gives the loss. All do the same work: the mean over rows of a divergence summed over classes.
"""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from _memory import CannotRun
from torch import Tensor, nn

from potstill.losses import JSD, KD, CrossEntropy, Objective, ReverseKL, SkewKL, weighted
from potstill.signals import LazyLogits, Signals, Target

JSD_BETA, SKEW = 0.5, 0.1
TERMS: dict[str, Objective] = {
    "KD": weighted(KD(temperature=1)),
    "ReverseKL": weighted(ReverseKL()),
    "JSD": weighted(JSD(beta=JSD_BETA)),
    "SkewKL": weighted(SkewKL(skew=SKEW)),
    "0.9 KD + 0.1 CE": 0.9 * KD(temperature=1) + 0.1 * CrossEntropy(),
}
_BETAS = {"KD": 0.0, "JSD": JSD_BETA, "ReverseKL": 1.0}  # how the rivals' losses name them


@dataclass(frozen=True)
class Problem:
    """Hidden states and heads of both sides; gradients are wanted by the student's."""

    term: str
    hidden: Tensor
    head: nn.Linear
    teacher_hidden: Tensor
    teacher_head: nn.Linear
    labels: Tensor

    @property
    def logit_bytes(self) -> int:
        """N: the bytes of one tensor of logits."""
        return len(self.hidden) * self.head.out_features * self.hidden.dtype.itemsize

    @property
    def head_bytes(self) -> int:
        """The bytes of the weight's gradient."""
        return self.head.weight.numel() * self.head.weight.dtype.itemsize


Way = Callable[[Problem], Tensor]


def make_problem(
    term: str, rows: int, classes: int, *, width: int, dtype: torch.dtype, device: str
) -> Problem:
    """Random hidden states; the logits have a spread of about 3."""
    torch.manual_seed(0)

    def head() -> nn.Linear:
        made = nn.Linear(width, classes, bias=False)
        nn.init.normal_(made.weight, std=3 / math.sqrt(width))
        return made.to(device, dtype)

    hidden, teacher_hidden = (torch.randn(rows, width).to(device, dtype) for _ in range(2))
    return Problem(
        term,
        hidden.requires_grad_(),
        head(),
        teacher_hidden,
        head().requires_grad_(requires_grad=False),
        torch.randint(classes, (rows,)).to(device),
    )


def potstill(problem: Problem) -> Tensor:
    """Ours: both heads lazy."""
    value = TERMS[problem.term](
        Signals(LazyLogits(problem.hidden, problem.head)),
        Signals(LazyLogits(problem.teacher_hidden, problem.teacher_head)),
        Target(len(problem.hidden), problem.labels),
    )
    value.loss.backward()
    return value.loss.detach()


def eager(problem: Problem) -> Tensor:
    """Plain PyTorch: both tensors of logits, the divergence in float32, autograd."""
    with torch.no_grad():
        teacher = problem.teacher_head(problem.teacher_hidden)
    student = problem.head(problem.hidden)
    loss = _EAGER[problem.term.removeprefix("0.9 ").removesuffix(" + 0.1 CE")](
        student.float(), teacher.float()
    )
    if problem.term.endswith("CE"):
        loss = 0.9 * loss + 0.1 * F.cross_entropy(student.float(), problem.labels)
    loss.backward()
    return loss.detach()


def _eager_kd(student: Tensor, teacher: Tensor) -> Tensor:
    return F.kl_div(F.log_softmax(student, -1), F.softmax(teacher, -1), reduction="batchmean")


def _eager_reverse(student: Tensor, teacher: Tensor) -> Tensor:
    q, p = F.log_softmax(student, -1), F.log_softmax(teacher, -1)
    return F.kl_div(p, q, reduction="batchmean", log_target=True)


def _eager_jsd(student: Tensor, teacher: Tensor) -> Tensor:
    q, p = F.log_softmax(student, -1), F.log_softmax(teacher, -1)
    m = torch.logaddexp(p + math.log(JSD_BETA), q + math.log(1 - JSD_BETA))
    to_teacher = F.kl_div(m, p, reduction="batchmean", log_target=True)
    return JSD_BETA * to_teacher + (1 - JSD_BETA) * F.kl_div(
        m, q, reduction="batchmean", log_target=True
    )


def _eager_skew(student: Tensor, teacher: Tensor) -> Tensor:
    p, q = F.softmax(teacher, -1), F.softmax(student, -1)
    return F.kl_div((SKEW * p + (1 - SKEW) * q).log(), p, reduction="batchmean")


_EAGER = {
    "KD": _eager_kd,
    "ReverseKL": _eager_reverse,
    "JSD": _eager_jsd,
    "SkewKL": _eager_skew,
}


def trl_chunked(problem: Problem) -> Tensor:
    """The loss of TRL's `DistillationTrainer`, which never holds all logits."""
    beta = _beta_of(problem, "TRL")
    trainer = _module("trl.trainer.distillation_trainer")
    loss, _, _ = trainer._chunked_divergence_loss(
        problem.hidden[None],
        problem.teacher_hidden[None],
        problem.head.weight,
        problem.teacher_head.weight,
        torch.ones(1, len(problem.hidden), device=problem.hidden.device),
        beta,
    )
    loss.backward()
    return torch.as_tensor(loss.detach())


def trl_eager(problem: Problem) -> Tensor:
    """The loss of TRL's `GKDTrainer` on dense logits."""
    beta = _beta_of(problem, "TRL")
    trainer = _module("trl.experimental.gkd").GKDTrainer
    with torch.no_grad():
        teacher = problem.teacher_head(problem.teacher_hidden)[None]
    student = problem.head(problem.hidden)[None]
    labels = problem.labels[None]
    loss = trainer.generalized_jsd_loss(student, teacher, labels=labels, beta=beta)
    loss.backward()
    return torch.as_tensor(loss.detach())


def liger(problem: Problem) -> Tensor:
    """Liger's chunked distillation loss, compiled, as is its default."""
    soft_only = problem.term in _BETAS
    beta = _beta_of(problem, "Liger") if soft_only else 0.0
    if not soft_only and problem.term != "0.9 KD + 0.1 CE":
        raise CannotRun(f"Liger has no {problem.term}")
    module = _module("liger_kernel.chunked_loss").LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0 if soft_only else 0.1,
        weight_soft_loss=1.0 if soft_only else 0.9,
        beta=beta,
    )
    loss = module(
        problem.hidden,
        problem.head.weight,
        problem.teacher_hidden,
        problem.teacher_head.weight,
        problem.labels,
    )
    loss.backward()
    return torch.as_tensor(loss.detach())


WAYS: dict[str, Way] = {
    "Potstill": potstill,
    "PyTorch eager": eager,
    "TRL chunked": trl_chunked,
    "TRL GKD, dense": trl_eager,
    "Liger chunked": liger,
}


def _beta_of(problem: Problem, who: str) -> float:
    if problem.term not in _BETAS:
        raise CannotRun(f"{who} has no {problem.term}")
    return _BETAS[problem.term]


def _module(name: str) -> object:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.split(".")[0].replace("_", "-")
        raise CannotRun(f"{package} is not installed") from error
