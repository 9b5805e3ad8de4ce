"""Saving and loading: bit for bit, without running code, and with a sentence when it cannot be."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from potstill.errors import ModelError, StorageError, UntrustedCode
from potstill.models import ModelConfig, create_model, load_model, save_model
from potstill.models.config import Json
from potstill.models.weights import fit_weights, read_weights, tied, write_weights


def a_config(outputs: int = 10, *, hidden: int = 16) -> ModelConfig:
    return ModelConfig(
        source="builtin",
        name="mlp",
        options={"hidden": [hidden], "batch_norm": True},
        input_shape=(1, 8, 8),
        num_outputs=outputs,
    )


def a_file(path: Path, *, outputs: int = 10, **options: Json) -> ModelConfig:
    return ModelConfig(
        source="file",
        name=str(path),
        options=options,
        input_shape=(1, 8, 8),
        num_outputs=outputs,
    )


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TiedModel(nn.Module):
    """Two names for one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 4, bias=False)
        self.head = nn.Linear(4, 4, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x_BD: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.embed(x_BD)))


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet8", "ShuffleV2"])
def test_a_saved_model_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    config = ModelConfig(source="builtin", name=name, input_shape=(3, 8, 8), num_outputs=5)
    model = create_model(config, seed=7)
    model(torch.randn(8, 3, 8, 8))  # moves the running means

    weights = save_model(model, config, tmp_path / "student")
    again, read = load_model(tmp_path / "student")

    assert weights == tmp_path / "student" / "model.safetensors"
    assert same(model.state_dict(), again.state_dict())
    assert read == config
    assert again.training
    x = torch.randn(4, 3, 8, 8)
    assert torch.equal(model.eval()(x), again.eval()(x))
    assert names_in(tmp_path / "student") == ["config.json", "model.safetensors"]


def test_loading_leaves_the_global_generator_as_it_was(tmp_path: Path) -> None:
    save_model(create_model(a_config()), a_config(), tmp_path)
    before = torch.get_rng_state()

    load_model(tmp_path)

    assert torch.equal(torch.get_rng_state(), before)


def test_saving_again_replaces_what_was_there(tmp_path: Path) -> None:
    first, second = create_model(a_config(), seed=1), create_model(a_config(), seed=2)

    save_model(first, a_config(), tmp_path)
    save_model(second, a_config(), tmp_path)

    assert same(load_model(tmp_path)[0].state_dict(), second.state_dict())


def test_tied_weights_are_written_once_and_stay_tied(tmp_path: Path) -> None:
    model, again = TiedModel(), TiedModel()

    write_weights(model, tmp_path / "tied.safetensors")
    written = read_weights(tmp_path / "tied.safetensors")
    fit_weights(again, written, origin="the file", num_outputs=4)

    assert list(written) == ["embed.weight"]
    assert torch.equal(again.head.weight, model.embed.weight)
    assert again.head.weight is again.embed.weight


def test_views_of_one_storage_are_written_apart(tmp_path: Path) -> None:
    model = nn.Module()
    whole = torch.arange(6.0)
    model.register_buffer("left", whole[:3])
    model.register_buffer("right", whole[3:])

    write_weights(model, tmp_path / "views.safetensors")

    written = read_weights(tmp_path / "views.safetensors")
    assert written["left"].tolist() == [0, 1, 2]
    assert written["right"].tolist() == [3, 4, 5]


def test_empty_tensors_are_not_taken_for_tied() -> None:
    assert tied({"a": torch.empty(0), "b": torch.empty(0)}) == [["a"], ["b"]]


def test_a_folder_is_a_source_and_may_take_other_classes_with_a_new_head(tmp_path: Path) -> None:
    model = create_model(a_config(), seed=5)
    save_model(model, a_config(), tmp_path)

    whole = create_model(a_file(tmp_path))
    fewer = create_model(a_file(tmp_path, outputs=3, new_head=True))

    assert same(whole.state_dict(), model.state_dict())
    kept, own = fewer.state_dict(), model.state_dict()
    assert all(torch.equal(kept[k], own[k]) for k in own if not k.startswith("fc"))
    assert kept["fc.weight"].shape == (3, 16)
    with pytest.raises(ModelError, match=r"is for 10 outputs \(`fc.weight`\), and 3 are needed"):
        create_model(a_file(tmp_path, outputs=3))


