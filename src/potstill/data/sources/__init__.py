"""Where data come from. `load` is the one entry; each source is a module with `OPTIONS`, `read`."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from potstill.data.assembly import FORM_OPTIONS, Form, Raw, Sizes, assemble
from potstill.data.options import JSON, Options, nearest
from potstill.data.samples import DataSet, TargetKind
from potstill.data.sources import audio, builtin, coco, hf, npz, pairs, python, text, voc
from potstill.data.sources.request import Request
from potstill.errors import RecipeError


class Source(NamedTuple):
    """A way to read data, and the options that it knows besides the shared ones."""

    read: Callable[[Request], Raw]
    options: frozenset[str]


SOURCES: dict[str, Source] = {
    "audio": Source(audio.read, audio.OPTIONS),
    "builtin": Source(builtin.read, builtin.OPTIONS),
    "coco": Source(coco.read, coco.OPTIONS),
    "hf": Source(hf.read, hf.OPTIONS),
    "npz": Source(npz.read, npz.OPTIONS),
    "pairs": Source(pairs.read, pairs.OPTIONS),
    "python": Source(python.read, python.OPTIONS),
    "text": Source(text.read, text.OPTIONS),
    "voc": Source(voc.read, voc.OPTIONS),
}


def load(
    source: str,
    options: Mapping[str, JSON],
    *,
    target_kind: TargetKind | str | None = None,
    validation: float = 0.1,
    test: float | None = None,
    seed: int = 0,
    limit: int | None = None,
    trust: bool = False,
) -> DataSet:
    """Read a data set into memory, check it, and divide it.

    Shared options: `kind` (image, table, signal, text, audio), `layout` (nchw, nhwc, ncl, nlc),
    `resize` (images), `normalise` (standard, none), `classes`, `features`, `remap`. A validation
    or test part that the source has is used as it is; one that is missing is cut off.

    Args:
        source: `audio`, `builtin`, `npz`, `hf`, `pairs`, `text`, `coco`, `voc` or `python`; see the
            modules for their options.
        options: plain values.
        target_kind: what the task predicts; `None` decides by the labels.
        validation: share (0.1) or number (500) of training rows to cut off for selection.
        test: the same for the test part, of all rows; `None` is 0.25.
        seed: the only source of chance in dividing.
        limit: at most this many rows each of training with validation, test and transfer.
        trust: let code that the options name run.

    Raises:
        RecipeError: an unknown source or option, or a value of the wrong type.
        DataError: the data are missing or cannot be used; the sentence says where and why.
        UntrustedCode: source `python` without `trust`.
    """
    if source not in SOURCES:
        raise RecipeError(f"There is no data source `{source}`; {nearest(source, SOURCES)}")
    reader = SOURCES[source]
    checked = Options(options, known=reader.options | FORM_OPTIONS, owner=f"data source `{source}`")
    kind = None if target_kind is None else TargetKind(target_kind)
    form = Form.parse(checked)
    raw = reader.read(Request(options=checked, form=form, target_kind=kind, trust=trust))
    sizes = Sizes(validation=validation, test=test, seed=seed, limit=limit)
    return assemble(raw, form=form, sizes=sizes, target_kind=kind)
