"""Models that are not ours: timm, torchvision, Transformers, the user's code; all offline."""

import socket
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from potstill.errors import MissingExtra, ModelError, UntrustedCode
from potstill.models import ModelConfig, available, create_model, load_model, save_model
from potstill.models.config import Json
from potstill.models.vision import replace_first_conv, replace_head

TINY_VIT: Json = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "patch_size": 4,
}


def a_config(
    source: str,
    name: str,
    *,
    shape: tuple[int, ...] = (3, 32, 32),
    outputs: int = 7,
    **options: Json,
) -> ModelConfig:
    return ModelConfig(
        source=source, name=name, options=options, input_shape=shape, num_outputs=outputs
    )


def a_vit(*, outputs: int = 7) -> ModelConfig:
    return a_config(
        "hf", "tiny", shape=(1, 8, 8), outputs=outputs, model_type="vit", config=TINY_VIT
    )


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was looked up on the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


LIBRARY_MODELS = [
    # a plain network
    pytest.param(a_config("timm", "resnet10t"), id="timm"),
    # grey images
    pytest.param(a_config("timm", "test_resnet", shape=(1, 28, 28)), id="timm-grey"),
    # a transformer, whose image size has to be given
    pytest.param(a_config("timm", "test_vit", shape=(1, 32, 32)), id="timm-vit"),
    # an option of the library
    pytest.param(a_config("timm", "test_resnet", drop_rate=0.1), id="timm-option"),
    pytest.param(a_config("torchvision", "mobilenet_v3_small"), id="torchvision"),
    pytest.param(a_config("torchvision", "shufflenet_v2_x0_5", shape=(1, 28, 28)), id="tv-grey"),
    # answers with a tuple in training unless told otherwise
    pytest.param(a_config("torchvision", "googlenet"), id="torchvision-auxiliary"),
    pytest.param(a_vit(), id="hf-vit"),
    pytest.param(
        a_config(
            "hf",
            "small",
            model_type="resnet",
            config={"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
        ),
        id="hf-resnet",
    ),
]


@pytest.mark.parametrize("config", LIBRARY_MODELS)
def test_library_models_answer_with_logits_and_come_back_from_disk(
    config: ModelConfig, tmp_path: Path
) -> None:
    before = torch.get_rng_state()
    model = create_model(config, seed=3)
    assert torch.equal(torch.get_rng_state(), before)

    save_model(model, config, tmp_path)
    again, _ = load_model(tmp_path)

    x = torch.randn(2, *config.input_shape)
    logits = model(x)  # in training mode
    assert isinstance(logits, torch.Tensor)
    assert logits.shape == (2, 7)
    fresh = create_model(config, seed=3)
    with torch.no_grad():
        assert torch.equal(fresh.eval()(x), again.eval()(x))


def test_the_size_of_a_torchvision_transformer_follows_the_images() -> None:
    with pytest.raises(ModelError, match="takes square images and these have 32x16 pixels"):
        create_model(a_config("torchvision", "vit_b_32", shape=(3, 32, 16)))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (a_config("timm", "resnt18"), "no model `resnt18`: did you mean `resnet18`"),
        (a_config("torchvision", "resnet19"), "no model `resnet19`: did you mean `resnet18`"),
        (a_config("hf", "x", model_type="vitt"), "no image classifier of type `vitt`: did you me"),
        (a_config("hf", "x", model_type="vit", config={"hiden_size": 8}), "mean `hidden_size`"),
        (a_config("hf", "x", model_type="vit", config=[8]), "not a mapping"),
        (a_config("hf", "x", model_typ="vit"), "no option `model_typ`.*did you mean `model_type`"),
        (a_config("hf", "google/vit"), "nothing is fetched without being asked for"),
        (a_config("timm", "hf-hub:timm/resnet18"), "nothing is fetched without being asked for"),
        (a_config("timm", "resnet18", drop_rat=0.1), "unexpected keyword argument 'drop_rat'"),
        (a_config("torchvision", "resnet18", width=2), "unexpected keyword argument 'width'"),
        (a_config("timm", "resnet18", pretrained="yes"), "`pretrained` of `resnet18` is 'yes'"),
        (a_config("timm", "resnet18", shape=(30,)), "use the builtin `mlp` or `cnn`"),
        (a_config("timm", "resnet18", pretrained=True), "has 1000 outputs and 7 are needed"),
        (a_config("torchvision", "alexnet", shape=(3, 8, 8)), r"inputs of shape \(3, 8, 8\)"),
        (a_config("sklearn", "forest"), "There is no student `forest`"),
        (a_config("tim", "resnet18"), "no source of models `tim`: did you mean `timm`"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(config: ModelConfig, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        create_model(config)


def test_a_transformers_folder_is_loaded_with_its_weights(tmp_path: Path) -> None:
    model = create_model(a_vit(), seed=4)
    model.get_submodule("model").save_pretrained(tmp_path)  # type: ignore[operator]

    again = create_model(a_config("hf", str(tmp_path), shape=(1, 8, 8)))
    random = create_model(a_config("hf", str(tmp_path), shape=(1, 8, 8), config_only=True))

    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(again.eval()(x), model.eval()(x))
    assert not torch.equal(random.eval()(x), model.eval()(x))
    assert again.get_submodule("model.vit") is not None


def test_a_transformers_head_of_other_classes_needs_the_word_of_the_user(tmp_path: Path) -> None:
    model = create_model(a_vit())
    model.get_submodule("model").save_pretrained(tmp_path)  # type: ignore[operator]

    with pytest.raises(ModelError, match=r"of shape \[7.*\[3.*set `new_head: true`"):
        create_model(a_config("hf", str(tmp_path), shape=(1, 8, 8), outputs=3))

    other = a_config("hf", str(tmp_path), shape=(1, 8, 8), outputs=3, new_head=True)
    again = create_model(other)
    key = "model.vit.layernorm.weight"
    assert torch.equal(again.state_dict()[key], model.state_dict()[key])
    assert again(torch.zeros(2, 1, 8, 8)).shape == (2, 3)


def test_a_transformers_folder_without_a_classifier_is_refused(tmp_path: Path) -> None:
    model = create_model(a_vit())
    model.get_submodule("model.vit").save_pretrained(tmp_path)  # type: ignore[operator]

    with pytest.raises(ModelError, match="lack 2 tensors of the classifier"):
        create_model(a_config("hf", str(tmp_path), shape=(1, 8, 8)))


def test_a_model_loaded_from_a_folder_is_saved_without_needing_it(tmp_path: Path) -> None:
    create_model(a_vit()).get_submodule("model").save_pretrained(tmp_path / "hf")  # type: ignore[operator]
    config = a_config("hf", str(tmp_path / "hf"), shape=(1, 8, 8))
    model = create_model(config)

    save_model(model, config, tmp_path / "ours")
    (tmp_path / "hf").rename(tmp_path / "gone")
    again, _ = load_model(tmp_path / "ours")

    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(again.eval()(x), model.eval()(x))


def test_code_that_comes_with_a_model_needs_trust() -> None:
    with pytest.raises(UntrustedCode, match="--trust"):
        create_model(a_config("hf", "x", model_type="vit", trust_remote_code=True))


def test_a_grey_image_is_answered_as_its_copy_in_three_colours_was() -> None:
    colour = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Flatten())
    grey = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Flatten())
    grey.load_state_dict(colour.state_dict())
    x = torch.randn(2, 1, 8, 8)

    replace_first_conv(grey, 1)

    torch.testing.assert_close(grey(x), colour(x.repeat(1, 3, 1, 1)))


def test_a_model_without_a_convolution_over_colours_cannot_be_made_grey() -> None:
    with pytest.raises(ModelError, match="no convolution over 3 channels"):
        replace_first_conv(nn.Sequential(nn.Linear(3, 3)), 1)


def test_the_last_linear_layer_is_replaced_only_when_allowed() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 1000)))
    kept = model[0]

    with pytest.raises(ModelError, match="has 1000 outputs and 7 are needed"):
        replace_head(model, a_config("torchvision", "m"), allowed=False)
    replace_head(model, a_config("torchvision", "m"), allowed=True)

    assert model(torch.zeros(2, 4)).shape == (2, 7)
    assert model[0] is kept
    with pytest.raises(ModelError, match="is not linear"):
        replace_head(nn.Sequential(nn.Conv2d(3, 9, 1)), a_config("torchvision", "m"), allowed=True)


