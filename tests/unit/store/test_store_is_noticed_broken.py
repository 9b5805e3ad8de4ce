"""Whatever happens to a store's files is noticed: flipped bits, missing and cut files."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from potstill.errors import StoreError
from potstill.store import Store, verify
from potstill.store.codecs import make_codec
from potstill.teachers import StoredTeacher

from .stores import ALL, Embedding, feed, logits, samples, write

FLIPS = 1000


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    codecs = {**ALL, "logits": make_codec("topk", {"k": 2})}
    many = feed(samples(1500))
    write(folder / "large", shown=many, shard_bytes=30_000)
    write(folder / "fixed", shard_bytes=4000)
    write(folder / "sparse", codecs=codecs, shard_bytes=4000)
    return folder


def flip(path: Path, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ (1 << bit % 8)]))


def is_noticed(folder: Path, *, by_reading: bool) -> bool:
    """Whether a store is refused, by `verify` or by whoever reads all of it."""
    try:
        if not by_reading:
            return bool(verify(folder))
        store = Store(folder)
        for signal in store.manifest.signals:
            store.decode(signal.name, np.arange(len(store)))
    except StoreError:
        return True
    return False


@pytest.mark.parametrize("kind", ["large", "sparse"])
def test_every_flipped_bit_is_noticed(sound, kind, tmp_path) -> None:
    chance = random.Random(5)
    folder = shutil.copytree(sound / kind, tmp_path / kind)
    files = sorted(path for path in folder.iterdir() if path.stat().st_size)
    assert len(files) >= 3, "a manifest and some shards"

    missed = []
    for number in range(FLIPS):
        # by turns a file at random and a bit at random, so that the manifest has its share
        path = chance.choice(files)
        bit = chance.randrange(path.stat().st_size * 8)
        flip(path, bit)
        if not is_noticed(folder, by_reading=bool(number % 2)):
            missed.append((path.name, bit))
        flip(path, bit)

    assert missed == []
    assert not is_noticed(folder, by_reading=True)
    assert not is_noticed(folder, by_reading=False)


def test_damage_is_told_with_its_place_and_the_way_out(sound, tmp_path) -> None:
    folder = shutil.copytree(sound / "fixed", tmp_path / "store")
    flip(folder / "000001.shard", 8 * 100)

    store = Store(folder)
    first_of_the_second = store.manifest.shards[0].records

    with pytest.raises(StoreError, match=r"000001\.shard is damaged at bytes 0 to .*label` again"):
        store.decode("logits", np.array([first_of_the_second]))
    assert [damage.shard for damage in verify(folder)] == ["000001.shard"]


def test_what_is_not_touched_is_still_read(sound, tmp_path) -> None:
    folder = shutil.copytree(sound / "fixed", tmp_path / "store")
    flip(folder / "000001.shard", 8 * 100)
    shown = feed()

    teacher = StoredTeacher(folder, memory=0)

    assert torch.equal(
        logits(teacher.signals(shown.batch(0, 0))), logits(Embedding().signals(shown.batch(0, 0)))
    )
    with pytest.raises(StoreError, match="damaged"):
        [teacher.signals(batch) for batch in shown.epoch(0)]


@pytest.mark.parametrize("what", ["missing", "cut short", "longer", "empty"])
def test_a_shard_of_another_size_is_named_and_written_anew(sound, what, tmp_path) -> None:
    folder = shutil.copytree(sound / "fixed", tmp_path / "store")
    shard = folder / "000001.shard"
    content = shard.read_bytes()
    match what:
        case "missing":
            shard.unlink()
        case "cut short":
            shard.write_bytes(content[:-1])
        case "longer":
            shard.write_bytes(content + b"\0")
        case "empty":
            shard.write_bytes(b"")

    with pytest.raises(StoreError, match=r"000001\.shard (is missing|has [\d,]+ bytes) and should"):
        Store(folder)
    done = write(folder)

    assert 0 < done.asked < 160
    assert done.asked + done.kept == 160
    assert len(Store(folder)) == 160
    assert verify(folder) == []


def test_a_store_without_its_manifest_is_no_store(sound, tmp_path) -> None:
    folder = shutil.copytree(sound / "fixed", tmp_path / "store")
    (folder / "manifest.json").unlink()

    with pytest.raises(StoreError, match=r"There is no store at .*potstill label"):
        Store(folder)
    done = write(folder)

    assert done.asked == 160, "shards that no manifest names are no one's"
    assert verify(folder) == []


def test_a_manifest_of_something_else_is_refused(tmp_path) -> None:
    (tmp_path / "manifest.json").write_text('{"format": 1}\n')

    with pytest.raises(StoreError, match=r"manifest of .* is damaged"):
        Store(tmp_path)


def test_a_newer_format_asks_for_an_update(sound, tmp_path, monkeypatch) -> None:
    from potstill.store import manifest

    folder = shutil.copytree(sound / "fixed", tmp_path / "store")
    found = Store(folder).manifest
    with monkeypatch.context() as later:
        later.setattr(manifest, "FORMAT", 2)
        (folder / "manifest.json").write_bytes(found.dump())

    with pytest.raises(StoreError, match=r"of format 2; this version .* reads stores of format 1"):
        Store(folder)
