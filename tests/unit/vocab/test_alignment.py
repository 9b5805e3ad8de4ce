"""Spans of equal bytes between two tokenisations, and texts retold in other tokens."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.vocab import Interpreter, Span, Vocabulary, align

from . import tiny


def spans_of(mine: list[bytes], theirs: list[bytes]) -> list[tuple[bytes, bytes]]:
    return [
        (b"".join(mine[slice(*s.student)]), b"".join(theirs[slice(*s.teacher)]))
        for s in align(mine, theirs)
    ]


def test_spans_end_where_both_have_a_boundary() -> None:
    found = align([b"cop", b"per", b" still"], [b"copper", b" ", b"sti", b"ll"])

    assert found == [Span((0, 2), (0, 1)), Span((2, 3), (1, 4))]


def test_parts_of_a_character_are_bytes_like_others() -> None:
    whole = "日本".encode()

    found = align(
        [whole[:1], whole[1:3], whole[3:]], [whole[:2], whole[2:3], whole[3:5], whole[5:]]
    )

    assert found == [Span((0, 2), (0, 2)), Span((2, 3), (2, 4))]


def test_a_space_that_one_side_puts_in_front_does_not_count() -> None:
    expected = [Span((0, 1), (0, 1)), Span((1, 2), (1, 2))]

    assert align([b"a", b" b"], [b" a", b" b"]) == expected
    assert align([b" a", b" b"], [b"a", b" b"]) == expected
    assert align([b" a", b" b"], [b" a", b" b"]) == expected
    assert align([b"a", b" b"], [b" ", b"a", b" b"]) == [Span((0, 1), (1, 2)), Span((1, 2), (2, 3))]


def test_what_only_one_side_has_is_in_no_span() -> None:
    assert spans_of([b"ab", b"Cd", b"ef"], [b"ab", b"cd", b"ef"]) == [
        (b"ab", b"ab"),
        (b"ef", b"ef"),
    ]
    assert spans_of([b"ab", b"cd\xe6"], [b"ab", b"cd"]) == [(b"ab", b"ab")]
    assert spans_of([], [b"a"]) == []
    assert spans_of([b"a"], []) == []
    assert spans_of([b"a", b"", b"b"], [b"a", b"b"]) == [(b"a", b"a"), (b"b", b"b")]


CUTS = st.lists(st.integers(0, 40), max_size=12)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=20), CUTS, CUTS)
def test_any_two_ways_of_cutting_a_text_meet_at_their_common_cuts(
    text: str, one: list[int], other: list[int]
) -> None:
    data = text.encode()
    (mine, cuts), (theirs, their_cuts) = (
        ([data[a:b] for a, b in zip([0, *edges], [*edges, len(data)], strict=True)], set(edges))
        for edges in (sorted({c for c in cuts if 0 < c < len(data)}) for cuts in (one, other))
    )
    if data[:1] == b" ":
        return

    found = spans_of(mine, theirs)

    edges = [0, *sorted(cuts & their_cuts), len(data)]
    expected = [data[a:b] for a, b in pairwise(edges) if a < b]
    assert [a for a, _ in found] == [b for _, b in found] == expected


def interpreter(student, teacher, **options: object) -> Interpreter:
    return Interpreter(
        Vocabulary.of(student), Vocabulary.of(teacher), encode=tiny.encode(teacher), **options
    )


PAIRS = [
    (tiny.byte_level, tiny.sentencepiece),
    (tiny.sentencepiece, tiny.byte_level),
    (tiny.byte_level, lambda: tiny.byte_level(290, fewer=True)),
    (tiny.byte_level, tiny.byte_level),
]


@pytest.mark.parametrize(("mine", "theirs"), PAIRS)
@pytest.mark.parametrize("text", tiny.TEXTS)
def test_a_text_retold_covers_all_its_bytes(mine, theirs, text: str) -> None:
    student, teacher = mine(), theirs()
    ids = [*tiny.encode(student)(text), student.eos_token_id]

    told = interpreter(student, teacher).retell(ids, [True] * len(ids))

    pieces, their_pieces = Vocabulary.of(student).pieces, Vocabulary.of(teacher).pieces
    covered = b""
    for span in told.spans[:-1]:
        part = b"".join(pieces[i] for i in ids[slice(*span.student)])
        their_part = b"".join(their_pieces[i] for i in told.ids[slice(*span.teacher)])
        assert part.removeprefix(b" " if not covered else b"") == (
            their_part.removeprefix(b" " if not covered else b"")
        )
        covered += part
    assert covered.removeprefix(b" ") == text.encode()
    last = told.spans[-1]  # the end of the text
    assert ids[last.student[0]] == student.eos_token_id
    assert told.ids[last.teacher[0]] == teacher.eos_token_id
    if "sentencepiece" in getattr(theirs, "__name__", ""):
        assert told.ids[0] == teacher.bos_token_id
        assert not told.wanted[0]


def test_the_same_tokenizer_tells_the_same_tokens() -> None:
    same = tiny.byte_level()
    ids = tiny.encode(same)(tiny.TEXTS[2])

    told = interpreter(same, same).retell(ids, [True] * len(ids))

    assert list(told.ids) == ids
    assert told.spans == tuple(Span((i, i + 1), (i, i + 1)) for i in range(len(ids)))


def test_only_answers_are_wanted_and_they_begin_at_the_same_byte() -> None:
    student = tiny.byte_level(extra=("<|user|>", "<|bot|>"))
    teacher = tiny.byte_level(290, "</s>", fewer=True, extra=("[INST]", "[/INST]"))
    encode = tiny.encode(student)
    prompt, answer = encode("The copper"), encode(" still is rare")
    user, bot = (student.convert_tokens_to_ids(m) for m in ("<|user|>", "<|bot|>"))
    ids = [user, *prompt, bot, *answer, student.eos_token_id]
    wanted = [False] * (len(prompt) + 2) + [True] * (len(answer) + 1)

    told = interpreter(
        student, teacher, markers={"<|user|>": "[INST]", "<|bot|>": "[/INST]"}
    ).retell(ids, wanted)
    bare = interpreter(student, teacher).retell(ids, wanted)

    names = teacher.convert_ids_to_tokens(list(told.ids))
    assert names[0] == "[INST]"
    assert "[/INST]" in names
    first = told.wanted.index(True)
    text = b"".join(Vocabulary.of(teacher).pieces[i] for i in told.ids[first:-1])
    assert text == b" still is rare"
    assert told.spans[0].student[0] == len(prompt) + 2
    assert told.spans[0].teacher[0] == first
    assert len(bare.ids) == len(told.ids) - 2  # markers without a partner are left out


def test_a_character_cut_off_at_the_end_is_left_out() -> None:
    student, teacher = tiny.byte_level(), tiny.sentencepiece()
    pieces = Vocabulary.of(student).pieces
    byte = next(i for i, piece in enumerate(pieces) if piece == b"\xe6")
    ids = [*tiny.encode(student)("is copper"), byte]

    told = interpreter(student, teacher).retell(ids, [True] * len(ids))

    assert told.spans
    assert told.spans[-1].student[1] == len(ids) - 1
