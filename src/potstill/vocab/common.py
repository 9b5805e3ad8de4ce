"""Which tokens of two vocabularies are the same: equal bytes, and special tokens by their job."""

from collections.abc import Mapping

import torch

from potstill.errors import DataError
from potstill.signals import CommonTokens
from potstill.vocab.vocabulary import Vocabulary


def common_tokens(
    student: Vocabulary, teacher: Vocabulary, *, markers: Mapping[str, str] | None = None
) -> CommonTokens:
    """The tokens that both have, each with one partner.

    Args:
        student: its tokens.
        teacher: likewise.
        markers: special tokens of the student and what the teacher has in their place, by name, for
            example `{"<|im_end|>": "<|eot_id|>"}`. They go before the rest.

    Raises:
        DataError: a marker is no special token, or nothing is common.
    """
    pairs = special_pairs(student, teacher, markers=markers)
    taken = set(pairs.values())
    theirs = _by_piece(teacher)
    for piece, mine in _by_piece(student).items():
        free = [number for number in mine if number not in pairs]
        partners = [number for number in theirs.get(piece, ()) if number not in taken]
        pairs.update(zip(free, partners, strict=False))
    if not pairs:
        raise DataError(
            "Student and teacher have no token in common; use a teacher for the same kind of text, "
            "or the term uld, which compares probabilities alone."
        )
    mine_J = sorted(pairs)
    theirs_J = [pairs[number] for number in mine_J]
    return CommonTokens(
        student_ids_J=torch.tensor(mine_J),
        teacher_ids_J=torch.tensor(theirs_J),
        student_rest=torch.tensor(sorted(set(student.tokens()) - pairs.keys()), dtype=torch.int64),
        teacher_rest=torch.tensor(sorted(set(teacher.tokens()) - {*theirs_J}), dtype=torch.int64),
    )


def special_pairs(
    student: Vocabulary, teacher: Vocabulary, *, markers: Mapping[str, str] | None = None
) -> dict[int, int]:
    """Special tokens of the student and the teacher's that do the same, each with one partner.

    By the given markers, then by equal names, then begin with begin and end with end.
    """
    pairs: dict[int, int] = {}
    for mine, theirs in (markers or {}).items():
        pairs[_known(student, mine, "student")] = _known(teacher, theirs, "teacher")
    candidates = [
        *((number, teacher.special.get(name)) for name, number in student.special.items()),
        *((student.roles.get(role), teacher.roles.get(role)) for role in ("eos", "bos")),
    ]
    for mine_id, theirs_id in candidates:
        if mine_id is None or theirs_id is None:
            continue
        if mine_id not in pairs and theirs_id not in pairs.values():
            pairs[mine_id] = theirs_id
    return pairs


def _known(vocabulary: Vocabulary, name: str, side: str) -> int:
    if name not in vocabulary.special:
        listed = ", ".join(sorted(vocabulary.special)[:12]) or "none"
        raise DataError(
            f"`{name}` is no special token of the {side}; it has: {listed}. Correct `markers`."
        )
    return vocabulary.special[name]


def _by_piece(vocabulary: Vocabulary) -> dict[bytes, list[int]]:
    """The tokens of each piece, the usual one first: spare ones come last."""
    found: dict[bytes, list[int]] = {}
    special = vocabulary.special_ids
    for number, piece in enumerate(vocabulary.pieces):
        if piece is not None and number not in special:
            found.setdefault(piece, []).append(number)
    for numbers in found.values():
        numbers.sort(key=lambda number: (number in vocabulary.spare, number))
    return found
