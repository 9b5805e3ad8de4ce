"""`manifest.json`: what a store holds, in which shards, under a checksum of its own."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self, cast, final

from potstill.errors import StoreError
from potstill.runtime.files import FORMAT
from potstill.store.codec import Codec, Option
from potstill.store.codecs import make_codec
from potstill.store.key import StoreKey

NAME = "manifest.json"
KIND = "store"


@final
@dataclass(frozen=True, kw_only=True)
class StoredSignal:
    """One signal of every record.

    Args:
        name: `logits`, `embedding`, or `features/<layer>`.
        codec: how its rows are written.
        row_shape: of one row; `None` until the first one is written.
    """

    name: str
    codec: Codec
    row_shape: tuple[int, ...] | None = None

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "name": self.name,
            "codec": self.codec.name,
            "options": dict(self.codec.options()),
            "row_shape": None if self.row_shape is None else list(self.row_shape),
            "error_bound": self.codec.error_bound(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Self:
        """What `to_json` gave."""
        shape = cast("Sequence[int] | None", values["row_shape"])
        options = cast("Mapping[str, Option]", values["options"])
        return cls(
            name=str(values["name"]),
            codec=make_codec(str(values["codec"]), options),
            row_shape=None if shape is None else tuple(shape),
        )


@final
@dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """A shard, as the manifest knows it.

    Args:
        name: of the file.
        records: how many it holds.
        data_bytes: how much of it is data; the index follows.
        bytes: of the whole file.
        index_digest: BLAKE2b of the index, which holds the checksums of the data.
    """

    name: str
    records: int
    data_bytes: int
    bytes: int
    index_digest: str


@final
@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a store is of and what it holds."""

    key: StoreKey
    signals: tuple[StoredSignal, ...]
    shards: tuple[ShardEntry, ...] = ()
    made_with: Mapping[str, object] = field(default_factory=dict)

    @property
    def records(self) -> int:
        """How many (sample, view) pairs are there."""
        return sum(shard.records for shard in self.shards)

    @property
    def num_bytes(self) -> int:
        """Of all shards."""
        return sum(shard.bytes for shard in self.shards)

    def signal(self, name: str) -> StoredSignal | None:
        """A signal by name, if it is there."""
        return next((s for s in self.signals if s.name == name), None)

    def dump(self) -> bytes:
        """The file: indented JSON, its last key the digest of the rest."""
        content: dict[str, object] = {
            "format": FORMAT,
            "kind": KIND,
            "key": self.key.to_json(),
            "signals": [signal.to_json() for signal in self.signals],
            "shards": [asdict(shard) for shard in self.shards],
            "made_with": dict(self.made_with),
        }
        return _text({**content, "checksum": _digest(content)})

    @classmethod
    def load(cls, text: bytes, *, store: str) -> Self:
        """Read the file, every byte of it checked.

        Raises:
            StoreError: it is damaged, of a newer format, or no manifest.
        """
        content = _parsed(text, store)
        try:
            return cls(
                key=StoreKey.from_json(content["key"]),
                signals=tuple(StoredSignal.from_json(s) for s in content["signals"]),
                shards=tuple(ShardEntry(**entry) for entry in content["shards"]),
                made_with=content["made_with"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"The manifest of {store} has not the keys of a store's ({error}). "
                "Give the folder that `potstill label` wrote."
            ) from error


def _parsed(text: bytes, store: str) -> dict[str, Any]:
    damaged = StoreError(
        f"The manifest of {store} is damaged: its checksum does not fit. "
        "Delete the store and run `potstill label` again."
    )
    try:
        content = json.loads(text)
    except ValueError:
        raise damaged from None
    if not isinstance(content, dict):
        raise damaged
    checksum = content.pop("checksum", None)
    # written again it must be the same bytes, so that no bit of the file is unchecked
    if checksum != _digest(content) or _text({**content, "checksum": checksum}) != text:
        raise damaged
    if content.get("format") != FORMAT or content.get("kind") != KIND:
        raise StoreError(
            f"{store} is a {content.get('kind')!r} of format {content.get('format')!r}; this "
            f"version of Potstill reads stores of format {FORMAT}. Update Potstill, or label again."
        )
    return content


def _text(content: Mapping[str, object]) -> bytes:
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def _digest(content: Mapping[str, object]) -> str:
    return hashlib.blake2b(_text(content), digest_size=16).hexdigest()
