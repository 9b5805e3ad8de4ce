"""What a store holds, in figures for people and machines."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

import numpy as np

from potstill.store.codec import Option
from potstill.store.reader import Store


@final
@dataclass(frozen=True, kw_only=True)
class SignalFigures:
    """One signal: how it is written, and what that costs.

    Args:
        name: `logits`, `embedding`, or `features/<layer>`.
        codec: its name.
        options: of the codec.
        row_shape: of one row; `None` in an empty store.
        bytes_per_row: as the codec states it; `None` in an empty store.
        error_bound: as the codec states it.
    """

    name: str
    codec: str
    options: Mapping[str, Option]
    row_shape: tuple[int, ...] | None
    bytes_per_row: float | None
    error_bound: str


@final
@dataclass(frozen=True, kw_only=True)
class Figures:
    """A whole store.

    Args:
        where: the folder or address.
        records: answers: samples times views.
        samples: how many different ones.
        views: samples by view.
        shards: how many files.
        bytes: of all shards.
        key: what the answers depend on.
        signals: what is stored of each answer.
        made_with: versions of the libraries that began it.
    """

    where: str
    records: int
    samples: int
    views: Mapping[int, int]
    shards: int
    bytes: int
    key: Mapping[str, str]
    signals: tuple[SignalFigures, ...]
    made_with: Mapping[str, object]

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)


def inspect(where: Path | str) -> Figures:
    """Count what a store holds, from its manifest and indexes.

    Raises:
        StoreError: there is no store, or it is damaged.
    """
    store = Store(where)
    manifest = store.manifest
    views, counts = np.unique(store.views_N, return_counts=True)
    return Figures(
        where=store.name,
        records=len(store),
        samples=store.table.num_samples,
        views=dict(zip(views.tolist(), counts.tolist(), strict=True)),
        shards=len(manifest.shards),
        bytes=manifest.num_bytes,
        key=manifest.key.to_json(),
        signals=tuple(
            SignalFigures(
                name=signal.name,
                codec=signal.codec.name,
                options=dict(signal.codec.options()),
                row_shape=signal.row_shape,
                bytes_per_row=(
                    None
                    if signal.row_shape is None
                    else signal.codec.bytes_per_row(signal.row_shape)
                ),
                error_bound=signal.codec.error_bound(),
            )
            for signal in manifest.signals
        ),
        made_with=manifest.made_with,
    )
