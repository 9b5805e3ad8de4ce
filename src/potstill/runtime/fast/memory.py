"""What was measured in earlier runs, in one JSON file; without a file nothing is remembered."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast, final

from potstill.errors import StorageError
from potstill.runtime.fast.trials import Choice, State, Trial
from potstill.runtime.files import read_json, write_json

_LIMIT = 500  # entries; the oldest go first


@final
class Memory:
    """Times by (model, shape, batch size, machine, versions), and costs by machine.

    A file that cannot be read is taken for empty, one that cannot be written is left alone: to
    remember is a convenience.

    Args:
        path: the file; `None` remembers nothing.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._choices = _read(path)

    def recall(self, key: str, answers: str) -> dict[str, Trial]:
        """The trials of earlier runs under this key, by name.

        Args:
            key: of model, shapes and machine.
            answers: of weights and bounds; refusals under others say nothing.
        """
        if key not in self._choices:
            return {}
        choice = Choice.from_json(self._choices[key])
        void = {State.NOT_TRIED} if choice.answers == answers else {State.NOT_TRIED, State.REFUSED}
        return {trial.name: trial for trial in choice.trials if trial.state not in void}

    def keep(self, choice: Choice) -> None:
        """Remember a choice, with what was known of candidates that were not tried this time."""
        if self._path is None:
            return
        self._choices = _read(self._path)  # another process may have written meanwhile
        known = self.recall(choice.key, choice.answers)
        trials = tuple(
            known.get(trial.name, trial) if trial.state is State.NOT_TRIED else trial
            for trial in choice.trials
        )
        self._choices.pop(choice.key, None)
        self._choices[choice.key] = replace(choice, trials=trials).to_json()
        latest = dict(list(self._choices.items())[-_LIMIT:])
        try:
            write_json(self._path, {"choices": latest})
        except StorageError:
            self._path = None


def _read(path: Path | None) -> dict[str, Mapping[str, object]]:
    if path is None or not path.exists():
        return {}
    try:
        content = read_json(path)
        choices = cast("dict[str, Mapping[str, object]]", content["choices"])
        for choice in choices.values():
            Choice.from_json(choice)
    except (StorageError, KeyError, TypeError, ValueError, AttributeError):
        return {}
    return choices
