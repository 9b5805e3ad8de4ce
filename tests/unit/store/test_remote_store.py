"""A store behind an address: the same answers, one writer, a sentence when it cannot be reached."""

import uuid

import fsspec
import numpy as np
import pytest
import torch

from potstill.errors import MissingExtra, StorageError, StoreError
from potstill.store import Store, StoreWriter, verify
from potstill.teachers import StoredTeacher

from .stores import ALL, JITTER, Embedding, feed, key, logits, samples, write


@pytest.fixture
def address() -> str:
    return f"memory://{uuid.uuid4().hex}/answers"


def test_it_is_written_and_read_through_fsspec(address) -> None:
    write(address, shown=feed(augment=JITTER, views=2), views=2)
    shown, live = feed(augment=JITTER, views=2, shuffle=True), Embedding()

    for memory in (1 << 20, 0):
        stored = StoredTeacher(address, of=live, memory=memory)
        for epoch in range(2):
            for batch in shown.epoch(epoch):
                assert torch.equal(logits(stored.signals(batch)), logits(live.signals(batch)))
    names = fsspec.filesystem("memory").ls(address.removeprefix("memory:/"), detail=False)
    assert sorted(name.rpartition("/")[2] for name in names)[-1] == "manifest.json"
    assert len(names) > 3


def test_it_goes_on_and_is_verified(address) -> None:
    write(address, shown=feed(samples().rows(slice(0, 96))))

    assert (write(address).kept, len(Store(address)), verify(address)) == (96, 160, [])
    files = fsspec.filesystem("memory")
    path = f"{address.removeprefix('memory:/')}/000001.shard"
    content = bytearray(files.cat_file(path))
    content[30] ^= 4
    files.pipe_file(path, bytes(content))

    assert [damage.shard for damage in verify(address)] == ["000001.shard"]
    store = Store(address)
    with pytest.raises(StoreError, match=r"000001\.shard is damaged"):
        store.decode("logits", np.arange(len(store)))


def test_a_second_writer_is_refused_and_told_who_writes(address) -> None:
    first = StoreWriter(address, key=key(Embedding(), feed()), codecs=ALL)

    with pytest.raises(StorageError, match=r"Another process .* process \d+; .*delete .*lock"):
        write(address)
    first.close()

    assert write(address).asked == 160


def test_there_is_no_store_at_an_empty_address(address) -> None:
    with pytest.raises(StoreError, match="There is no store at memory://"):
        Store(address)


def test_a_missing_library_is_named() -> None:
    with pytest.raises((MissingExtra, StorageError), match="nowhere://bucket/store"):
        Store("nowhere://bucket/store")


def test_a_file_address_is_a_folder(tmp_path) -> None:
    write(f"file://{tmp_path}/store")

    assert len(Store(tmp_path / "store")) == 160
