"""Terms on relations and statistics against public code: value and gradient on the same tensors.

Needs checkouts of github.com/HobbitLong/RepDistiller and github.com/megvii-research/mdistiller,
whose code it runs: `python bench/published_terms.py REPDISTILLER MDISTILLER`. Without them it says
so.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from potstill import losses as L
from potstill.functional.contrast import noise_contrast
from potstill.protocols import Term
from potstill.signals import Signals, Target

B = 16
_RKD = 25 * L.RkdDistance("a", "a") + 50 * L.RkdAngle("a", "a")
Published = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]


def main(repdistiller: Path, mdistiller: Path) -> None:
    """Print a table."""
    print(f"{'term':42} {'value':>11} {'difference':>11} {'of gradient':>12}")
    maps, larger, other = [_maps(8, 8)], [_maps(8, 16)], [_maps(12, 8)]
    same, vectors = ([_maps(8, 8), _maps(8, 8)] for _ in range(2)), ([_draw(24)], [_draw(40)])
    first, second = same
    at = _run(repdistiller / "distiller_zoo" / "AT.py").Attention()
    nst = _run(repdistiller / "distiller_zoo" / "NST.py").NSTLoss()
    sp = _run(repdistiller / "distiller_zoo" / "SP.py").Similarity()
    fsp = _run(repdistiller / "distiller_zoo" / "FSP.py").FSP
    rkd = _run(repdistiller / "distiller_zoo" / "RKD.py").RKDLoss()
    pkt = _run(repdistiller / "distiller_zoo" / "PKT.py").PKT()
    ours = L.AttentionTransfer("a", "a", form="squared")
    _row("AT squared, RepDistiller", ours, _summed(at), maps, other)
    _row("AT squared, 16 onto 8, RepDistiller (*)", ours, _summed(at), larger, other)
    _row("NST, RepDistiller", L.NST("a", "a"), _summed(nst), maps, other)
    _row("NST, 16 onto 8, RepDistiller", L.NST("a", "a"), _summed(nst), larger, other)
    _row("SP, RepDistiller", L.SimilarityPreserving("a", "a"), _summed(sp), maps, other)
    _row("RKD, RepDistiller", _RKD, lambda s, t: rkd(s[0], t[0]), *vectors)
    shapes = [x.shape for x in first]
    entries = _summed(fsp(shapes, shapes))
    flow = L.FSP(("a", "b"), ("a", "b"))
    _row("FSP, RepDistiller x 64 entries", flow, lambda s, t: 64 * entries(s, t), first, second)
    _row("PKT, RepDistiller x B (*)", L.PKT("a", "a"), lambda s, t: B * pkt(s[0], t[0]), *vectors)
    _contrast(repdistiller)
    folder = mdistiller / "mdistiller" / "distillers"
    _row("AT squared, mdistiller", ours, partial(_run(folder / "AT.py").at_loss, p=2), maps, other)
    _row("NST, mdistiller", L.NST("a", "a"), _run(folder / "NST.py").nst_loss, maps, other)
    sp = _run(folder / "SP.py").sp_loss
    _row("SP, mdistiller", L.SimilarityPreserving("a", "a"), sp, maps, other)
    rkd = _run(folder / "RKD.py").rkd_loss
    _row("RKD, mdistiller", _RKD, lambda s, t: rkd(s[0], t[0]), *vectors)
    print("(*) differ on purpose: docs/losses.md says how.")


def _summed(published: Callable[..., Sequence[Tensor]]) -> Published:
    return lambda s, t: torch.stack([each.sum() for each in published(s, t)]).sum()


def _run(path: Path) -> SimpleNamespace:
    """A published file without its package."""
    text = path.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("from .")]
    names: dict[str, object] = {"Distiller": torch.nn.Module}
    exec(compile("\n".join(lines), str(path), "exec"), names)
    return SimpleNamespace(**names)


def _row(
    name: str,
    term: Term | L.Objective,
    published: Published,
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
) -> None:
    def ours(mine: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
        signals = [Signals(features=dict(zip("ab", each, strict=False))) for each in (mine, theirs)]
        return (1 * term)(*signals, Target(B)).loss

    value, gradients = _evaluate(ours, student, teacher)
    expected, right = _evaluate(published, student, teacher)
    _print(name, value, expected, gradients, right)


def _contrast(repdistiller: Path) -> None:
    """CRD's loss on given scores: positives first, the ratio set by the mean power of the batch."""
    module = _run(repdistiller / "crd" / "criterion.py")
    samples, others = 50_000, 32
    scores = 2 * _draw(1 + others)
    own = torch.zeros(B, 1 + others, dtype=torch.bool)
    own[:, 0] = True
    mean = scores.exp().mean()
    module.ContrastLoss.forward.__globals__["eps"] = 0.0

    def ours(student: Sequence[Tensor], _: Sequence[Tensor]) -> Tensor:
        ratio = (others * mean).log()
        return noise_contrast(student[0], own, ~own, log_ratio=ratio).mean()

    def theirs(student: Sequence[Tensor], _: Sequence[Tensor]) -> Tensor:
        return module.ContrastLoss(samples)(student[0].exp() / (samples * mean)).sum()

    value, gradient = _evaluate(ours, [scores], [])
    expected, right = _evaluate(theirs, [scores], [])
    _print("CRD, RepDistiller without its epsilon", value, expected, gradient, right)


def _evaluate(
    term: Published, student: Sequence[Tensor], teacher: Sequence[Tensor]
) -> tuple[float, tuple[Tensor, ...]]:
    leaves = [each.clone().requires_grad_() for each in student]
    value = term(leaves, teacher).sum()
    return float(value.detach()), torch.autograd.grad(value, leaves)


def _print(
    name: str, value: float, expected: float, found: Sequence[Tensor], right: Sequence[Tensor]
) -> None:
    apart = max(float((x - y).norm() / y.norm()) for x, y in zip(found, right, strict=True))
    print(f"{name:42} {value:11.6f} {abs(value - expected):11.1e} {apart:12.1e}")


_GENERATOR = torch.Generator().manual_seed(0)


def _draw(width: int) -> Tensor:
    return torch.randn(B, width, generator=_GENERATOR)


def _maps(width: int, side: int) -> Tensor:
    return torch.randn(B, width, side, side, generator=_GENERATOR)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        print("Skipped: needs the folders of RepDistiller and mdistiller, see the file's head.")
