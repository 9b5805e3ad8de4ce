"""Every student that can be drawn is one that can be built, and knobs mean what they say."""

import pytest
import torch

from potstill.errors import ModelError
from potstill.models import ModelConfig, create_model
from potstill.search import FAMILY, OWN, About, Choice, Space, families, of_branch, shape
from potstill.search.lessons import objective, terms_choice

IMAGES = About(kind="image", input_shape=(1, 28, 28), teacher=("builtin", "cnn"))
KINDS = {
    "image": IMAGES,
    "table": About(kind="table", input_shape=(30,), teacher=("builtin", "mlp")),
    "signal": About(kind="signal", input_shape=(1, 180), teacher=("builtin", "cnn")),
    "audio": About(kind="audio", input_shape=(1, 8000), teacher=("builtin", "ds_cnn")),
    "text": About(
        kind="text", input_shape=(2, 12), teacher=("builtin", "bag"), options={"vocabulary": 50}
    ),
}


def ends(choice: Choice, branch: str) -> list[dict]:
    """The smallest and the largest student of a branch."""
    knobs = choice.branches[branch]
    small = {k.name: k.smallest for k in knobs}
    large = {k.name: k.choices[-1] if k.choices else int(k.high) for k in knobs}
    return [small, large]


def built(spec: dict, about: About) -> torch.nn.Module:
    options = {k: v for k, v in spec.items() if k not in ("source", "name")}
    if about.kind == "audio":
        options["sampling_rate"] = 8000
    config = ModelConfig(
        source=spec["source"],
        name=spec["name"],
        options=options,
        input_shape=about.input_shape,
        num_outputs=10,
    )
    return create_model(config)


@pytest.mark.parametrize("kind", KINDS)
def test_the_smallest_and_the_largest_of_every_family_can_be_built(kind: str) -> None:
    about = KINDS[kind]
    choice = families(about, own=False)

    for branch in choice.branches:
        sizes = [
            sum(p.numel() for p in built(shape(branch, knobs, about), about).parameters())
            for knobs in ends(choice, branch)
        ]
        assert sizes[0] < sizes[1], branch


def test_students_of_a_text_teacher_are_made_of_it() -> None:
    about = About(kind="text", input_shape=(2, 12), teacher=("hf", "bert"), layers=4)
    choice = families(about)

    assert list(choice.branches) == [OWN, "bilstm", "bag", "transformer", "layers"]
    assert max(k.high for k in choice.branches["layers"]) == 3, "fewer than the teacher has"
    made = shape("transformer", {"layers": 2, "width": 128}, about)
    assert made == {
        "source": "teacher",
        "make": "transformer",
        "layers": 2,
        "width": 128,
        "heads": 4,
    }


def test_the_smallest_values_are_complete() -> None:
    space = Space(choices=(families(IMAGES), terms_choice("classification", temperature=4.0)))

    values = space.smallest(FAMILY, "cnn")

    assert values["family"] == "cnn"
    assert values["terms"] == OWN
    assert of_branch(values, "cnn") == {"depth": 2, "convs": 1, "width": 2, "resolution": 14}


def test_an_objective_is_the_recipes_or_soft_targets_with_labels() -> None:
    own = [{"term": "kd", "temperature": 4, "weight": 0.9}]
    drawn = {"terms": "dkd", "dkd.temperature": 2.5, "dkd.soft_weight": 0.75, "lr": 0.1}

    assert objective({"terms": OWN, "lr": 0.1}, own) == own
    assert objective(drawn, own) == [
        {"term": "dkd", "weight": 0.75, "temperature": 2.5},
        {"term": "cross_entropy", "weight": 0.25},
    ]
    assert list(terms_choice("regression", temperature=None).branches) == [OWN]


def test_at_half_the_resolution_a_model_sees_means_of_four_pixels() -> None:
    config = {"source": "builtin", "input_shape": (3, 8, 8), "num_outputs": 4}
    small = create_model(
        ModelConfig(name="cnn", options={"width": 4, "depth": 2, "resolution": 4}, **config)
    ).eval()
    pictures = torch.rand(2, 3, 8, 8)

    means = torch.nn.functional.avg_pool2d(pictures, 2)
    torch.testing.assert_close(small[0](pictures), means)
    plain = create_model(
        ModelConfig(
            name="cnn",
            options={"width": 4, "depth": 2},
            **{**config, "input_shape": (3, 4, 4)},
        )
    ).eval()
    torch.testing.assert_close(small(pictures), plain(means))  # same seed, same names
    assert set(small.state_dict()) == set(plain.state_dict())


@pytest.mark.parametrize("side", [0, 9, "half"])
def test_a_resolution_beyond_the_image_is_refused(side: object) -> None:
    with pytest.raises(ModelError, match="at most the side of the images"):
        create_model(
            ModelConfig(
                source="builtin",
                name="cnn",
                options={"resolution": side},
                input_shape=(3, 8, 8),
                num_outputs=4,
            )
        )


def test_thin_resnets_and_widths_are_the_published_ones_by_default() -> None:
    def size(name: str, **options: object) -> int:
        config = ModelConfig(
            source="builtin", name=name, options=options, input_shape=(3, 32, 32), num_outputs=100
        )
        return sum(p.numel() for p in create_model(config).parameters())

    assert size("resnet", blocks=3) == size("resnet20")
    assert size("MobileNetV2", width=0.5) == size("MobileNetV2")
    assert size("ShuffleV2", width=1.0) == size("ShuffleV2")
    assert size("MobileNetV2", width=0.25) < size("MobileNetV2") / 2
    with pytest.raises(ModelError, match="above 0"):
        size("ShuffleV2", width=0.0)
