"""Mutual learning: students that teach each other."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, cast, final

import torch
from torch import nn

from potstill.errors import RecipeError
from potstill.protocols import Offers, SeenLayer, Task, Teacher
from potstill.runtime.seeds import random_state, restore_random_state, seeded
from potstill.signals import Batch, Signals
from potstill.teachers import Ensemble
from potstill.teachers.fingerprints import digest
from potstill.train.growing import GrowingTeacher, LiveModule, State

if TYPE_CHECKING:
    from potstill.train.distiller import Distiller


@final
class Peers(GrowingTeacher):
    r"""Other students that learn beside this one, from it and from each other.

    Each of K students minimises the same objective, whose teacher is the mean of the others'
    probabilities. At temperature 1 its gradient is that of $\frac{1}{K - 1} \sum_{l \ne k}
    \mathrm{KL}(p_l \,\|\, p_k)$, since the two differ by the entropies of the $p_l$ alone (Zhang,
    Xiang, Hospedales, Lu 2018, arXiv:1706.00384, equations 7 and 8). Students take turns: after
    this one's step each peer takes one on the same batch, with an optimiser, a schedule and
    dropout of its own, and the answers that the others give by then. All are asked in eval mode.

    Peers have as many steps as the student. The weights of their last step are kept.

    Args:
        models: makes each peer, by name.
        key: changes whenever what `models` make does.
        seed: of the peers' first weights, unless `models` name their own, and dropout.

    Raises:
        RecipeError: no peer.
    """

    def __init__(
        self, models: Mapping[str, Callable[[], nn.Module]], *, key: str, seed: int = 0
    ) -> None:
        if not models:
            raise RecipeError("Mutual learning needs one peer of the student at least; none given.")
        self._models, self._key, self._seed = dict(models), key, seed
        self._peers: dict[str, Distiller] = {}
        self._random: dict[str, object] = {}

    def under(self, seed: int) -> "Peers":
        """The same kinds of peers for a student of this seed."""
        return Peers(self._models, key=self._key, seed=self._seed + seed)

    def join(self, distiller: "Distiller", batch: Batch) -> None:
        """Make the peers, and shake hands with each."""
        from potstill.train.distiller import Distiller

        task, runtime = distiller.task, distiller.runtime
        modules = {}
        for number, (name, make) in enumerate(self._models.items(), start=1):
            with seeded(self._seed + 5003 * number):  # whatever was drawn before in this process
                modules[name] = make().to(runtime.device)
        self._answers = _together(modules.values(), task)
        for name, module in modules.items():
            others = [distiller.student, *(m for m in modules.values() if m is not module)]
            self._peers[name] = Distiller(
                module,
                _together(others, task),
                objective=distiller.objective,
                task=task,
                settings=distiller.settings,
                runtime=runtime,
            )
        for number, peer in enumerate(self._peers.values(), start=1):
            with seeded(self._seed + 7919 * number):
                peer.prepare(batch)
                self._random[str(number)] = random_state()

    def plan_steps(self, total: int) -> None:
        """The same for every peer."""
        for peer in self._peers.values():
            peer.plan_steps(total)

    def grow(self, batch: Batch) -> None:
        """One step of each peer, in order."""
        mine = random_state()
        for number, peer in enumerate(self._peers.values(), start=1):
            restore_random_state(self._state_of(number))
            peer.step(batch)
            self._random[str(number)] = random_state()
        restore_random_state(mine)

    def _state_of(self, number: int) -> dict[str, torch.Tensor | list[torch.Tensor]]:
        return cast("dict[str, torch.Tensor | list[torch.Tensor]]", self._random[str(number)])

    def offers(self) -> Offers:
        """As the peers together."""
        return self._answers.offers()

    def fingerprint(self) -> str:
        """Digest of what the peers are."""
        return digest(["peers", self._key, str(self._seed)])

    def signals(self, batch: Batch, *, layers: Sequence[str] = ()) -> Signals:
        """What the peers say together."""
        return self._answers.signals(batch, layers=layers)

    def trace(self, batch: Batch) -> tuple[SeenLayer, ...]:
        """The layers of the peer; of several, none."""
        return self._answers.trace(batch)

    @property
    def models(self) -> Mapping[str, Callable[[], nn.Module]]:
        """What makes each peer, by name."""
        return self._models

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The peers."""
        return {name: peer.result for name, peer in self._peers.items()}

    def state(self) -> State:
        """Weights and optimiser of each peer, and the random state of its dropout."""
        peers = {name: peer.state() for name, peer in self._peers.items()}
        return {"peers": peers, "random": dict(self._random)}

    def load(self, state: State) -> None:
        """The peers, as they were."""
        for name, content in cast("dict[str, State]", state["peers"]).items():
            self._peers[name].load(content)
        self._random = cast("dict[str, object]", state["random"])


def _together(modules: Iterable[nn.Module], task: Task) -> Teacher:
    """Several as one; one alone as it is, with its layers."""
    teachers = [LiveModule(module, task) for module in modules]
    if len(teachers) == 1:
        return teachers[0]
    return Ensemble(teachers, multi_label=task.kind == "multi_label")
