"""From columns of texts to planes of tokens."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from potstill.data.assembly import Raw, RawPart
from potstill.data.in_use import chosen_tokens
from potstill.data.sources.request import Request
from potstill.data.tokens import DEFAULT_LENGTH, Tokens
from potstill.errors import DataError, RecipeError

if TYPE_CHECKING:
    from datasets import Dataset

OPTIONS = frozenset({"tokenizer", "fetch_tokenizer", "max_length", "vocabulary"})


def read_texts(
    parts: Mapping[str, "Dataset"], columns: tuple[str, ...], *, request: Request, name: str
) -> Raw:
    """Texts (one column) or pairs of texts (two) as planes of tokens, `[N, P, L]` int32.

    Raises:
        RecipeError: no tokenizer is named, or a length makes no sense.
        DataError: columns that hold no texts, or cells without a value.
    """
    options = request.options
    tokenizer = options.text("tokenizer")
    if tokenizer is None:
        raise RecipeError(
            "Texts need a tokenizer: give `data.tokenizer`, a folder that holds one (that of the "
            "teacher's model, for example)."
        )
    max_length = options.whole("max_length") or DEFAULT_LENGTH
    if max_length < 3:
        raise RecipeError(f"`max_length: {max_length}` leaves no room for a text; give 3 or more.")
    if len(columns) > 2:
        raise DataError(
            f"Columns {', '.join(f'`{c}`' for c in columns)} are more than a pair of texts; name "
            "one or two with `inputs:`."
        )
    read = {part: [_texts(data, c, part=part) for c in columns] for part, data in parts.items()}

    def planes_of(part: str, tokens: Tokens) -> tuple[NDArray[np.int32], int]:
        first, *rest = read[part]
        return tokens.planes(first, rest[0] if rest else None, max_length=max_length)

    def ids_of(tokens: Tokens, part: str) -> NDArray[np.int32]:
        planes, _ = planes_of(part, tokens)
        return planes[:, 0][planes[:, 1] > 0]

    tokens = Tokens.load(tokenizer, fetch=options.flag("fetch_tokenizer"))
    tokens = chosen_tokens(tokens, options, ids_of, read)
    arrays: dict[str, NDArray[np.int32]] = {}
    notes = []
    for part, (first, *_) in read.items():
        arrays[part], cut = planes_of(part, tokens)
        if cut:
            notes.append(
                f"{cut} of {len(first)} {part} texts are longer than {max_length} tokens, and "
                "their end was left out."
            )
    longest = max(array.shape[2] for array in arrays.values())
    return Raw(
        name=name,
        parts={part: RawPart(tokens.padded(array, longest)) for part, array in arrays.items()},
        kind=request.form.kind,
        notes=tuple(notes),
        tokens=tokens,
    )


def _texts(dataset: "Dataset", column: str, *, part: str) -> list[str]:
    values: list[object] = dataset.with_format("arrow")[:][column].to_pylist()
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) < len(values):
        row = next(i for i, value in enumerate(values) if not isinstance(value, str))
        raise DataError(
            f"Column `{column}` of the {part} part holds {values[row]!r} in row {row}, and a text "
            f"is expected ({len(values) - len(texts)} such rows in all); fill or drop these rows, "
            "or choose other columns with `inputs:`."
        )
    if not texts:
        raise DataError(f"The {part} part has no rows; give at least one.")
    return texts
