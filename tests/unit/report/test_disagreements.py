"""Which samples the models disagree on, counted again by plain loops."""

from collections.abc import Callable

import numpy as np
import pytest

from potstill.report.answers import read_answers
from potstill.report.disagreements import CARDS_PER_GROUP, Disagreements, find_disagreements
from potstill.report.folder import RunFolder

RunOf = Callable[[str], RunFolder]


def found_in(run: RunFolder) -> Disagreements:
    answers = read_answers(run)
    assert answers is not None
    found = find_disagreements(run, answers)
    assert found is not None
    return found


def test_groups_are_those_of_a_plain_loop(run_of: RunOf) -> None:
    run = run_of("image")
    arrays = run.predictions
    counted = {"student": 0, "teacher": 0, "both": 0}
    for label, t, s in zip(
        arrays["labels"], arrays["teacher_0"], arrays["distilled_0"], strict=True
    ):
        wrong = (t.argmax() != label, s.argmax() != label)
        key = {(False, True): "student", (True, False): "teacher", (True, True): "both"}.get(wrong)
        if key:
            counted[key] += 1

    found = found_in(run)

    assert {group.key: group.count for group in found.groups} == counted
    assert found.both_right + sum(counted.values()) == found.total == len(arrays["labels"])
    assert counted["student"] > 0


@pytest.mark.parametrize("kind", ["image", "table", "signal", "regression", "many"])
def test_cards_show_the_sample_and_every_opinion(run_of: RunOf, kind: str) -> None:
    found = found_in(run_of(kind))
    cards = [card for group in found.groups for card in group.cards]

    assert cards
    assert all(len(group.cards) <= CARDS_PER_GROUP for group in found.groups)
    assert all(card.picture is not None for card in cards)
    assert {tuple(o.role for o in card.opinions) for card in cards} == {
        ("teacher", "scratch", "distilled")
    }


def test_cards_of_a_group_have_its_mistakes(run_of: RunOf) -> None:
    by_key = {group.key: group for group in found_in(run_of("image")).groups}
    expected = {"student": (True, False), "teacher": (False, True), "both": (False, False)}

    for key, group in by_key.items():
        for card in group.cards:
            right = {opinion.role: opinion.correct for opinion in card.opinions}
            assert (right["teacher"], right["distilled"]) == expected[key]


def test_guesses_are_the_three_likeliest_in_order(run_of: RunOf) -> None:
    run = run_of("image")
    card = found_in(run).groups[0].cards[0]
    row = int(np.flatnonzero(run.predictions["ids"] == card.id)[0])
    logits = run.predictions["distilled_0"][row]

    opinion = next(o for o in card.opinions if o.role == "distilled")

    assert [g.label for g in opinion.guesses] == [str(i) for i in np.argsort(-logits)[:3]]
    sure = [g.probability or 0.0 for g in opinion.guesses]
    assert sure == sorted(sure, reverse=True)
    assert sum(sure) <= 1.0 + 1e-9


def test_regression_says_how_far_off_each_answer_is(run_of: RunOf) -> None:
    found = found_in(run_of("regression"))
    guess = found.groups[0].cards[0].opinions[0].guesses[0]

    assert "off by at most" in found.rule
    assert guess.probability is None
    assert guess.note.startswith("off by ")


def test_without_a_teacher_there_is_nothing_to_disagree_with(run_of: RunOf) -> None:
    run = run_of("image")
    answers = read_answers(run)
    assert answers is not None
    object.__setattr__(answers, "by_role", {"scratch": answers.by_role["scratch"]})

    assert find_disagreements(run, answers) is None
