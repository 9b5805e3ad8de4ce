"""Sounds from archives and folders: rates, windows, sequences, views, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from potstill.data import Augment, Feed, Kind, load
from potstill.data.sounds import Joining, resampled, windows
from potstill.errors import DataError, RecipeError

from .tiny import RATE, TONES, archive, tone

NAMES = ["low", "middle", "high"]


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archive(tmp_path_factory.mktemp("sounds") / "tones.npz")


def _keywords(path: Path, **options: object):
    return load("audio", {"path": str(path), "seconds": 0.3, **options}, target_kind="single_label")


def _sequences(path: Path, **options: object):
    join = {"words": [2, 3], "pause": [0.01, 0.05], "train": 12, "validation": 6, "test": 5}
    given = {"path": str(path), "classes": NAMES, "join": join, **options}
    return load("audio", given, target_kind="transcript")


def test_a_window_holds_each_sound_in_its_middle(tones: Path) -> None:
    data = _keywords(tones, classes=NAMES)

    assert data.kind is Kind.AUDIO
    assert data.input_shape == (1, 1200)
    assert (len(data.train), len(data.test), data.sampling_rate) == (54, 18, RATE)
    assert data.train.inputs.dtype == torch.int16
    shown = data.normalise(data.train.inputs)
    assert 0.1 < float(shown.abs().max()) <= 1
    short = windows([np.ones(4, dtype=np.int16)], 10)[0][0, 0]
    assert short.tolist() == [0, 0, 0, 1, 1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("target", [2000, 8000, 3000])
def test_resampling_keeps_a_tone(target: int) -> None:
    wave = tone(0, seconds=1.0, seed=3)

    other = resampled(wave, source=RATE, target=target)

    assert len(other) == target
    loudest = np.abs(np.fft.rfft(other.astype(float))).argmax()
    assert abs(float(loudest) - TONES[0]) <= 1


def test_folders_give_the_sounds_that_archives_give(tmp_path: Path, tones: Path) -> None:
    with np.load(tones) as content:
        pcm, offset, label, tested = (content[n] for n in ("pcm", "offset", "label", "is_test"))
    for row, kind in enumerate(label):
        take = "t" if tested[row] else "a"
        wave = pcm[offset[row] : offset[row + 1]]
        soundfile.write(tmp_path / f"{kind}_{row:03d}{take}.wav", wave, RATE, subtype="PCM_16")

    patterns = {"label_pattern": r"^(\d)_", "test_pattern": r"t\.wav$"}
    data = _keywords(tmp_path, classes=NAMES, **patterns)

    told = _keywords(tones, classes=NAMES)
    assert (len(data.test), data.sampling_rate) == (len(told.test), RATE)
    assert data.classes == ("low", "middle", "high")
    assert sorted(map(bytes, data.test.inputs.numpy())) == sorted(
        map(bytes, told.test.inputs.numpy())
    )


def test_folders_of_classes_are_read_and_resampled(tmp_path: Path) -> None:
    for kind, name in enumerate(NAMES):
        (tmp_path / name).mkdir()
        for number in range(4):
            wave = tone(kind, seconds=0.2, seed=number)
            both = np.stack([wave, wave], axis=1)  # two channels
            soundfile.write(tmp_path / name / f"{number}.wav", both, RATE, subtype="PCM_16")

    data = _keywords(tmp_path, sampling_rate=2000)

    assert data.classes == ("high", "low", "middle")
    assert data.input_shape == (1, 600)


def test_sequences_say_the_words_that_they_are_made_of(tones: Path) -> None:
    data = _sequences(tones)

    assert data.normalise.masked
    assert data.input_shape[0] == 2
    assert (len(data.train), len(data.validation), len(data.test)) == (12, 6, 5)
    first = int(data.train.ids[0])
    letters = [data.classes[n] for n in data.train.labels[0].tolist() if n > 0]
    assert "".join(letters) == data.references[first]
    assert set(data.references[first].split()) <= set(NAMES)
    sounding = data.train.inputs[:, 1].bool()
    assert not data.train.inputs[:, 0][~sounding].any()


def test_sequences_are_drawn_from_their_own_part_and_seed() -> None:
    joining = Joining(words=(2, 2), pause=(0, 0), count={"train": 3})
    waves = [np.full(5, n, dtype=np.int16) for n in range(4)]

    once = joining.sequences(waves, list("abcd"), part="train", rate=100)
    again = joining.sequences(waves, list("abcd"), part="train", rate=100)
    other = joining.sequences(waves, list("abcd"), part="test", rate=100)

    assert once[1] == again[1]
    assert all((a == b).all() for a, b in zip(once[0], again[0], strict=True))
    assert len(other[1]) == 4
    for wave, text in zip(*once, strict=True):
        assert ["abcd"[n] for n in wave[::5]] == text.split()


def test_batches_of_sounds_are_cut_to_the_longest_and_replay(tones: Path) -> None:
    data = _sequences(tones)
    feed = Feed(
        samples=data.train,
        batch_size=4,
        seed=0,
        normalise=data.normalise,
        augment=Augment.parse(["gain", {"op": "background", "lowest": 5}]),
    )

    batch, again = feed.batch(1, 0), feed.batch(1, 0)

    assert torch.equal(batch.inputs, again.inputs)
    longest = int(batch.inputs[:, 1].sum(-1).max())
    assert longest <= batch.inputs.shape[2] < longest + 8
    assert batch.labels.shape[1] == data.train.labels.shape[1]  # letters are not cut with samples
    assert not (batch.inputs[:, 0] * (1 - batch.inputs[:, 1])).any()
    assert not torch.equal(batch.inputs, feed.batch(2, 0).inputs)


@pytest.mark.parametrize("op", ["gain", "background", "time_mask", "band_mask"])
def test_a_view_depends_on_its_sample_alone(op: str) -> None:
    waves = torch.randn(5, 1, 400, generator=torch.Generator().manual_seed(0)) * 0.1
    ids, view = torch.arange(5), torch.full((5,), 2)
    augment = Augment.parse([op], seed=3)

    together = augment(waves, ids=ids, view=view)

    alone = torch.cat(
        [augment(waves[i : i + 1], ids=ids[i : i + 1], view=view[:1]) for i in range(5)]
    )
    assert torch.allclose(together, alone, atol=1e-6)
    assert not torch.equal(together, waves)
    assert torch.equal(augment(waves, ids=ids, view=torch.zeros_like(view)), waves)


def test_a_band_that_is_taken_out_is_gone() -> None:
    times = torch.arange(4000) / 4000
    wave = torch.sin(2 * torch.pi * 700 * times)[None, None]
    from potstill.data.wave_ops import BandMask

    kernel = BandMask()._kernel(torch.tensor([0.3]), torch.tensor([0.4])).float()
    filtered = torch.nn.functional.conv1d(wave, kernel[:, None], padding=63)
    kept = torch.nn.functional.conv1d(
        torch.sin(2 * torch.pi * 300 * times)[None, None], kernel[:, None], padding=63
    )

    assert float(filtered[..., 200:-200].abs().max()) < 0.02
    assert 0.95 < float(kept[..., 200:-200].abs().max()) < 1.05


def _broken(tmp_path: Path, **changes: object) -> Path:
    path = archive(tmp_path / "whole.npz", each=3, test=1)
    with np.load(path) as content:
        members = {name: content[name] for name in content.files}
    members |= changes
    kept = {name: value for name, value in members.items() if value is not None}
    np.savez(tmp_path / "broken.npz", **kept)
    return tmp_path / "broken.npz"


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"sampling_rate": None}, {}, "does not say how many samples a second"),
        ({"label": None}, {}, "has no member `label`"),
        ({"pcm": np.zeros(9)}, {}, "is float64 of shape"),
        ({"offset": np.arange(3)}, {}, "has 3 numbers for 12 labels"),
        ({"offset": np.array([0] + [4000] * 12)}, {}, "row 1 of the train part is empty"),
        ({}, {"seconds": 1000}, "`seconds: 1000` must lie between"),
        ({}, {"sampling_rate": 7}, "`sampling_rate: 7` must lie between"),
        ({}, {"join": {"words": [2, 3]}}, "`join:` makes sequences for `task: asr`"),
    ],
)
def test_archives_that_cannot_be_used_are_refused(tmp_path, changes, options, message) -> None:
    path = _broken(tmp_path, **changes)

    with pytest.raises((DataError, RecipeError), match=message):
        _keywords(path, **options)


def test_folders_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no folder"):
        _keywords(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no sound"):
        _keywords(tmp_path)
    soundfile.write(tmp_path / "a_1.wav", tone(0, seconds=0.2, seed=0), RATE)
    soundfile.write(tmp_path / "b_1.wav", tone(1, seconds=0.2, seed=0), 2 * RATE)
    with pytest.raises(DataError, match=r"several sampling rates: 4000 Hz \(1\), 8000 Hz \(1\)"):
        _keywords(tmp_path, label_pattern="^(.)_")
    with pytest.raises(DataError, match=r"does not match `a_1\.wav`"):
        _keywords(tmp_path, label_pattern=r"^(\d)_")
    with pytest.raises(RecipeError, match="is no regular expression"):
        _keywords(tmp_path, label_pattern="(")
    (tmp_path / "c_1.wav").write_bytes(b"no sound")
    with pytest.raises(DataError, match=r"c_1\.wav cannot be decoded"):
        _keywords(tmp_path, label_pattern="^(.)_")


def test_sounds_without_texts_are_refused_where_texts_are_asked_for(tones: Path) -> None:
    with pytest.raises(DataError, match="has sounds and no texts"):
        load("audio", {"path": str(tones)}, target_kind="transcript")
