"""Batches as a pure function of (seed, epoch, index), from samples that lie on the device."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import final

import torch
from torch import Tensor

from potstill.data.augment import Augment
from potstill.data.curriculum import Pacing
from potstill.data.mix import Mix, Moment
from potstill.data.normalise import Normalise
from potstill.data.order import by_length, epoch_order
from potstill.data.samples import Samples
from potstill.errors import DataError, RecipeError
from potstill.runtime.texts import MASK, lengths_of
from potstill.signals import Batch, Origin

MULTIPLE = 8
"""Batches of texts are padded to a multiple of so many tokens."""

CACHE_LIMIT = 1 << 30
"""Bytes of normalised float32 inputs that a feed keeps, so that a batch is one look-up."""


@final
@dataclass(kw_only=True, eq=False)
class Feed:
    """The batches of every epoch, in an order that depends on nothing but the seed.

    Epoch e visits `torch.randperm(N, generator=Generator().manual_seed(1_000_003 * seed + e))` in
    consecutive slices, so a run can go on in the middle of an epoch. (The generator looks at the
    low 32 bits alone; seeds below 4,294 and epochs below a million have orders of their own.)
    Inputs are moved to the device once. With `augment`, epoch e shows view e + 1 of each sample;
    without it, view 0. Texts of like length share a batch (see `order.by_length`), which is cut to
    the longest of them.

    Args:
        samples: what to go through; unlabelled ones may be among them.
        batch_size: rows in a batch; the last one may be shorter. A single row that would be left
            over joins the batch before it, because batch norm cannot learn from one row.
        seed: 0 … 2³¹ - 1; names the order and the mixing (augmentation has its own seed).
        normalise: raw → model input. Images are augmented between its two halves, on [0, 1];
            tables and signals after it.
        augment: views of samples; `None` shows them as they are.
        mix: mixing of rows; `None` leaves them alone.
        device: where batches lie.
        num_classes: needed by `mix` to soften class numbers.
        shuffle: whether epochs have an order of their own.
        drop_last: leave out the last batch if it is shorter.
        views: with `augment`, how many views the epochs rotate through (epoch e shows view
            1 + e mod `views`), for teachers whose answers are stored; `None` for a fresh one each.
        pacing: which samples an epoch shows, or how much they count; all alike if left out.
        keep_raw: batches carry `raw`, the (augmented) inputs in the units of the data, for teachers
            with preprocessing of their own; images float32 in 0 … 255.

    Raises:
        DataError: nothing to go through.
        RecipeError: a batch size or seed out of range, or an op that does not fit the inputs.
    """

    samples: Samples
    batch_size: int
    seed: int
    normalise: Normalise
    augment: Augment | None = None
    mix: Mix | None = None
    device: torch.device | str = "cpu"
    num_classes: int = 0
    shuffle: bool = True
    drop_last: bool = False
    views: int | None = None
    keep_raw: bool = False
    pacing: Pacing | None = None
    _lengths: Tensor | None = field(init=False, repr=False, default=None)
    _longest: list[int] = field(init=False, repr=False, default_factory=list)
    _source: Samples = field(init=False, repr=False)
    _origin: Origin = field(init=False, repr=False)
    _ready: Tensor | None = field(init=False, repr=False, default=None)
    _order: tuple[int, Tensor] | None = field(init=False, repr=False, default=None)
    _ease: Tensor | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        self._check()
        moved = (
            None if t is None else t.to(self.device)
            for t in (
                self.samples.inputs,
                self.samples.ids,
                self.samples.labels,
                self.samples.labelled,
                self.samples.weights,
            )
        )
        inputs, ids, labels, labelled, weights = moved
        assert inputs is not None
        assert ids is not None
        self._source = Samples(inputs, ids, labels, labelled, weights)
        self._origin = Origin(
            self.samples.ids,
            _contents(self.samples),
            preparation=self.normalise.digest(),
            augment="" if self.augment is None else repr(self.augment),
            views=self.views,
        )
        self.normalise = self.normalise.to(self.device)
        if self.normalise.is_padded:
            self._lengths = lengths_of(self.samples.inputs)
            return
        if self.augment is None and inputs.numel() * 4 <= CACHE_LIMIT:
            self._ready = self.normalise(inputs)

    def __len__(self) -> int:
        return self.num_batches

    @property
    def num_batches(self) -> int:
        """How many batches an epoch has."""
        whole, rest = divmod(len(self.samples), self.batch_size)
        return whole if self.drop_last or not rest or (whole and rest == 1) else whole + 1

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from number `start` on."""
        for index in range(start, self.num_batches):
            yield self.batch(epoch, index)

    def batch(self, epoch: int, index: int) -> Batch:
        """One batch. The same arguments always give the same values.

        Args:
            epoch: from 0.
            index: 0 … `num_batches` - 1.

        Returns:
            inputs `[B, ...]` float32, normalised; labels as in the samples, or `[B, C]` float32
            under `mix`, which also leaves `ids` and `view` empty.
        """
        if not 0 <= index < self.num_batches:
            raise IndexError(f"batch {index} of an epoch that has {self.num_batches}")
        rows = self._permutation(epoch)[self._slice(index)]
        source, longest = self._source, None
        ids = source.ids.index_select(0, rows)
        view = torch.full_like(ids, self._view(epoch))
        raw: Tensor | None = None
        boxes: Tensor | None = None
        if self._boxed and self.augment is not None:
            inputs, raw, boxes = self._with_boxes(self.augment, rows, ids, view)
        elif self._lengths is None:
            inputs, raw = self._inputs(rows, ids, view)
        else:
            padded = source.inputs.index_select(0, rows)
            longest = self._longest[index]
            inputs, raw = self._trimmed(padded[:, :, :longest], ids, view)
        by_position = longest if self.normalise.tokens else None
        batch = Batch(
            inputs=inputs,
            labels=self._labels(rows, by_position) if boxes is None else boxes,
            labelled=None if source.labelled is None else source.labelled.index_select(0, rows),
            ids=ids,
            view=view,
            raw=raw,
            origin=self._origin,
            positions=inputs[:, MASK].bool() if self.normalise.tokens else None,
            weights=self._weights(rows),
        )
        if self.mix is None:
            return batch
        moment = Moment(self.seed, epoch, index)
        mixed = self.mix(batch, num_classes=self.num_classes, moment=moment)
        return replace(mixed, raw=self.normalise.inverse(mixed.inputs)) if self.keep_raw else mixed

    def _labels(self, rows: Tensor, longest: int | None) -> Tensor | None:
        """Of some rows; those of positions are cut as the inputs are."""
        if self._source.labels is None:
            return None
        labels = self._source.labels.index_select(0, rows)
        by_position = longest is not None and labels.ndim == 2 and labels.dtype == torch.int64
        return labels[:, :longest] if by_position else labels

    def _weights(self, rows: Tensor) -> Tensor | None:
        """How much some rows count, in the epoch whose order was drawn last."""
        weights = None if self._source.weights is None else self._source.weights[rows]
        if self._ease is None:
            return weights
        return self._ease[rows] if weights is None else self._ease[rows] * weights

    def _view(self, epoch: int) -> int:
        """Which view of its samples an epoch shows."""
        if self.augment is None:
            return 0
        return 1 + (epoch if self.views is None else epoch % self.views)

    def _slice(self, index: int) -> slice:
        start, stop = index * self.batch_size, (index + 1) * self.batch_size
        alone = not self.drop_last and stop == len(self.samples) - 1
        return slice(start, stop + alone)

    def _inputs(self, rows: Tensor, ids: Tensor, view: Tensor) -> tuple[Tensor, Tensor | None]:
        """Model inputs, and the raw ones if they are kept."""
        if self._ready is not None and not self.keep_raw:
            return self._ready.index_select(0, rows), None
        raw = self._source.inputs.index_select(0, rows)
        if self.augment is None:
            ready = None if self._ready is None else self._ready.index_select(0, rows)
            return self.normalise(raw) if ready is None else ready, raw.float()
        if raw.ndim == 4:
            unit = self.augment(self.normalise.unit(raw), ids=ids, view=view)
            return self.normalise.standard(unit), unit * self.normalise.scale
        inputs = self.augment(self.normalise(raw), ids=ids, view=view)
        return inputs, self.normalise.inverse(inputs)

    def _trimmed(self, planes: Tensor, ids: Tensor, view: Tensor) -> tuple[Tensor, Tensor | None]:
        """Model inputs of texts, or of sounds of unequal length, whose padding stays silent."""
        inputs = self.normalise(planes)
        if self.augment is not None:
            wave = self.augment(inputs[:, :MASK], ids=ids, view=view)
            inputs = torch.cat([wave * inputs[:, MASK:], inputs[:, MASK:]], dim=1)
        if self.normalise.tokens:
            return inputs, inputs if self.keep_raw else None
        return inputs, self.normalise.inverse(inputs) if self.keep_raw else None

    @property
    def _boxed(self) -> bool:
        """Whether labels are boxes, which move as the images do."""
        return self._source.labels is not None and self._source.labels.ndim == 3

    def _with_boxes(
        self, augment: Augment, rows: Tensor, ids: Tensor, view: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Augmented model inputs, the same raw, and the boxes in them."""
        labels = self._source.labels
        assert labels is not None
        unit = self.normalise.unit(self._source.inputs.index_select(0, rows))
        unit, boxes = augment.with_boxes(unit, labels.index_select(0, rows), ids=ids, view=view)
        return self.normalise.standard(unit), unit * self.normalise.scale, boxes

    def _permutation(self, epoch: int) -> Tensor:
        """`[N]` on the device; kept for the epoch that is under way."""
        key = epoch if self.shuffle else 0
        if self._order is None or self._order[0] != key:
            order = self._drawn_order(epoch)
            ease = None if self.pacing is None else self.pacing.weights(epoch)
            self._ease = None if ease is None else ease.to(self.device)
            self._order = (key, order.to(self.device))
            if self._lengths is not None:  # here, so that no batch waits for the device
                lengths = [self._lengths[order[self._slice(i)]] for i in range(self.num_batches)]
                self._longest = [-(-int(each.max()) // MULTIPLE) * MULTIPLE for each in lengths]
        return self._order[1]

    def _drawn_order(self, epoch: int) -> Tensor:
        if not self.shuffle:
            return torch.arange(len(self.samples))
        order = epoch_order(len(self.samples), seed=self.seed, epoch=epoch)
        if self.pacing is not None:
            order = self.pacing.order(order, epoch)
        if self._lengths is None:
            return order
        return by_length(
            order, self._lengths, batch_size=self.batch_size, seed=self.seed, epoch=epoch
        )

    def _check(self) -> None:
        if not len(self.samples):
            raise DataError("There are no samples to make batches of; give at least one row.")
        if self.batch_size < 1:
            raise RecipeError(f"`batch_size` must be 1 or more, got {self.batch_size}.")
        if not 0 <= self.seed < 1 << 31:
            raise RecipeError(f"`seed` must lie between 0 and 2147483647, got {self.seed}.")
        if self.views is not None and self.views < 1:
            raise RecipeError(f"`views` must be 1 or more, got {self.views}.")
        if self.drop_last and len(self.samples) < self.batch_size:
            raise RecipeError(
                f"`drop_last` with a batch size of {self.batch_size} drops all "
                f"{len(self.samples)} rows; use a smaller `batch_size`."
            )
        if self.normalise.tokens and (self.augment is not None or self.mix is not None):
            raise RecipeError(
                "Texts are neither augmented nor mixed yet; leave `augment` and `mix` out."
            )
        if self.normalise.masked and self.mix is not None:
            raise RecipeError(
                "Sounds of unequal length with what is said in them cannot be mixed; leave `mix` "
                "out."
            )
        if self.pacing is not None and len(self.pacing.rank_N) != len(self.samples):
            raise RecipeError(
                f"The curriculum ranks {len(self.pacing.rank_N)} samples, and there are "
                f"{len(self.samples)}; rank those that are learnt from."
            )
        if self.augment is not None:
            self.augment.check(self.samples.inputs)
        self._check_labels(self.samples.labels)

    def _check_labels(self, labels: Tensor | None) -> None:
        if labels is not None and labels.ndim == 3:
            if self.mix is not None:
                raise RecipeError("Pictures with boxes are not mixed; leave `mix` out.")
            if self.augment is not None:
                self.augment.check_boxes()
        if (
            self.mix is not None
            and self.num_classes < 1
            and labels is not None
            and labels.ndim == 1
        ):
            raise RecipeError(
                "Mixing class labels needs `num_classes`; give the number of classes."
            )


def _contents(samples: Samples) -> Tensor:
    """What makes a sample the same one: its inputs, and what is asked at its positions."""
    labels = samples.labels
    if labels is None or labels.ndim != 2 or labels.dtype != torch.int64:
        return samples.inputs
    if labels.shape[1] != samples.inputs.shape[2]:  # letters of sounds, which no teacher is asked
        return samples.inputs
    return torch.cat([samples.inputs, labels[:, None].to(samples.inputs.dtype)], dim=1)
