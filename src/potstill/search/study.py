"""A study: what was asked, what was found, in a database that several processes share.

Optuna draws the values (a multivariate tree-structured Parzen estimator for several objectives with
constraints: Watanabe 2023, arXiv:2304.11127; Ozaki et al. 2020, DOI 10.1145/3377930.3389817), by
`ask` and `tell`. What Optuna has no word for (curves, figures, why a trial was refused) is kept as
attributes of its trials, so that any Optuna dashboard shows it too.
"""

import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, final

import numpy as np

from potstill.errors import StorageError
from potstill.search.door import optuna, quiet
from potstill.search.families import FAMILY
from potstill.search.space import Space, Value
from potstill.search.trials import State, Trial

ABANDONED = 3600.0  # seconds without a word, until a trial of another machine counts as lost
LEAST_FOR_IMPORTANCE = 8
_KEY, _FOUND, _WORKER, _BEAT, _STATE = "key", "found", "worker", "beat", "state"


@final
@dataclass(frozen=True)
class Asked:
    """A trial that has begun: its values, and Optuna's own object."""

    number: int
    values: Mapping[str, Value]
    trial: Any


@final
class Study:
    """The trials of one search.

    Args:
        space: what can be chosen.
        storage: an Optuna storage URL; `sqlite:///path/study.db` needs no server.
        name: of the study in it.
        higher_is_better: of the score; the cost is always made small.
        key: changes whenever trials of before would mean something else.
        seed: of the draws.
        startup: so many trials are drawn at random before any is learnt from.

    Raises:
        MissingExtra: Optuna is not installed.
        StorageError: the database cannot be opened, or holds another search of this name.
    """

    def __init__(
        self,
        space: Space,
        *,
        storage: str,
        name: str,
        higher_is_better: bool,
        key: str,
        seed: int = 0,
        startup: int = 8,
    ) -> None:
        self._space, self._seed, self._startup = space, seed, startup
        self._optuna = optuna()
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        directions = ["maximize" if higher_is_better else "minimize", "minimize"]
        with quiet():
            try:
                self._study = self._optuna.create_study(
                    storage=_patient(self._optuna, storage),
                    study_name=name,
                    directions=directions,
                    load_if_exists=True,
                )
                known = self._study.user_attrs.get(_KEY)
                if known is None:
                    self._study.set_user_attr(_KEY, key)
            except Exception as error:  # of any database driver
                raise StorageError(
                    f"The study `{name}` cannot be opened in {_public(storage)} "
                    f"({_public(' '.join(str(error).split())[:200])}); give --storage an Optuna "
                    "storage URL, such as sqlite:///study.db or postgresql://user@host/name."
                ) from error
        if known not in (None, key):
            raise StorageError(
                f"The study `{name}` in {_public(storage)} is of another search (recipe, target, "
                "runtime, epochs or space differ). Give this one another folder with --out, or "
                "delete the study."
            )

    # Asking and telling

    def ask(self) -> Asked:
        """The next candidate; values that are waiting come first."""
        with quiet():
            known = len(self._study.get_trials(deepcopy=False))
            self._study.sampler = self._optuna.samplers.TPESampler(
                seed=int(np.random.default_rng([self._seed, known]).integers(2**31)),
                n_startup_trials=self._startup,
                multivariate=True,
                group=True,
            )
            trial = self._study.ask()
            trial.set_user_attr(_WORKER, self._worker)
            trial.set_user_attr(_BEAT, time.time())
            return Asked(trial.number, self._space.draw(trial), trial)

    def beat(self, asked: Asked) -> None:
        """Say that a trial is still being worked on."""
        asked.trial.set_user_attr(_BEAT, time.time())

    def tell(
        self, asked: Asked, found: Trial, *, cost: float | None, excess: Mapping[str, float]
    ) -> None:
        """Write down how a trial ended; what was refused teaches the sampler its limits."""
        states = self._optuna.trial.TrialState
        with quiet():
            asked.trial.set_user_attr(_FOUND, _plain(found))
            asked.trial.set_user_attr(_STATE, found.state.value)
            for quantity, share in excess.items():
                asked.trial.set_constraint(quantity, share)
            match found.state:
                case State.DONE:
                    self._study.tell(asked.trial, [found.score, cost])
                case State.FAILED:
                    self._study.tell(asked.trial, state=states.FAIL)
                case _:
                    self._study.tell(asked.trial, state=states.PRUNED)

    def enqueue(self, values: Mapping[str, Value]) -> None:
        """Let these values be the next candidate, unless they were one already."""
        with quiet():
            self._study.enqueue_trial(dict(values), skip_if_exists=True)

    def take_up(self) -> list[int]:
        """Trials whose process has died: ended as failed, and their values asked again.

        Returns:
            Their numbers.
        """
        lost: list[int] = []
        with quiet():
            for trial in self._study.get_trials(deepcopy=False):
                if trial.state.name != "RUNNING" or not _is_lost(trial.user_attrs):
                    continue
                self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
                if trial.params:
                    self._study.enqueue_trial(dict(trial.params))
                lost.append(trial.number)
        return lost

    # What is known

    def trials(self) -> list[Trial]:
        """All trials but those that wait, by number."""
        with quiet():
            found = self._study.get_trials(deepcopy=False)
        return [_trial(t) for t in found if t.state.name != "WAITING"]

    def importance(self) -> dict[str, dict[str, float]]:
        """How much each knob matters, for `score` and for `cost`; shares that add up to 1.

        By PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255); empty while fewer than 8 trials are
        done, or where it cannot say.
        """
        with quiet():
            done = [t for t in self._study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
            if len(done) < LEAST_FOR_IMPORTANCE:
                return {}
            known = {name for trial in done for name in trial.params}
            shapes = sorted(known & self._space.names(FAMILY))  # how one learns costs nothing later
            return {
                "score": self._importance_of(0, sorted(known)),
                "cost": self._importance_of(1, shapes),
            }

    def _importance_of(self, number: int, knobs: list[str]) -> dict[str, float]:
        try:
            found = self._optuna.importance.get_param_importances(
                self._study, target=lambda trial: trial.values[number], params=knobs
            )
        except (ValueError, RuntimeError):  # too few trials that differ
            return {}
        return {str(name): float(share) for name, share in found.items()}


def count(trials: Sequence[Trial], *states: State) -> int:
    """How many trials are in one of these states."""
    return sum(t.state in states for t in trials)


def _patient(module: Any, storage: str) -> object:  # noqa: ANN401 - a module
    """A storage that waits for others who are writing; SQLite gives up after 5 s by itself."""
    if not storage.startswith("sqlite"):
        return storage
    wait = {"connect_args": {"timeout": 120}}
    return module.storages.RDBStorage(storage, engine_kwargs=wait)


def _public(storage: str) -> str:
    """A storage URL without its password."""
    return re.sub(r"(?<=:)[^:@/]+(?=@)", "…", storage)


def _is_lost(attributes: Mapping[str, object]) -> bool:
    """Whether nobody works on a trial any more."""
    host, _, pid = str(attributes.get(_WORKER, ":0")).rpartition(":")
    if host == socket.gethostname():
        return not _lives(int(pid))
    return time.time() - float(cast("float", attributes.get(_BEAT, 0.0))) > ABANDONED


def _lives(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _plain(found: Trial) -> dict[str, object]:
    content = found.to_json()
    content["curve"] = [[epoch, value] for epoch, value in found.curve.items()]
    return content


def _trial(frozen: Any) -> Trial:  # noqa: ANN401 - Optuna's FrozenTrial
    """A trial of Optuna's with what was written beside it."""
    found = frozen.user_attrs.get(_FOUND)
    if found is None:
        state = State.RUNNING if frozen.state.name == "RUNNING" else State.FAILED
        reason = "" if state is State.RUNNING else "its process ended"
        return Trial(number=frozen.number, state=state, values=frozen.params, reason=reason)
    content: dict[str, Any] = dict(found)
    content["curve"] = {int(epoch): float(value) for epoch, value in content["curve"]}
    content |= {"state": State(content["state"]), "number": frozen.number}
    return Trial(**content)
