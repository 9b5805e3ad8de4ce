"""Rules in words."""

from potstill.models.rule_text import Naming, described, list_lines, merged, tree_lines
from potstill.models.rules import Condition, Rule

NAMES = ("age", "sex=male", "dose")
NAMING = Naming(features=NAMES, classes=("ill", "well"), kind="single_label")
LOW, HIGH = Condition(0, 54.0, above=False), Condition(0, 54.0, above=True)


def test_a_narrower_condition_replaces_a_wider_one() -> None:
    wide, narrow = Condition(2, 5.0, above=False), Condition(2, 3.0, above=False)
    other = Condition(2, 1.0, above=True)

    assert merged([wide, narrow, other]) == [narrow, other]
    assert merged([other, Condition(2, 2.0, above=True)]) == [Condition(2, 2.0, above=True)]


def test_a_tree_reads_as_indented_questions() -> None:
    man = Condition(1, 0.0, above=True)
    woman = man._replace(above=False)
    rules = [
        Rule((LOW,), (-0.1, -2.35), 30, 28),
        Rule((HIGH, woman), (-2.3, -0.105), 4, 4),
        Rule((HIGH, man), (-0.69, -0.7), 6, 3),
    ]

    assert tree_lines(rules, NAMING) == [
        "age ≤ 54  → ill 90 %, 28 of 30 rows",
        "age > 54",
        "  sex is not male  → well 90 %, 4 of 4 rows",
        "  sex is male  → ill 50 %, 3 of 6 rows",
    ]


def test_a_list_reads_as_if_and_else() -> None:
    rules = [Rule((HIGH, Condition(2, 0.5, above=False)), (0.0, -9.0), 7), Rule((), (1.5,), 9)]
    values = Naming(features=None, classes=None, kind="regression")

    assert list_lines(rules[:1], NAMING) == ["if age > 54 and dose ≤ 0.5  → ill 100 %, 7 rows"]
    assert list_lines(rules[1:], values) == ["else  → 1.5, 9 rows"]


def test_labels_that_are_on_are_named() -> None:
    naming = Naming(features=NAMES, classes=("a", "b"), kind="multi_label")
    record = described([Rule((LOW,), (2.2, -1.0), 5), Rule((HIGH,), (-1.0, -1.0), 5)], naming)

    assert [each["then"] for each in record] == ["a 90 %", "none"]
    assert record[0]["if"] == ["age ≤ 54"]