def test_available_names_are_those_that_can_be_built() -> None:
    assert "resnet8x4" in available("builtin")
    assert "resnet18" in available("timm")
    assert "resnet18" in available("torchvision")
    assert "vit" in available("hf")
    assert available("file") == available("python") == ()
    with pytest.raises(ModelError, match="no source of models `builtn`: did you mean `builtin`"):
        available("builtn")


@pytest.mark.parametrize(
    ("source", "module", "extra"),
    [
        ("timm", "timm", "vision"),
        ("torchvision", "torchvision.models", "vision"),
        ("hf", "transformers", "text"),
    ],
)
def test_a_library_that_is_missing_says_how_to_install_it(
    source: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(MissingExtra, match=rf"pip install 'potstill\[{extra}\]'"):
        create_model(a_config(source, "resnet18"))


# --- the user's own code


def a_python(tmp_path: Path, body: str, *, function: str = "build") -> ModelConfig:
    (tmp_path / "mine.py").write_text(f"import torch\n\n{body}\n")
    return a_config("python", f"{tmp_path / 'mine.py'}:{function}", shape=(4,), width=3)


LINEAR = "def build(*, input_shape, num_outputs, width): return torch.nn.Linear(4, num_outputs)"


def test_python_is_not_even_imported_without_trust(tmp_path: Path) -> None:
    config = a_python(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w').close()\n{LINEAR}")

    with pytest.raises(UntrustedCode, match="--trust"):
        create_model(config)

    assert not (tmp_path / "ran").exists()


def test_python_is_run_with_trust_and_leaves_no_module_behind(tmp_path: Path) -> None:
    model = create_model(a_python(tmp_path, LINEAR), trust=True)

    assert model(torch.zeros(2, 4)).shape == (2, 7)
    assert "mine" not in sys.modules


def test_python_of_an_installed_package_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_package_of_mine.py").write_text(f"import torch\n\n{LINEAR}\n")
    monkeypatch.syspath_prepend(tmp_path)

    model = create_model(
        a_config("python", "a_package_of_mine:build", shape=(4,), width=3), trust=True
    )

    assert isinstance(model, nn.Linear)


DEF = "def build(*, input_shape, num_outputs, width):"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (f"{DEF} return 3", "returned a int; it must return a torch.nn.Module"),
        (f"{DEF} raise KeyError('x')", "failed with KeyError"),
        ("def build(*, input_shape, num_outputs): pass", "the options .'width'."),
        ("def other(): pass", "has no function `build`"),
        ("import nothing_like_this", "could not be imported"),
        (f"{DEF} return torch.nn.Linear(4, 2)", r"shape \[2, 2\]; \[2, 7\] is needed"),
        (f"{DEF} return torch.nn.Linear(5, 7)", r"cannot take inputs of shape \(4,\)"),
        (f"{DEF} return torch.nn.LSTM(4, 7)", "answers with a tuple"),
    ],
)
def test_python_that_does_not_give_a_model_is_one_sentence(
    body: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        create_model(a_python(tmp_path, body), trust=True)


@pytest.mark.parametrize("name", ["mine", "mine:", ":build"])
def test_python_needs_a_function_after_a_colon(name: str) -> None:
    with pytest.raises(ModelError, match="does not say which function"):
        create_model(a_config("python", name), trust=True)


def test_python_from_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no file"):
        create_model(a_config("python", f"{tmp_path / 'none.py'}:build"), trust=True)