def test_what_came_from_a_file_is_saved_without_it(tmp_path: Path) -> None:
    save_model(create_model(a_config()), a_config(), tmp_path / "first")
    config = a_file(tmp_path / "first")
    model = create_model(config)

    save_model(model, config, tmp_path / "second")
    (tmp_path / "first" / "model.safetensors").unlink()
    again, read = load_model(tmp_path / "second")

    assert read == a_config()
    assert same(again.state_dict(), model.state_dict())


ARCHITECTURE: Json = {"source": "builtin", "name": "mlp", "hidden": [16], "batch_norm": True}


@pytest.mark.parametrize(
    ("name", "nest"),
    [
        ("w.pt", lambda state: state),
        ("w.pth", lambda state: {"epoch": 3, "model": state}),  # a training checkpoint
        ("w.ckpt", lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}}),
    ],
)
def test_a_state_dict_is_found_in_torch_files(name: str, nest: object, tmp_path: Path) -> None:
    model = create_model(a_config(), seed=9)
    torch.save(nest(model.state_dict()), tmp_path / name)  # type: ignore[operator]

    again = create_model(a_file(tmp_path / name, architecture=ARCHITECTURE))

    assert same(again.state_dict(), model.state_dict())


def test_a_safetensors_file_with_its_architecture_is_a_source(tmp_path: Path) -> None:
    model = create_model(a_config(), seed=9)
    save_file(model.state_dict(), tmp_path / "w.safetensors")

    again = create_model(a_file(tmp_path / "w.safetensors", architecture=ARCHITECTURE))

    assert same(again.state_dict(), model.state_dict())


@pytest.mark.parametrize(
    "architecture",
    [None, {"source": "builtin"}, {"source": "file", "name": "x"}, "mlp"],
)
def test_weights_without_an_architecture_say_what_to_add(
    architecture: Json, tmp_path: Path
) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    options = {} if architecture is None else {"architecture": architecture}

    with pytest.raises(ModelError, match="add the option `architecture`"):
        create_model(a_file(tmp_path / "w.safetensors", **options))


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.trace,)


def test_code_in_a_pickle_is_never_run(tmp_path: Path) -> None:
    torch.save({"w": Bomb(tmp_path / "ran")}, tmp_path / "w.pt")

    with pytest.raises(ModelError, match="code in it is never run"):
        create_model(a_file(tmp_path / "w.pt", architecture=ARCHITECTURE))

    assert not (tmp_path / "ran").exists()
    torch.load(tmp_path / "w.pt", weights_only=False)  # the bomb is a real one
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],  # cut off
        lambda _: b"",  # empty
        lambda _: b"\xff" * 64,  # not of this format
        lambda data: b"\x00" + data[1:],  # a broken header
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_damaged_file_is_a_sentence(damage: object, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"w{suffix}"
    state = create_model(a_config()).state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]

    with pytest.raises(ModelError, match=r"cannot be read|is corrupt"):
        create_model(a_file(path, architecture=ARCHITECTURE))


