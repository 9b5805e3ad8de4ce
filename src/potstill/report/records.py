"""What `results.json` says, as frozen records. Unknown keys are ignored, missing ones are empty.

Names and meanings are those of the run folder; a number that is not finite is read as absent.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

ROLES = ("teacher", "scratch", "distilled")


def _finite(value: object) -> object:
    """The mean of a summary, the number itself, or nothing if it is not finite."""
    if isinstance(value, Mapping):
        value = value.get("mean")
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _interval(value: object) -> object:
    """Two finite ends, or nothing."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    return None if any(_finite(end) is None for end in value) else value


def _text(value: object) -> object:
    return "" if value is None else value


def _table(value: object) -> object:
    return {} if value is None else value


Text = Annotated[str, BeforeValidator(_text)]
Number = Annotated[float | None, BeforeValidator(_finite)]
Interval = Annotated[tuple[float, float] | None, BeforeValidator(_interval)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Summary(_Record):
    """A figure over seeds. `std` and `ci95` are absent when there is one seed only."""

    mean: Number = None
    std: Number = None
    ci95: Interval = None
    values: tuple[Number, ...] = ()

    def known(self) -> tuple[float, ...]:
        """The values that are finite."""
        return tuple(value for value in self.values if value is not None)


Summaries = Annotated[dict[str, Summary], BeforeValidator(_table)]


class Latency(_Record):
    """Milliseconds of one call, and under which conditions."""

    p50: Number = None
    p95: Number = None
    batch: int | None = None
    threads: int | None = None
    engine: str = ""


class ModelResult(_Record):
    """All figures of one role."""

    name: Text = ""
    description: Text = ""
    test: Summaries = {}
    test_last: Summaries = {}
    test_best: Summaries = {}
    calibration: Summaries = {}
    agreement: Summary | None = None
    parameters: Number = None
    bytes: Number = None
    flops: Number = None
    train_seconds: Number = None
    energy_wh: Number = None
    co2_g: Number = None
    latency_ms: Latency | None = None
    best_epochs: tuple[Number, ...] | None = None
    selected_epochs: tuple[Number, ...] | None = None
    file: str | None = None
    file_bytes: Number = None


class Verdict(_Record):
    """Did the teacher help? `gain` is positive when the distilled student is the better one."""

    helped: Literal["yes", "no", "unclear"] = "unclear"
    sentence: Text = ""
    reason: Text = ""
    gain: Number = None
    gain_ci95: Interval = None
    p_value: Number = None
    gap_recovered: Number = None
    retention: Number = None
    agreement: Number = None
    speedup: Number = None
    compression: Number = None
    alpha: Number = None
    test: Text = ""


class DataFacts(_Record):
    """What the data are."""

    kind: str = ""
    name: str = ""
    train: int | None = None
    validation: int | None = None
    test: int | None = None
    classes: tuple[str, ...] | None = None
    features: tuple[str, ...] | None = None
    target_kind: str = "single_label"


class Results(_Record):
    """The whole of `results.json`."""

    name: str = ""
    task: str = ""
    primary: str = ""
    higher_is_better: bool = True
    selected_by: str = ""
    selected_higher_is_better: bool = True
    seeds: tuple[int, ...] = ()
    models: dict[str, ModelResult] = {}
    verdict: Verdict | None = None
    data: DataFacts = DataFacts()
    objective: Text = ""
    pairing: tuple[str, ...] = ()
    command: Text = ""
    created: Text = ""
    warnings: tuple[str, ...] = ()

    def selection(self) -> tuple[str, bool]:
        """The metric on the validation data that epochs are chosen by, and its direction."""
        if self.selected_by:
            return self.selected_by, self.selected_higher_is_better
        return self.primary, self.higher_is_better

    def roles(self) -> tuple[str, ...]:
        """The roles that have figures: teacher, scratch, distilled, then any others."""
        others = sorted(set(self.models) - set(ROLES))
        return tuple(role for role in (*ROLES, *others) if role in self.models)

    def selected_epochs(self) -> dict[str, dict[int, int]]:
        """Role → seed → the epoch that the seed's weights were taken from, where known."""
        return {
            role: {
                seed: int(epoch)
                for seed, epoch in zip(
                    self.seeds or (0,),
                    model.selected_epochs or model.best_epochs or (),
                    strict=False,
                )
                if epoch is not None
            }
            for role, model in self.models.items()
        }

    def score(self, role: str) -> Summary:
        """The primary metric of a role on the test data; empty if it was not measured."""
        return self.models.get(role, ModelResult()).test.get(self.primary, Summary())
