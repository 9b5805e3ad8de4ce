"""From columns of words and of their tags to planes of tokens with a label for each word.

Shapes: N sentences, P planes, L positions.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from potstill.data.assembly import Raw, RawPart
from potstill.data.in_use import chosen_tokens
from potstill.data.options import nearest
from potstill.data.samples import Kind
from potstill.data.sources.request import Request
from potstill.data.tokens import DEFAULT_LENGTH, Tokens
from potstill.errors import DataError, RecipeError
from potstill.functional.tokens import IGNORED

if TYPE_CHECKING:
    from datasets import Dataset

WORDS = ("tokens", "words")
TAGS = ("tags", "ner_tags", "labels", "label")
OUTSIDE = "O"


def read_tagged(parts: Mapping[str, "Dataset"], *, request: Request, name: str) -> Raw:
    """Sentences given as lists of words, with a tag for each word.

    The first token of a word carries the word's tag and all others -100, as does the second half
    of a sentence that is longer than `max_length` tokens.

    Raises:
        RecipeError: no tokenizer is named.
        DataError: columns that are missing, lists of other things or lengths, unknown tags.
    """
    options = request.options
    folder = options.text("tokenizer")
    if folder is None:
        raise RecipeError("Tagging needs a tokenizer: give `data.tokenizer`, a folder with one.")
    train = parts["train"]
    words = _column(train, options.texts("inputs"), WORDS, key="inputs")
    tags = _column(train, options.texts("label"), TAGS, key="label")
    rows_of = {part: _lists(data, words, part=part) for part, data in parts.items()}
    sentences = {
        part: [[_word(w, words, part=part) for w in row] for row in rows]
        for part, rows in rows_of.items()
    }
    labelled = {p: _lists(d, tags, part=p) for p, d in parts.items() if p != "transfer"}
    classes = request.form.classes or _classes(train, tags, labelled["train"])
    max_length = options.whole("max_length") or DEFAULT_LENGTH

    def ids_of(tokens: Tokens, part: str) -> NDArray[np.int32]:
        planes, _, _ = tokens.words(sentences[part], max_length=max_length)
        return planes[:, 0][planes[:, 1] > 0]

    tokens = Tokens.load(folder, fetch=options.flag("fetch_tokenizer"))
    tokens = chosen_tokens(tokens, options, ids_of, sentences)
    made: dict[str, tuple[NDArray[np.int32], NDArray[np.int64] | None]] = {}
    notes = []
    for part, texts in sentences.items():
        planes, places, unread = tokens.words(texts, max_length=max_length)
        if unread:
            notes.append(
                f"{unread} {part} words have no token within {max_length}, and their tags are not "
                "asked for."
            )
        given = labelled.get(part)
        numbers = None if given is None else _numbers(given, texts, classes, part=part)
        made[part] = planes, None if numbers is None else _by_position(numbers, places)
    longest = max(planes.shape[2] for planes, _ in made.values())
    return Raw(
        name=name,
        parts={
            part: RawPart(
                tokens.padded(planes, longest),
                None if labels is None else tokens.unasked(labels, longest),
            )
            for part, (planes, labels) in made.items()
        },
        kind=Kind.TEXT,
        classes=classes,
        notes=tuple(notes),
        tokens=tokens,
    )


def _column(
    train: "Dataset", given: tuple[str, ...] | None, usual: Sequence[str], *, key: str
) -> str:
    found = given or tuple(name for name in usual if name in train.column_names)[:1]
    if len(found) != 1:
        raise DataError(
            f"Tagging needs one column for `{key}:`, and there are "
            f"{', '.join(f'`{n}`' for n in train.column_names)}; name it."
        )
    return found[0]


def _lists(data: "Dataset", column: str, *, part: str) -> list[list[object]]:
    if column not in data.column_names:
        raise DataError(
            f"The {part} part has no column `{column}`; {nearest(column, data.column_names)}"
        )
    values: list[object] = data.with_format("arrow")[:][column].to_pylist()
    rows = [value for value in values if isinstance(value, list) and value]
    if not rows or len(rows) < len(values):
        row = next((i for i, v in enumerate(values) if not isinstance(v, list) or not v), 0)
        shown = repr(values[row])[:60] if values else "nothing"
        raise DataError(
            f"Column `{column}` of the {part} part holds {shown} in row {row}, and a list with one "
            "entry a word is expected; drop such rows, or name another column."
        )
    return rows


def _word(value: object, column: str, *, part: str) -> str:
    if isinstance(value, str):
        return value
    raise DataError(
        f"Column `{column}` of the {part} part holds {value!r} where a word is expected; name "
        "another column with `inputs:`."
    )


def _classes(train: "Dataset", column: str, rows: list[list[object]]) -> tuple[str, ...]:
    """As the data set names them, or all that occur in training, with `O` first."""
    named = getattr(getattr(train.features[column], "feature", None), "names", None)
    if named is not None:
        return tuple(named)
    seen = {tag for row in rows for tag in row}
    if not all(isinstance(tag, str) for tag in seen):
        raise DataError(
            f"The tags in `{column}` are numbers without names; name all of them in order with "
            "`classes: [O, B-…, I-…]`."
        )
    return tuple(sorted(map(str, seen), key=lambda tag: (tag != OUTSIDE, tag[2:], tag)))


def _numbers(
    rows: Sequence[Sequence[object]],
    texts: Sequence[Sequence[str]],
    classes: tuple[str, ...],
    *,
    part: str,
) -> list[list[int]]:
    places: dict[object, int] = {tag: number for number, tag in enumerate(classes)}
    places |= {number: number for number in range(len(classes))}
    for number, (row, words) in enumerate(zip(rows, texts, strict=True)):
        if len(row) != len(words):
            raise DataError(
                f"Row {number} of the {part} part has {len(words)} words and {len(row)} tags; give "
                "one tag a word."
            )
        for tag in row:
            if tag not in places:
                raise DataError(
                    f"The {part} tags hold `{tag}` in row {number}, which is none of the "
                    f"{len(classes)} known ones; name all of them with `classes: [...]`."
                )
    return [[places[tag] for tag in row] for row in rows]


def _by_position(
    numbers: Sequence[Sequence[int]], places_NL: NDArray[np.int64]
) -> NDArray[np.int64]:
    """`[N, L]`: the tag of the word that begins at a position, -100 where none does."""
    labels_NL = np.full(places_NL.shape, IGNORED, dtype=np.int64)
    for row, (tags, places) in enumerate(zip(numbers, places_NL, strict=True)):
        first = np.flatnonzero(places >= 0)
        labels_NL[row, first] = np.asarray(tags, dtype=np.int64)[places[first]]
    return labels_NL