def test_a_pickle_that_is_not_from_torch_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(pickle.dumps({"a": 1}, protocol=2))

    with pytest.raises(ModelError, match=r"cannot be read|is corrupt|holds no state dict"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.pt", "There is no file of weights"),
        ("readme.txt", "is `.txt`: save a state dict"),
        ("empty.pt", "holds no state dict"),
    ],
)
def test_what_are_not_weights_is_a_sentence(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("hello")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")

    with pytest.raises(ModelError, match=message):
        create_model(a_file(tmp_path / name, architecture=ARCHITECTURE))


def test_misfits_name_the_first_tensors_with_their_shapes(tmp_path: Path) -> None:
    weights = dict(create_model(a_config(hidden=16)).state_dict())
    del weights["fc.bias"]
    weights["extra"] = torch.zeros(2, 3)

    with pytest.raises(ModelError) as caught:
        fit_weights(create_model(a_config(hidden=24)), weights, origin="w.pt", num_outputs=10)

    sentence = str(caught.value)
    assert "1 missing, `fc.bias` [10]" in sentence
    assert "1 unexpected, `extra` [2, 3]" in sentence
    assert "`layer1.0.weight` [16, 64] instead of [24, 64]" in sentence
    assert "and 4 more" in sentence
    assert "Build the model with the options it was saved with" in sentence


def test_a_hidden_layer_as_wide_as_the_outputs_is_not_taken_for_a_head(tmp_path: Path) -> None:
    weights = create_model(a_config(hidden=16)).state_dict()

    with pytest.raises(ModelError, match="of another shape"):
        fit_weights(
            create_model(a_config(hidden=10)), weights, origin="w", num_outputs=10, new_head=True
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "holds no config.json"),
        ("{", "cannot be read"),
        ("[1]", "holds no mapping"),
        ('{"format": 9}', "has format 9"),
        ('{"model_type": "vit"}', "use `source: hf`"),
    ],
)
def test_a_folder_without_a_usable_config_is_a_sentence(
    text: str | None, message: str, tmp_path: Path
) -> None:
    save_model(create_model(a_config()), a_config(), tmp_path)
    (tmp_path / "config.json").unlink()
    if text is not None:
        (tmp_path / "config.json").write_text(text)

    with pytest.raises(ModelError, match=message):
        load_model(tmp_path)
    with pytest.raises(ModelError, match=message):
        create_model(a_file(tmp_path))


def test_the_config_on_disk_has_a_format(tmp_path: Path) -> None:
    save_model(create_model(a_config()), a_config(), tmp_path)

    assert json.loads((tmp_path / "config.json").read_text())["format"] == 1


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")

    with pytest.raises(StorageError, match="a file is where a folder should be"):
        save_model(create_model(a_config()), a_config(), tmp_path / "taken")


def test_a_failed_write_leaves_the_earlier_weights_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(create_model(a_config(), seed=1), a_config(), tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()

    def half(_tensors: object, path: Path, **_: object) -> None:
        path.write_bytes(before[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("potstill.models.weights.save_file", half)
    with pytest.raises(StorageError, match="The disk is full"):
        save_model(create_model(a_config(), seed=2), a_config(), tmp_path)

    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert names_in(tmp_path) == ["config.json", "model.safetensors"]


def test_what_is_not_a_tensor_cannot_be_saved(tmp_path: Path) -> None:
    class Odd(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"steps": 3}

    with pytest.raises(ModelError, match=r"_extra_state.*not tensors"):
        write_weights(Odd(2, 2), tmp_path / "w.safetensors")


def test_a_half_precision_model_is_loaded_in_full_precision(tmp_path: Path) -> None:
    model = create_model(a_config()).half()

    save_model(model, a_config(), tmp_path)

    assert load_file(tmp_path / "model.safetensors")["fc.weight"].dtype == torch.float16
    again = load_model(tmp_path)[0].state_dict()
    assert again["fc.weight"].dtype == torch.float32
    assert torch.equal(again["fc.weight"], model.state_dict()["fc.weight"].float())


CODE = """
import torch

def build(*, input_shape, num_outputs, width=4):
    assert input_shape == (1, 8, 8)
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, width), torch.nn.Linear(width, num_outputs)
    )
"""


def test_python_models_come_back_only_with_trust(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(CODE)
    config = ModelConfig(
        source="python",
        name=f"{tmp_path / 'mine.py'}:build",
        options={"width": 3},
        input_shape=(1, 8, 8),
        num_outputs=10,
    )
    model = create_model(config, trust=True)
    save_model(model, config, tmp_path / "saved")

    with pytest.raises(UntrustedCode, match="--trust"):
        load_model(tmp_path / "saved")

    assert same(load_model(tmp_path / "saved", trust=True)[0].state_dict(), model.state_dict())


def test_a_file_is_given_as_the_name(tmp_path: Path) -> None:
    config = ModelConfig(
        source="file",
        name="",
        options={"path": str(tmp_path)},
        input_shape=(4,),
        num_outputs=2,
    )
    with pytest.raises(ModelError, match="as `name`"):
        create_model(config)
