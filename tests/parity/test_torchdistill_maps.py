"""Terms on maps give the values and gradients of torchdistill, where it is installed.

It is in `bench/requirements.txt`: `make bench` makes an environment that has it.
"""

import pytest
import torch
from torch import Tensor

from potstill import losses as L
from potstill.signals import Signals, Target

rival = pytest.importorskip("torchdistill.losses.mid_level")
wrapper = pytest.importorskip("torchdistill.models.wrapper")

PAIR = {
    "only": {
        "student": {"io": "output", "path": "s"},
        "teacher": {"io": "output", "path": "t"},
        "weight": 1,
    }
}


def maps(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def both(ours: Tensor, theirs: Tensor, leaf: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    gradients = [torch.autograd.grad(z, leaf, retain_graph=True)[0] for z in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


def bound(term: L.FeatureTerm, student: Tensor, teacher: Tensor) -> tuple[L.FeatureTerm, Tensor]:
    signals = Signals(features={"s": student}), Signals(features={"t": teacher})
    made = term.bind(*signals)
    return made, made(*signals, Target(len(student))).total / len(student)


def said(**outputs: object) -> dict[str, dict[str, object]]:
    return {path: {"output": output} for path, output in outputs.items()}


def test_activation_boundaries() -> None:
    student, teacher = maps(4, 5, 6, 6, seed=0).requires_grad_(), maps(4, 5, 6, 6, seed=1)
    _, ours = bound(L.ActivationBoundaries("s", "t"), student, teacher)

    theirs = rival.AltActTransferLoss(PAIR, margin=1.0, reduction="mean")

    both(ours, theirs(said(s=student), said(t=teacher)), student)


def test_vid() -> None:
    student, teacher = maps(4, 3, 6, 6, seed=0).requires_grad_(), maps(4, 5, 6, 6, seed=1)
    term, ours = bound(L.VID("s", "t"), student, teacher)
    variance = torch.log1p(term.projector.spread.exp()) + 1e-5

    mean = term.projector.network(student)
    theirs = rival.VIDLoss(PAIR)(said(s=(mean, variance[None, :, None, None])), said(t=teacher))

    both(ours, theirs, student)


def test_factor_transfer_is_the_sum_of_what_they_average() -> None:
    student, teacher = maps(4, 3, 6, 6, seed=0).requires_grad_(), maps(4, 8, 6, 6, seed=1)
    term, ours = bound(L.FactorTransfer("s", "t"), student, teacher)

    factors = term.projector(student, teacher)
    theirs = rival.FTLoss()(said(translator=factors[0]), said(paraphraser=factors[1]))

    both(ours, theirs * factors[0][0].numel(), student)


@pytest.mark.parametrize("side", [8, 3])
def test_review(side: int) -> None:
    features = [maps(4, 3, side, side, seed=0).requires_grad_(), maps(4, 6, 2, 2, seed=1)]
    taught = [maps(4, 5, side, side, seed=2), maps(4, 7, 2, 2, seed=3)]
    signals = (
        Signals(features=dict(zip(("s1", "s2"), features, strict=True))),
        Signals(features=dict(zip(("t1", "t2"), taught, strict=True))),
    )
    term = L.Review(("s1", "s2"), ("t1", "t2"), width=4).bind(*signals)

    ours = term(*signals, Target(4)).total / 4

    fused = _their_fusion(term.module.layers, features, [side, 2])
    loss = rival.HierarchicalContextLoss("s", "output", "t", "output")
    pairs = zip(fused, taught, strict=True)
    both(ours, sum(loss(said(s=(s, None)), said(t=t)) for s, t in pairs), features[0])


def _their_fusion(layers, features: list[Tensor], sides: list[int]) -> list[Tensor]:
    """Their modules with our weights, from deep to shallow."""
    found: list[Tensor] = []
    mixed = None
    for layer, own, side in reversed(list(zip(layers, features, sides, strict=True))):
        middle, width = layer.narrow[0].out_channels, layer.out[0].out_channels
        has_attention = layer.attention is not None
        theirs = wrapper.AttentionBasedFusion(own.shape[1], middle, width, has_attention)
        names = {"narrow": "conv1", "out": "conv2", "attention": "attention_conv.0"}
        state = {
            ".".join([names[name.split(".")[0]], *name.split(".")[1:]]): value
            for name, value in layer.state_dict().items()
        }
        theirs.load_state_dict(state)
        out, mixed = theirs(own, mixed, side)
        found.insert(0, out)
    return found
