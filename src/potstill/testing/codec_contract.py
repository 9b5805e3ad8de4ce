"""What every codec of the store must hold. Subclass it and say how yours is made."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from potstill.errors import StoreError
from potstill.signals import SparseLogits
from potstill.store.codec import Codec, Encoded

_FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


class CodecContract(ABC):
    """For codecs of logits and of tensors, with rows of equal or of different sizes."""

    @abstractmethod
    def make(self) -> Codec:
        """The codec; equal ones at every call."""

    @abstractmethod
    def check(self, values: Tensor, decoded: Tensor | SparseLogits) -> None:
        """Assert what `error_bound` says of encoded values and what came back."""

    def row_shapes(self) -> Sequence[tuple[int, ...]]:
        """Some shapes of a row that the codec takes; the first one is used most."""
        return [(300,), (7,), (1,)] if self.make().signal == "logits" else [(3, 4, 5), (9,), (1,)]

    def rows(self, shape: tuple[int, ...], *, num_rows: int = 9, seed: int = 0) -> Tensor:
        """Ordinary rows, float32, on the scale of logits."""
        return 3 * torch.randn(num_rows, *shape, generator=torch.Generator().manual_seed(seed))

    def _encode(self, values: Tensor, keys: Tensor | None = None) -> Encoded:
        keys = torch.arange(len(values)) if keys is None else keys
        return self.make().encode(values, keys_N=keys)

    def _example(self) -> tuple[tuple[int, ...], Tensor, Encoded]:
        shape = self.row_shapes()[0]
        values = self.rows(shape)
        return shape, values, self._encode(values)

    def test_options_make_the_codec_again(self) -> None:
        """They are plain values that survive JSON."""
        codec = self.make()
        options = json.loads(json.dumps(dict(codec.options())))
        again = type(codec)(**options)
        assert again == codec, "an option is missing or changed"
        _, values, encoded = self._example()
        assert _bytes(again.encode(values, keys_N=torch.arange(len(values)))) == _bytes(encoded)

    def test_it_says_what_it_is(self) -> None:
        """A name for recipes, a known signal, an error bound with numbers."""
        codec = self.make()
        assert codec.name == codec.name.lower()
        assert codec.name
        assert codec.signal in {"logits", "tensor"}
        bound = codec.error_bound()
        assert "exact" in bound or any(letter.isdigit() for letter in bound), "state the bound"

    def test_what_comes_back_lies_within_the_stated_error(self) -> None:
        """For every shape and dtype, also for tensors that are views or carry gradient."""
        codec = self.make()
        for shape in self.row_shapes():
            for dtype in _FLOATS:
                values = self.rows(shape).to(dtype)
                every_other = values.repeat_interleave(2, dim=0)[::2].requires_grad_()
                decoded = codec.decode(self._encode(every_other), row_shape=shape)
                _check_form(codec, decoded, len(values), shape)
                self.check(values, decoded)

    def test_extreme_rows_come_back_too(self) -> None:
        """Constant, huge and tiny values; for logits certain teachers and classes ruled out."""
        codec = self.make()
        for shape in self.row_shapes():
            extreme = [torch.zeros(shape), torch.full(shape, -7.5), 1e3 * self.rows(shape)[0]]
            extreme.append(1e-30 * self.rows(shape)[0])
            if codec.signal == "logits":
                certain = torch.full(shape, -torch.inf)
                certain[-1] = 2.0
                some = self.rows(shape)[0].clone()
                some[1::2] = -torch.inf
                extreme += [certain, some]
            values = torch.stack(extreme)
            decoded = codec.decode(self._encode(values), row_shape=shape)
            _check_form(codec, decoded, len(values), shape)
            self.check(values, decoded)

    def test_no_rows_are_no_bytes(self) -> None:
        """An empty batch comes back empty."""
        for shape in self.row_shapes():
            encoded = self._encode(torch.empty(0, *shape))
            assert len(encoded) == 0
            assert encoded.data.size == 0
            decoded = self.make().decode(encoded, row_shape=shape)
            _check_form(self.make(), decoded, 0, shape)

    def test_a_row_is_encoded_alike_in_every_batch(self) -> None:
        """Its bytes follow from the row and its key, whatever else there is and was."""
        for shape in self.row_shapes():
            values = self.rows(shape)
            keys = 1000 * torch.arange(len(values)) - 3
            whole = _bytes(self._encode(values, keys))
            order = torch.tensor([4, 0, 8, 2])
            assert _bytes(self._encode(values[order], keys[order])) == [whole[i] for i in order]
            alone = [_bytes(self._encode(values[i : i + 1], keys[i : i + 1])) for i in range(9)]
            assert [row for rows in alone for row in rows] == whole

    def test_encoding_leaves_no_trace(self) -> None:
        """Neither the values nor the random states of torch and numpy are touched."""
        values = self.rows(self.row_shapes()[0])
        before, torch_state = values.clone(), torch.get_rng_state()
        numpy_state = repr(np.random.get_state(legacy=False))
        self._encode(values)
        assert torch.equal(values, before)
        assert torch.equal(torch.get_rng_state(), torch_state)
        assert repr(np.random.get_state(legacy=False)) == numpy_state

    def test_rows_can_be_read_one_by_one(self) -> None:
        """Any selection decodes to what it decodes to among all, from any place in the data."""
        codec = self.make()
        shape, _, encoded = self._example()
        whole = codec.decode(encoded, row_shape=shape)
        rows = _bytes(encoded)
        for chosen in ([3], [8, 1, 1], list(range(9))):
            part = codec.decode(_joined([rows[i] for i in chosen], lead=5), row_shape=shape)
            _check_equal(part, whole, chosen)

    def test_stored_bytes_are_not_changed_by_reading(self) -> None:
        """They may lie in a read-only memory map, and the result is the reader's own."""
        shape, _, encoded = self._example()
        before = encoded.data.copy()
        encoded.data.flags.writeable = False
        decoded = self.make().decode(encoded, row_shape=shape)
        mine = decoded.logprobs_NK if isinstance(decoded, SparseLogits) else decoded
        mine += 1
        assert np.array_equal(encoded.data, before)

    def test_rows_are_no_larger_than_stated(self) -> None:
        """`bytes_per_row` is the size of equal rows, and at least the mean of others."""
        codec = self.make()
        for shape in self.row_shapes():
            rows = torch.cat([self.rows(shape), torch.zeros(3, *shape), 9 * self.rows(shape)])
            sizes = np.diff(self._encode(rows).offsets)
            stated = codec.bytes_per_row(shape)
            assert sizes.mean() <= stated
            assert len(set(sizes.tolist())) > 1 or sizes[0] > 0.5 * stated

    def test_values_that_are_no_numbers_are_refused(self) -> None:
        """NaN and inf anywhere are a `StoreError` in a sentence."""
        for shape in self.row_shapes():
            for bad in (torch.nan, torch.inf):
                values = self.rows(shape)
                values[-1].view(-1)[-1] = bad
                _refused(lambda: self._encode(values), f"a row with {bad}")  # noqa: B023
        if self.make().signal == "logits":
            nothing = torch.full((2, *self.row_shapes()[0]), -torch.inf)
            _refused(lambda: self._encode(nothing), "a row that rules out every class")

    def test_rows_of_another_length_are_refused(self) -> None:
        """Cut short, lengthened, empty, or with offsets that go astray."""
        codec = self.make()
        shape, _, encoded = self._example()
        rows = _bytes(encoded)
        for wrong in (rows[2][:-1], rows[2] + b"\0", rows[2] + b"\1", b"", rows[2][:1]):
            damaged = _joined([*rows[:2], wrong, *rows[3:]])
            _refused(lambda: codec.decode(damaged, row_shape=shape), f"{wrong[:8]!r}…")  # noqa: B023
        for change in (1, -encoded.offsets[4] - 1, len(encoded.data) + 1):
            offsets = encoded.offsets.copy()
            offsets[4] += change
            astray = Encoded(encoded.data, offsets)
            _refused(lambda: codec.decode(astray, row_shape=shape), "astray")  # noqa: B023
        beyond = Encoded(encoded.data[:-1], encoded.offsets)
        _refused(lambda: codec.decode(beyond, row_shape=shape), "data that end too early")

    def test_damaged_bytes_are_refused_or_harmless(self) -> None:
        """Flipped bits and noise give a `StoreError` or something well-formed, never a crash."""
        codec = self.make()
        shape, _, encoded = self._example()
        random = np.random.default_rng(0)
        for _ in range(100):
            data = encoded.data.copy()
            data[random.integers(len(data))] ^= np.uint8(1 << int(random.integers(8)))
            self._refused_or_harmless(codec, Encoded(data, encoded.offsets), shape)
        for fill in (0, 255, None):
            noise = random.integers(256, size=len(encoded.data), dtype=np.uint8)
            data = noise if fill is None else np.full_like(noise, fill)
            self._refused_or_harmless(codec, Encoded(data, encoded.offsets), shape)

    def _refused_or_harmless(self, codec: Codec, rows: Encoded, shape: tuple[int, ...]) -> None:
        try:
            decoded = codec.decode(rows, row_shape=shape)
        except StoreError:
            return
        _check_form(codec, decoded, len(rows), shape)


