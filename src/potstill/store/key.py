"""What the answers in a store depend on, and the sentence that says which of it differs."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Self, final

from potstill.errors import StoreError
from potstill.protocols import LogitKind

_MEANINGS = {
    "teacher": "its teacher has other weights or preprocessing, or is run in another way",
    "precision": "its teacher answered in another precision",
    "kind": "its teacher gave another kind of answer",
    "preparation": "its samples were normalised otherwise",
    "augment": "its samples were augmented otherwise",
}


@final
@dataclass(frozen=True, kw_only=True)
class StoreKey:
    """All that a stored answer depends on, beside the sample itself.

    Args:
        teacher: the teacher's fingerprint: weights and preprocessing.
        precision: of the arithmetic around the teacher (`32-true`, `bf16-mixed`, …).
        kind: what its logits are; empty if it gives none.
        preparation: digest of how samples are normalised.
        augment: the ops and the seed of the views; empty for samples as they are.
    """

    teacher: str
    precision: str = "32-true"
    kind: str = LogitKind.RAW.value
    preparation: str = ""
    augment: str = ""

    def to_json(self) -> dict[str, str]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Self:
        """What `to_json` gave."""
        return cls(**{field.name: str(values[field.name]) for field in fields(cls)})

    def refuse_unless(self, wanted: Self, *, store: str) -> None:
        """Refuse a store that was written for something else.

        Raises:
            StoreError: naming each thing that differs, with both values.
        """
        found = list(self._differences(wanted))
        if found:
            raise StoreError(
                f"The store {store} is not the one asked for: {'; '.join(found)}. "
                "Label again into another folder, or delete this one."
            )

    def _differences(self, wanted: Self) -> Iterator[str]:
        for name, meaning in _MEANINGS.items():
            mine, theirs = getattr(self, name), getattr(wanted, name)
            if mine != theirs:
                yield f"{meaning} ({_short(mine)}, asked for {_short(theirs)})"


def _short(text: str) -> str:
    """A digest by its first letters, other texts whole, nothing as `none`."""
    digest = len(text) >= 32 and all(letter in "0123456789abcdef" for letter in text)
    return f"{text[:12]}…" if digest else text or "none"
