"""Pairs of sentences with a similarity that people gave them, as STS benchmarks have them.

Shapes: N pairs, P planes, L positions.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from potstill.data.options import JSON, Options, nearest
from potstill.data.samples import Samples
from potstill.data.sources.hf import read_tables
from potstill.data.tokens import DEFAULT_LENGTH, Tokens
from potstill.errors import DataError

_READ = ("path", "files", "splits", "config", "revision", "separator", "headerless")
_OPTIONS = (*_READ, "columns", "gold")
_COLUMNS = ("sentence1", "sentence2")


@final
@dataclass(frozen=True, kw_only=True)
class GoldPairs:
    """Pairs and their gold similarities; never learnt from.

    Args:
        name: of the file or data set.
        digest: of the contents.
        texts: 2N samples, the first sentences and then the second ones.
        gold_N: float64, on any scale.
    """

    name: str
    digest: str
    texts: Samples = field(repr=False, compare=False)
    gold_N: Tensor = field(repr=False, compare=False)


def read_gold_pairs(
    values: Mapping[str, JSON], tokens: Tokens, *, max_length: int = DEFAULT_LENGTH
) -> GoldPairs:
    """Pairs from csv, tsv, json, jsonl or parquet, or a hub id.

    Args:
        values: `path` or `files: {test: …}`; `columns` (sentence1 and sentence2) and `gold` (score)
            name the columns; `separator` and `headerless` are as in data source `hf`. The test part
            is read, or the only one.
        tokens: who makes tokens of texts.
        max_length: tokens a sentence at most.

    Raises:
        RecipeError: an unknown option.
        DataError: no such file or column, cells that are no text or no number, or gold values
            that are all the same.
    """
    options = Options(values, known=_OPTIONS, owner="`measure.pairs`")
    files = options.mapping("files")
    if files and "train" not in files:  # a part called so is what the readers ask for
        values = {**values, "files": {"train": next(iter(files.values()))}}
        options = Options(values, known=_OPTIONS, owner="`measure.pairs`")
    read = {key: value for key, value in values.items() if key in _READ}
    name, parts = read_tables(Options(read, known=_READ, owner="`measure.pairs`"))
    table = parts.get("test", parts["train"])
    columns = options.texts("columns") or _COLUMNS
    if len(columns) != 2:
        raise DataError(
            f"`measure.pairs.columns` names {len(columns)} columns; two are a pair of sentences."
        )
    first, second = (_texts(table, column) for column in columns)
    gold = _numbers(table, options.text("gold") or "score")
    planes, _ = tokens.planes([*first, *second], None, max_length=max_length)
    ids = torch.arange(len(planes))
    texts = Samples(torch.from_numpy(planes), ids, torch.zeros(len(planes), 1))
    content = repr((first, second, gold)).encode()
    digest = hashlib.sha256(content + planes.tobytes()).hexdigest()
    return GoldPairs(
        name=name, digest=digest, texts=texts, gold_N=torch.tensor(gold, dtype=torch.float64)
    )


def _column(table: Mapping[str, Sequence[object]], name: str) -> Sequence[object]:
    if name not in table:
        raise DataError(f"The pairs have no column `{name}`; {nearest(name, table)}")
    return table[name]


def _texts(table: Mapping[str, Sequence[object]], name: str) -> list[str]:
    values = _column(table, name)
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) < len(values):
        row = next(row for row, value in enumerate(values) if not isinstance(value, str))
        raise DataError(
            f"Column `{name}` of the pairs holds {values[row]!r:.60} in row {row}, and a text is "
            "expected; drop such rows, or name another column with `columns`."
        )
    return texts


def _numbers(table: Mapping[str, Sequence[object]], name: str) -> list[float]:
    values = _column(table, name)
    for row, value in enumerate(values):
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise DataError(
                f"Column `{name}` of the pairs holds {value!r:.60} in row {row}, and a number is "
                "expected; drop such rows, or name another column with `gold`."
            )
    numbers = [float(str(value)) for value in values]
    if len(set(numbers)) < 2:
        raise DataError(
            f"The similarities in column `{name}` of the pairs are all the same, so nothing can be "
            "ranked by them; name another column with `gold`."
        )
    return numbers