def _bytes(rows: Encoded) -> list[bytes]:
    """Each row's bytes."""
    assert rows.data.dtype == np.uint8
    assert rows.offsets.dtype == np.int64
    assert rows.offsets[0] == 0
    assert rows.offsets[-1] == len(rows.data)
    return [rows.data[a:b].tobytes() for a, b in zip(rows.offsets, rows.offsets[1:], strict=False)]


def _joined(rows: Sequence[bytes], *, lead: int = 0) -> Encoded:
    """Rows one after the other, behind some bytes that belong to none."""
    data = np.frombuffer(b"\xaa" * lead + b"".join(rows), dtype=np.uint8)
    return Encoded(data, lead + np.cumsum([0, *map(len, rows)], dtype=np.int64))


def _refused(attempt: Callable[[], object], what: str) -> None:
    message = ""
    try:
        attempt()
    except StoreError as error:
        message = str(error)
    assert message, f"{what} was not refused"
    assert message.endswith("."), "the message is a sentence"


def _check_form(
    codec: Codec, decoded: Tensor | SparseLogits, num_rows: int, shape: tuple[int, ...]
) -> None:
    """Right types, shapes and, for kept classes, a distribution."""
    assert isinstance(decoded, SparseLogits) == codec.sparse
    if isinstance(decoded, Tensor):
        assert decoded.shape == (num_rows, *shape)
        assert decoded.dtype == torch.float32
        assert decoded.device.type == "cpu"
        return
    ids, logprobs, tail = decoded.ids_NK, decoded.logprobs_NK, decoded.tail_N
    assert (decoded.num_classes,) == shape
    assert decoded.temperature > 0
    assert ids.shape == logprobs.shape
    assert tail.shape == (num_rows,) == ids.shape[:1]
    assert (ids.dtype, logprobs.dtype, tail.dtype) == (torch.int64, torch.float32, torch.float32)
    assert ((tail >= 0) & (tail <= 1)).all()
    assert (logprobs <= 1e-6).all()
    torch.testing.assert_close(
        logprobs.double().exp().sum(-1) + tail.double(), torch.ones(num_rows).double(),
        rtol=0, atol=1e-5, msg="kept classes and tail do not make 1",
    )  # fmt: skip
    empty = logprobs.isneginf()
    assert (ids[empty] == 0).all()
    assert ((ids >= 0) & (ids < decoded.num_classes)).all()
    own = torch.arange(ids.shape[1]).expand_as(ids) + decoded.num_classes
    ordered = ids.where(~empty, own).sort(dim=-1).values
    assert (ordered[:, 1:] > ordered[:, :-1]).all(), "a class is there twice"


def _check_equal(
    part: Tensor | SparseLogits, whole: Tensor | SparseLogits, chosen: Sequence[int]
) -> None:
    if isinstance(part, Tensor) or isinstance(whole, Tensor):
        assert isinstance(part, Tensor)
        assert isinstance(whole, Tensor)
        assert torch.equal(part, whole[list(chosen)])
        return
    for mine, row in enumerate(chosen):
        kept, same = part.logprobs_NK[mine].isfinite(), whole.logprobs_NK[row].isfinite()
        assert torch.equal(part.ids_NK[mine][kept], whole.ids_NK[row][same])
        got, expected = part.logprobs_NK[mine][kept], whole.logprobs_NK[row][same]
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)
        assert part.tail_N[mine] == whole.tail_N[row]
