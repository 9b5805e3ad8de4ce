"""What early exits are worth: quality and FLOPs of each, and of stopping at the first sure one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from potstill.data.samples import Samples
from potstill.measure.size import flops
from potstill.measure.summary import summarise
from potstill.models.exits import WithExits, answer_early, exit_logits
from potstill.pipeline.training import restored
from potstill.pipeline.workshop import Workshop

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.1)
"""Of the highest probability at which a sample stops; 1.1 stops nothing before the last layer."""


@final
@dataclass(frozen=True)
class Said:
    """What the exits say about some samples, `[E + 1, N]` each.

    Args:
        right: whether the answer is the label.
        sure: the highest probability.
    """

    right: Tensor
    sure: Tensor

    def stopped(self, threshold: float) -> Tensor:
        """`[N]`, at which exit each sample stops."""
        enough = self.sure >= threshold
        enough[-1] = True
        return enough.int().argmax(0)

    def accuracy(self, threshold: float) -> float:
        """Of the answers at those exits."""
        taken = self.right.gather(0, self.stopped(threshold)[None])
        return float(taken.float().mean())

    def cost(self, threshold: float, flops_E: Sequence[int]) -> float:
        """The mean FLOPs of a sample."""
        return float(torch.tensor(flops_E, dtype=torch.float64)[self.stopped(threshold)].mean())


def measure_exits(shop: Workshop) -> dict[str, object] | None:
    """Figures of the students' exits on the test data; `None` where they have none.

    The threshold of each seed is chosen on validation data: the cheapest one that is right as often
    there as the last layer.
    """
    e = shop.experiment
    model = e.student.make(0)
    if not isinstance(model, WithExits) or e.task.kind != "single_label":
        return None
    cost = exit_flops(model, e.data.example())
    found = {role: _role(shop, role, cost) for role in ("scratch", "distilled")}
    return {"layers": [*model.layers, "last"], "flops": cost, "models": found}


def exit_flops(model: WithExits, sample: Tensor) -> list[int]:
    """FLOPs of one sample up to each exit, those of the earlier exits included."""
    return [flops(_UpTo(model, number), sample) for number in range(len(model.exits) + 1)]


class _UpTo(nn.Module):
    """A model that always stops at one exit, having asked those before it."""

    def __init__(self, model: WithExits, number: int) -> None:
        super().__init__()
        self.model = model
        self._thresholds = [0.0 if n == number else 2.0 for n in range(len(model.exits))]

    def forward(self, inputs: Tensor) -> Tensor:
        return answer_early(self.model, inputs, threshold=self._thresholds).logits_BC


def _role(shop: Workshop, role: str, cost: Sequence[int]) -> dict[str, object]:
    e = shop.experiment
    seeds = [(_said(shop, role, s, e.data.validation), _said(shop, role, s, e.data.test))
             for s in e.seeds]  # fmt: skip
    tests = [test for _, test in seeds]
    chosen = [_cheapest(validation, cost) for validation, _ in seeds]
    picked = list(zip(tests, chosen, strict=True))
    return {
        "exits": [
            {"accuracy": summarise([float(t.right[n].float().mean()) for t in tests])}
            for n in range(len(cost))
        ],
        "curve": [
            {
                "threshold": threshold,
                "accuracy": summarise([test.accuracy(threshold) for test in tests]),
                "flops": summarise([test.cost(threshold, cost) for test in tests]),
            }
            for threshold in THRESHOLDS
        ],
        "chosen": {
            "thresholds": chosen,
            "accuracy": summarise([test.accuracy(t) for test, t in picked]),
            "flops": summarise([test.cost(t, cost) for test, t in picked]),
        },
    }


def _said(shop: Workshop, role: str, seed: int, samples: Samples) -> Said:
    e, device = shop.experiment, shop.runtime.device
    model = restored(e.student, shop.models(role, seed), num_outputs=shop.num_outputs)
    assert isinstance(model, WithExits), "as the student"
    model.to(device).eval()
    feed = shop.feed(samples)
    right, sure = [], []
    with torch.no_grad():
        for index in range(feed.num_batches):
            batch = feed.batch(0, index)
            assert batch.labels is not None, "what is scored has labels"
            p_ENC = exit_logits(model, batch.inputs).softmax(-1)
            sure.append(p_ENC.amax(-1).cpu())
            right.append((p_ENC.argmax(-1) == batch.labels).cpu())
    return Said(torch.cat(right, 1), torch.cat(sure, 1))


def _cheapest(said: Said, cost: Sequence[int]) -> float:
    whole = said.accuracy(THRESHOLDS[-1])
    good = [t for t in THRESHOLDS if said.accuracy(t) >= whole]
    return min(good, key=lambda t: said.cost(t, cost))
