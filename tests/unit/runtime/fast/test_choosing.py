"""Candidates with made-up costs, on a clock that only they move."""

from dataclasses import dataclass, field

import pytest

from potstill.runtime.fast import (
    EXACT,
    Bounds,
    Choice,
    Difference,
    Memory,
    Prior,
    Ready,
    State,
    Work,
    choose,
)
from potstill.runtime.fast.trials import table

SAME = Difference(agreement=1.0, kl=0.0)
OTHER = Difference(agreement=0.5, kl=2.0)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Made:
    """A candidate that takes `cost` to prepare and `step` a step, whatever its prior says."""

    name: str
    clock: Clock
    cost: float
    step: float
    expected: Prior | None = None
    difference: Difference = SAME
    error: Exception | None = None
    prepared: int = 0
    steps: list[int] = field(default_factory=list)

    @property
    def prior(self) -> Prior:
        return self.expected or Prior(self.cost, 1.0 / self.step)

    def prepare(self) -> Ready[str]:
        self.prepared += 1
        self.clock.now += self.cost
        if self.error is not None:
            raise self.error
        return Ready(value=self.name, run=self.run, difference=lambda: self.difference)

    def run(self, number: int) -> None:
        self.steps.append(number)
        self.clock.now += self.step


def chosen(clock, candidates, *, steps=10_000, memory=None, answers="a") -> tuple[Choice, str]:
    """The exact way takes a second a step."""
    exact = Made(EXACT, clock, 0.0, 1.0)
    choice, ready = choose(
        Work(role="teacher", key="k", answers=answers, steps=steps),
        Ready(value=EXACT, run=exact.run, difference=Difference),
        candidates,
        bounds=Bounds(),
        memory=memory,
        clock=clock,
    )
    assert choice.chosen.name == ready.value
    return choice, ready.value


def trial(choice: Choice, name: str):
    return next(each for each in choice.trials if each.name == name)


def test_the_fastest_is_chosen_and_says_what_it_saves() -> None:
    clock = Clock()
    choice, name = chosen(clock, [Made("a", clock, 1, 0.5), Made("b", clock, 1, 0.25)])

    assert name == "b"
    assert choice.chosen.step_seconds == pytest.approx(0.25)
    assert "saves 125 min over 10,000 steps" in choice.chosen.reason
    assert "4.0 times as fast" in choice.sentence


def test_answers_that_differ_are_refused_and_the_next_best_is_taken() -> None:
    clock = Clock()
    wrong = Made("wrong", clock, 1, 0.1, difference=OTHER)
    choice, name = chosen(clock, [wrong, Made("right", clock, 1, 0.5)])

    assert name == "right"
    assert trial(choice, "wrong").state is State.REFUSED
    assert "agreement 0.5 is under the bound" in trial(choice, "wrong").reason


def test_what_is_slower_than_promised_is_not_chosen() -> None:
    clock = Clock()
    slow = Made("slow", clock, 1, 1.2, expected=Prior(1, 5.0))

    choice, name = chosen(clock, [slow])

    assert name == EXACT
    assert trial(choice, "slow").state is State.SLOWER


def test_a_short_work_tries_nothing_that_takes_long_to_prepare() -> None:
    clock = Clock()
    compiled = Made("compiled", clock, 60, 0.5)

    choice, name = chosen(clock, [compiled], steps=175)

    assert name == EXACT
    assert compiled.prepared == 0
    assert trial(choice, "compiled").state is State.NOT_TRIED
    assert "may save 88 s and costs about 60 s to prepare" in trial(choice, "compiled").reason


def test_a_long_work_tries_it() -> None:
    clock = Clock()
    assert chosen(clock, [Made("compiled", clock, 60, 0.5)], steps=2000)[1] == "compiled"


def test_what_cost_more_than_it_saves_is_not_chosen() -> None:
    clock = Clock()
    dear = Made("dear", clock, 400, 0.5, expected=Prior(1, 2.0))

    assert chosen(clock, [dear], steps=500)[1] == EXACT


def test_a_failure_is_a_line_in_the_table() -> None:
    clock = Clock()
    broken = Made("broken", clock, 1, 0.1, error=RuntimeError("no compiler\nand more"))

    choice, name = chosen(clock, [broken, Made("works", clock, 1, 0.5)])

    assert name == "works"
    assert trial(choice, "broken").state is State.FAILED
    assert trial(choice, "broken").reason == "no compiler"
    (line,) = [line for line in table([choice]) if line.startswith("broken")]
    assert "failed" in line
    assert "no compiler" in line


