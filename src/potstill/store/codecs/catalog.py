"""The codecs by name, Potstill's own and those that others add."""

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import TypeVar

from potstill.errors import StoreError
from potstill.store.codec import Codec, Option
from potstill.store.codecs.floats import DenseLogits, FloatTensor
from potstill.store.codecs.int8 import Int8Tensor
from potstill.store.codecs.sampled import Sampled
from potstill.store.codecs.top import TopK
from potstill.store.codecs.vocabulary import Vocabulary

_C = TypeVar("_C", bound=Codec)

ENTRY_POINTS = "potstill.codecs"
_CODECS: dict[str, type[Codec]] = {
    codec.name: codec for codec in (DenseLogits, TopK, Vocabulary, Sampled, FloatTensor, Int8Tensor)
}


def register(codec: type[_C]) -> type[_C]:
    """Add a codec class under its `name`; as a decorator or a call.

    Packages need no call: an entry point of the group "potstill.codecs" is found by its name.

    Raises:
        StoreError: the name belongs to another codec.
    """
    if _CODECS.setdefault(codec.name, codec) is not codec:
        raise StoreError(
            f"There is a codec `{codec.name}` already; give `{codec.__name__}` another name."
        )
    return codec


def codec_names() -> tuple[str, ...]:
    """All that can be made, in the order they were added."""
    others = entry_points(group=ENTRY_POINTS).names - _CODECS.keys()
    return (*_CODECS, *sorted(others))


def make_codec(name: str, options: Mapping[str, Option] | None = None) -> Codec:
    """The codec of that name with these options; what is left out keeps its default.

    Equivalent to `Vocabulary(**options)` for "vocabulary", with a sentence for each mistake.

    Raises:
        StoreError: no such codec, no such option, or a value that it refuses.
    """
    codec = _codec_class(name)
    known = [option.name for option in fields(codec) if option.init]  # type: ignore[arg-type]
    for given in options or {}:
        if given not in known:
            raise StoreError(
                f"The codec `{name}` has no option `{given}`;{_nearest(given, known)} "
                f"its options: {', '.join(known) or 'none'}."
            )
    try:
        return codec(**(options or {}))
    except TypeError as error:
        raise StoreError(
            f"The codec `{name}` cannot be made of {dict(options or {})}; check the types."
        ) from error


def _codec_class(name: str) -> type[Codec]:
    if name in _CODECS:
        return _CODECS[name]
    found = entry_points(group=ENTRY_POINTS, name=name)
    for point in found:
        return register(point.load())
    known = list(codec_names())
    raise StoreError(
        f"There is no codec `{name}`;{_nearest(name, known)} known: {', '.join(known)}."
    )


def _nearest(given: str, known: list[str]) -> str:
    close = get_close_matches(given, known, n=1)
    return f" did you mean `{close[0]}`?" if close else ""
