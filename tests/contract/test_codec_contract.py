"""Potstill's own codecs under the contract that third parties subclass, and broken ones."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from potstill.errors import StoreError
from potstill.store.codec import Codec, Encoded
from potstill.store.codecs import (
    DenseLogits,
    FloatTensor,
    Int8Tensor,
    Sampled,
    TopK,
    Vocabulary,
)
from potstill.testing import CodecContract

from ..unit.store.codecs.bounds import check_bound

_OWN = [
    *(DenseLogits(dtype) for dtype in ("fp32", "bf16", "fp16")),
    *(FloatTensor(dtype) for dtype in ("fp32", "bf16", "fp16")),
    Int8Tensor(), Int8Tensor(block=1), Int8Tensor(block=7), Int8Tensor(block=20),
    TopK(), TopK(k=5, temperature=4), TopK(k=5, logprobs="8bit"), TopK(k=1), TopK(k=1000),
    Vocabulary(), Vocabulary(min_k=1, max_k=256, top_p=1), Vocabulary(min_k=1, max_k=1),
    Vocabulary(min_k=2, max_k=9, top_p=0.5, temperature=3),
    Sampled(), Sampled(draws=1), Sampled(draws=17, seed=3), Sampled(draws=300, temperature=2),
    Sampled(tau=0.7), Sampled(draws=9, tau=1.5, temperature=2),
]  # fmt: skip


class TestOwnCodecs(CodecContract):
    @pytest.fixture(autouse=True, params=_OWN, ids=repr)
    def _choose(self, request) -> None:
        self._codec = request.param

    def make(self):
        return self._codec

    def check(self, values, decoded):
        check_bound(self._codec, values, decoded)

    def row_shapes(self):
        more = [(257,), (16_500,)] if self._codec.signal == "logits" else [(64,), (2, 5, 3)]
        return [*super().row_shapes(), *more]


# A codec of 16 bits with one mistake at a time.


@dataclass(frozen=True)
class _Sound(Codec):
    name: ClassVar[str] = "sound"
    signal: ClassVar[str] = "tensor"
    most: float = 1e5
    steps: int = 32767

    def options(self):
        return {"most": self.most, "steps": self.steps}

    def encode(self, values, *, keys_N):
        if not torch.isfinite(values).all():
            raise StoreError("Not finite.")
        whole = self._whole(values.detach().double()).numpy().astype("<i2")
        data = np.ascontiguousarray(whole).reshape(-1).view(np.uint8)
        size = 2 * values[:0].numel() or 2 * int(np.prod(values.shape[1:]))
        return Encoded(data, np.arange(len(values) + 1, dtype=np.int64) * size)

    def _whole(self, values):
        return (values / self.most * self.steps).round()

    def decode(self, rows, *, row_shape):
        size = 2 * int(np.prod(row_shape))
        if (np.diff(rows.offsets) != size).any() or rows.offsets[0] < 0:
            raise StoreError("Sizes.")
        if rows.offsets[-1] > len(rows.data):
            raise StoreError("Too short.")
        data = rows.data[rows.offsets[0] : rows.offsets[-1]].copy().view("<i2")
        values = torch.from_numpy(data.astype(np.float32)) / self.steps * self.most
        return values.reshape(len(rows), *row_shape)

    def bytes_per_row(self, row_shape):
        return 2.0 * float(np.prod(row_shape))

    def error_bound(self):
        return f"Half of a step of {self.most} / {self.steps}."


class _SoundContract(CodecContract):
    def __init__(self, codec) -> None:
        self._codec = codec

    def make(self):
        return self._codec() if isinstance(self._codec, type) else self._codec

    def check(self, values, decoded):
        step = self.make().most / 32767
        assert (values.double() - decoded.double()).abs().max() <= 0.51 * step


def _tests() -> list[str]:
    return [name for name in dir(CodecContract) if name.startswith("test_")]


@pytest.mark.parametrize("test", _tests())
def test_a_sound_codec_of_a_third_party_passes(test: str) -> None:
    getattr(_SoundContract(_Sound), test)()


class _Coarse(_Sound):
    def _whole(self, values):
        return super()._whole(values).div(4).round() * 4


class _ForgetsAnOption(_Sound):
    def options(self):
        return {"steps": self.steps}


class _OptionsNotPlain(_Sound):
    def options(self):
        return {"most": torch.tensor(self.most), "steps": self.steps}


class _NoBound(_Sound):
    def error_bound(self):
        return "Small."


class _LooksAtNeighbours(_Sound):
    def _whole(self, values):
        return super()._whole(values) + (values.mean() > 0)


class _GlobalNoise(_Sound):
    def _whole(self, values):
        torch.rand(1)
        return super()._whole(values)


class _NumpyNoise(_Sound):
    def _whole(self, values):
        np.random.rand()
        return super()._whole(values)


class _Counts(_Sound):
    calls: ClassVar[list[int]] = []

    def _whole(self, values):
        self.calls.append(1)
        return super()._whole(values) + len(self.calls) % 2


class _WritesToTheValues(_Sound):
    def encode(self, values, *, keys_N):
        encoded = super().encode(values, keys_N=keys_N)
        values.detach().zero_()
        return encoded


class _StoresNaN(_Sound):
    def encode(self, values, *, keys_N):
        return super().encode(values.detach().nan_to_num(0), keys_N=keys_N)


class _CrashesOnShortRows(_Sound):
    def decode(self, rows, *, row_shape):
        data = rows.data[rows.offsets[0] : rows.offsets[-1]].copy().view("<i2")
        values = torch.from_numpy(data.astype(np.float32)) / self.steps * self.most
        return values.reshape(len(rows), *row_shape)


class _ReadsFromTheStart(_Sound):
    def decode(self, rows, *, row_shape):
        moved = Encoded(rows.data, rows.offsets - rows.offsets[0])
        return super().decode(moved, row_shape=row_shape)


class _GivesDoubles(_Sound):
    def decode(self, rows, *, row_shape):
        return super().decode(rows, row_shape=row_shape).double()


class _GivesAView(_Sound):
    steps: int = 32767

    def decode(self, rows, *, row_shape):
        super().decode(rows, row_shape=row_shape)
        data = rows.data[rows.offsets[0] : rows.offsets[-1]]
        data.view("<i2")[...] = 0
        return torch.zeros(len(rows), *row_shape)


class _Understates(_Sound):
    def bytes_per_row(self, row_shape):
        return super().bytes_per_row(row_shape) - 1


class _Overstates(_Sound):
    def bytes_per_row(self, row_shape):
        return 3 * super().bytes_per_row(row_shape)


class _DropsTheShape(_Sound):
    def decode(self, rows, *, row_shape):
        return super().decode(rows, row_shape=row_shape).flatten(1)


class _AsksForOneRow(_Sound):
    def encode(self, values, *, keys_N):
        assert len(values) > 0
        return super().encode(values, keys_N=keys_N)


_BROKEN = [
    (_Coarse, "test_what_comes_back_lies_within_the_stated_error"),
    (_ForgetsAnOption(most=2e5), "test_options_make_the_codec_again"),
    (_OptionsNotPlain, "test_options_make_the_codec_again"),
    (_NoBound, "test_it_says_what_it_is"),
    (_LooksAtNeighbours, "test_a_row_is_encoded_alike_in_every_batch"),
    (_Counts, "test_a_row_is_encoded_alike_in_every_batch"),
    (_GlobalNoise, "test_encoding_leaves_no_trace"),
    (_NumpyNoise, "test_encoding_leaves_no_trace"),
    (_WritesToTheValues, "test_encoding_leaves_no_trace"),
    (_StoresNaN, "test_values_that_are_no_numbers_are_refused"),
    (_CrashesOnShortRows, "test_rows_of_another_length_are_refused"),
    (_ReadsFromTheStart, "test_rows_can_be_read_one_by_one"),
    (_GivesDoubles, "test_what_comes_back_lies_within_the_stated_error"),
    (_GivesAView, "test_stored_bytes_are_not_changed_by_reading"),
    (_Understates, "test_rows_are_no_larger_than_stated"),
    (_Overstates, "test_rows_are_no_larger_than_stated"),
    (_DropsTheShape, "test_extreme_rows_come_back_too"),
    (_AsksForOneRow, "test_no_rows_are_no_bytes"),
]


@pytest.mark.parametrize(("codec", "test"), _BROKEN, ids=lambda x: getattr(x, "__name__", str(x)))
def test_a_broken_codec_fails_the_contract(codec, test: str) -> None:
    with pytest.raises((AssertionError, ValueError, TypeError)):
        getattr(_SoundContract(codec), test)()


class _SparseBroken(Codec):
    """`topk` with something done to what it decodes."""

    name: ClassVar[str] = "broken"
    signal: ClassVar[str] = "logits"
    sparse: ClassVar[bool] = True

    def __init__(self, change) -> None:
        self._change, self._codec = change, TopK(k=4, logprobs="8bit")

    def options(self):
        return {}

    def encode(self, values, *, keys_N):
        return self._codec.encode(values, keys_N=keys_N)

    def decode(self, rows, *, row_shape):
        return self._change(self._codec.decode(rows, row_shape=row_shape))

    def bytes_per_row(self, row_shape):
        return self._codec.bytes_per_row(row_shape)

    def error_bound(self):
        return self._codec.error_bound()


def _replaced(**changes):
    from dataclasses import replace

    return lambda s: replace(s, **{name: change(s) for name, change in changes.items()})


@pytest.mark.parametrize(
    "change",
    [
        _replaced(tail_N=lambda s: torch.zeros_like(s.tail_N)),  # the mass does not make 1
        _replaced(ids_NK=lambda s: s.ids_NK.int()),  # ids of another type
        _replaced(ids_NK=lambda s: s.ids_NK * 0),  # one class many times
        _replaced(ids_NK=lambda s: s.ids_NK + 290),  # classes that do not exist
        _replaced(num_classes=lambda s: 5),  # another number of classes
        lambda s: s.logprobs_NK,  # not what `sparse` says
    ],
)
def test_a_broken_sparse_codec_fails_the_contract(change) -> None:
    with pytest.raises(AssertionError):
        _SoundContract(_SparseBroken(change)).test_what_comes_back_lies_within_the_stated_error()


class _TrustsItsBytes(_SparseBroken):
    """Reads ids without looking whether there are such classes."""

    def decode(self, rows, *, row_shape):
        some = self._codec.encode(torch.zeros(len(rows), *row_shape), keys_N=torch.arange(1))
        decoded = self._codec.decode(some, row_shape=row_shape)
        decoded.ids_NK[:, 0] = torch.from_numpy(rows.data[rows.offsets[:-1] + 6].astype(np.int64))
        return decoded


def test_a_codec_that_trusts_its_bytes_fails_the_contract() -> None:
    with pytest.raises(AssertionError):
        _SoundContract(_TrustsItsBytes(None)).test_damaged_bytes_are_refused_or_harmless()