def test_a_few_steps_are_not_worth_a_look() -> None:
    clock = Clock()
    quick = Made("quick", clock, 0, 0.1)

    choice, name = chosen(clock, [quick], steps=50)

    assert (name, quick.prepared, clock.now) == (EXACT, 0, 0.0)
    assert "too few" in choice.chosen.reason


def test_once_the_best_is_known_worse_hopes_are_not_pursued() -> None:
    clock = Clock()
    poor = Made("poor", clock, 1, 0.9)

    choice, _ = chosen(clock, [poor, Made("best", clock, 1, 0.1)])

    assert poor.prepared == 0
    assert trial(choice, "poor").reason == "no faster by what is known of it"


def test_measuring_stays_a_small_share_of_the_work() -> None:
    clock = Clock()
    chosen(clock, [Made("a", clock, 0.1, 0.8), Made("b", clock, 0.1, 0.85)], steps=2000)

    assert clock.now < 0.02 * 2000


class TestMemory:
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "cache" / "speed.json"

    def test_the_next_run_prepares_the_best_alone(self, path) -> None:
        clock = Clock()
        made = [Made("a", clock, 1, 0.5, expected=Prior(1, 3.0)), Made("b", clock, 1, 0.45)]
        chosen(clock, made, memory=Memory(path))
        assert [m.prepared for m in made] == [1, 1]

        later = Clock()
        again = [Made("a", later, 1, 0.5), Made("b", later, 1, 0.45)]
        choice, name = chosen(later, again, memory=Memory(path))

        assert name == "b"
        assert choice.remembered
        assert [m.prepared for m in again] == [0, 1]
        assert again[1].steps == [0]  # warmed up and checked, not timed

    def test_its_answers_are_checked_all_the_same(self, path) -> None:
        clock = Clock()
        chosen(clock, [Made("a", clock, 1, 0.5)], memory=Memory(path))

        changed = Made("a", clock, 1, 0.5, difference=OTHER)
        choice, name = chosen(clock, [changed], memory=Memory(path), answers="other weights")

        assert name == EXACT
        assert trial(choice, "a").state is State.REFUSED

    def test_a_refusal_holds_for_the_same_weights_only(self, path) -> None:
        clock = Clock()
        chosen(clock, [Made("a", clock, 1, 0.5, difference=OTHER)], memory=Memory(path))

        same = Made("a", clock, 1, 0.5)
        choice, _ = chosen(clock, [same], memory=Memory(path))
        assert same.prepared == 0
        assert "remembered" in trial(choice, "a").reason

        assert chosen(clock, [same], memory=Memory(path), answers="others")[1] == "a"

    def test_a_longer_run_pays_for_what_a_short_one_did_not(self, path) -> None:
        clock = Clock()
        compiled = Made("compiled", clock, 60, 0.5)
        assert chosen(clock, [compiled], steps=200, memory=Memory(path))[1] == EXACT
        assert chosen(clock, [compiled], steps=9000, memory=Memory(path))[1] == "compiled"

        choice, name = chosen(clock, [compiled], steps=110, memory=Memory(path))
        assert name == EXACT
        assert compiled.prepared == 1
        assert trial(choice, "compiled").step_seconds == pytest.approx(0.5)  # still shown

    def test_a_run_that_is_too_short_to_measure_forgets_nothing(self, path) -> None:
        clock = Clock()
        chosen(clock, [Made("a", clock, 1, 0.5)], memory=Memory(path))

        chosen(clock, [], steps=20, memory=Memory(path))

        assert Memory(path).recall("k", "a")["a"].step_seconds == pytest.approx(0.5)

    @pytest.mark.parametrize("text", ["", "[]", '{"format": 1, "choices": {"k": 3}}'])
    def test_a_damaged_file_is_taken_for_empty(self, path, text) -> None:
        path.parent.mkdir()
        path.write_text(text)
        clock = Clock()

        assert chosen(clock, [Made("a", clock, 1, 0.5)], memory=Memory(path))[1] == "a"
        assert Memory(path).recall("k", "a")["a"].state is State.CHOSEN

    def test_a_file_that_cannot_be_written_is_no_error(self, tmp_path) -> None:
        (tmp_path / "file").write_text("")
        clock = Clock()

        memory = Memory(tmp_path / "file" / "speed.json")
        assert chosen(clock, [Made("a", clock, 1, 0.5)], memory=memory)[1] == "a"


def test_a_choice_survives_json() -> None:
    clock = Clock()
    wrong = Made("wrong", clock, 1, 0.1, difference=OTHER)
    choice, _ = chosen(clock, [wrong, Made("right", clock, 1, 0.5)])

    assert Choice.from_json(choice.to_json()) == choice
