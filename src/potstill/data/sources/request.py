"""What a source is asked for."""

from dataclasses import dataclass
from typing import final

from potstill.data.assembly import Form
from potstill.data.options import Options
from potstill.data.samples import TargetKind


@final
@dataclass(frozen=True, kw_only=True)
class Request:
    """The user's words to a source, read.

    Args:
        options: the source's own options.
        form: the options that all sources share.
        target_kind: what the task predicts, if it is known.
        trust: whether code that the options name may run.
    """

    options: Options
    form: Form
    target_kind: TargetKind | None = None
    trust: bool = False
