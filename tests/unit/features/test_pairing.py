"""Which layers `auto` means, on models of the kinds that people have."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from potstill.errors import HandshakeError
from potstill.features import Trace, Wanted, paired, traced
from potstill.features.pairing import stages_of
from potstill.models.resnet_cifar import resnet_cifar
from potstill.protocols import SeenLayer

ROWS = 2


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.act, self.down = (
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(x).relu())


class Tokens(nn.Module):
    """A transformer without its attention, which pairing does not look at."""

    def __init__(self, depth: int, width: int = 12, patch: int = 4, classes: int = 5) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).movedim(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class Stages(nn.Module):
    """Convolutions with `per` of them at each size, then a pool that is no module."""

    def __init__(self, *widths: int, per: int = 2) -> None:
        super().__init__()
        stages, before = [], 3
        for width in widths:
            convs: list[nn.Module] = []
            for number in range(per):
                convs += [nn.Conv2d(before, width, 3, 1 if number else 2, 1), nn.ReLU()]
                before = width
            stages.append(nn.Sequential(*convs))
        self.stages = nn.Sequential(*stages)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(before, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.stages(x).mean((2, 3))))


def resnet(width: int, blocks: int) -> nn.Module:
    return resnet_cifar(
        (3, 32, 32),
        10,
        stem=width,
        widths=(width, 2 * width, 4 * width),
        blocks=(blocks, blocks, blocks),
        bottleneck=False,
    )


def mlp(*sizes: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Flatten()]
    for width, following in pairwise(sizes):
        layers += [nn.Linear(width, following), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def trace(model: nn.Module, size: int = 32) -> Trace:
    with torch.no_grad(), traced(model.eval()) as seen:
        model(torch.zeros(ROWS, 3, size, size))
    return Trace(tuple(seen), rows=ROWS)


def test_layers_end_in_order_with_the_weights_that_have_run() -> None:
    seen = {layer.name: layer for layer in trace(Stages(4, 8)).layers}

    assert list(seen)[:5] == ["stages.0.0", "stages.0.1", "stages.0.2", "stages.0.3", "stages.0"]
    assert seen["stages.0"] == SeenLayer("stages.0", (ROWS, 4, 16, 16), 2)
    assert seen["stages.1"].ran == 4
    assert seen["head"] == SeenLayer("head", (ROWS, 5), 5)


def test_like_networks_pair_stage_by_stage() -> None:
    student, teacher = trace(resnet(4, 1)), trace(resnet(8, 3))

    pairs = paired(student, teacher, wanted=Wanted.STAGES)

    assert [(s, s) for s in ("layer1", "layer2", "layer3")] == list(pairs)
    assert paired(student, teacher, wanted=Wanted.LAST) == (("layer3", "layer3"),)


def test_a_stage_finds_the_nearest_size_and_depth() -> None:
    small, large = trace(Stages(4, 8)), trace(Stages(4, 8, 16, per=3))

    pairs = paired(small, large, wanted=Wanted.STAGES)

    assert pairs == (("stages.0", "stages.0"), ("stages.1", "stages.2"))  # 8 and 4 wide, at the end


def test_two_stages_with_one_partner_leave_the_nearer_one() -> None:
    pairs = paired(trace(Stages(4, 8, 16)), trace(Stages(4, 8)), wanted=Wanted.STAGES)

    assert len({teacher for _, teacher in pairs}) == len(pairs) == 2


def test_blocks_of_a_transformer_pair_by_depth() -> None:
    pairs = paired(trace(Tokens(2)), trace(Tokens(6)), wanted=Wanted.STAGES)

    assert pairs == (("blocks.0", "blocks.2"), ("blocks.1", "blocks.5"))


def test_a_deep_student_gives_four_pairs() -> None:
    pairs = paired(trace(Tokens(12)), trace(Tokens(12)), wanted=Wanted.STAGES)

    assert [s for s, _ in pairs] == ["blocks.2", "blocks.5", "blocks.8", "blocks.11"]
    assert all(s == t for s, t in pairs)


def test_convolutions_meet_blocks_at_their_depth() -> None:
    student, teacher = trace(Stages(4, 8, 16)), trace(Tokens(6))

    pairs = paired(student, teacher, wanted=Wanted.STAGES)

    assert pairs[-1] == ("stages.2", "blocks.5")
    assert [t for _, t in pairs] == sorted(t for _, t in pairs)
    assert paired(teacher, student, wanted=Wanted.LAST) == (("blocks.5", "stages.2"),)


def test_vectors_are_what_goes_into_the_heads() -> None:
    wanted = Wanted.VECTOR

    assert paired(trace(mlp(3072, 8, 6, 5)), trace(Tokens(2)), wanted=wanted) == (("4", "norm"),)
    assert paired(trace(Stages(4, 8)), trace(Stages(4)), wanted=wanted) == (("stages", "stages"),)


def test_networks_without_positions_pair_by_depth() -> None:
    pairs = paired(trace(mlp(3072, 8, 6, 5)), trace(mlp(3072, 9, 9, 9, 9, 5)), wanted=Wanted.STAGES)

    assert pairs == (("2", "4"), ("4", "8"))


def test_a_name_that_is_given_finds_its_partner() -> None:
    student, teacher = trace(Stages(4, 8, 16)), trace(Stages(8, 16, 32, per=4))

    assert paired(student, teacher, wanted=Wanted.LAST, student_layers=["stages.1"]) == (
        ("stages.1", "stages.1"),
    )
    assert paired(
        student, teacher, wanted=Wanted.LAST, teacher_layers=["stages.0", "stages.2"]
    ) == (
        ("stages.0", "stages.0"),
        ("stages.2", "stages.2"),
    )
    with pytest.raises(HandshakeError, match="`nowhere` did not run"):
        paired(student, teacher, wanted=Wanted.LAST, student_layers=["nowhere"])


def test_a_model_that_is_one_layer_has_nothing_to_pair() -> None:
    with pytest.raises(HandshakeError, match="no layer"):
        paired(trace(mlp(3072, 5)), trace(Tokens(2)), wanted=Wanted.VECTOR)


def test_stages_of_one_model_need_no_other() -> None:
    assert stages_of(trace(Stages(4, 8, 16))) == ("stages.0", "stages.1", "stages.2")
    assert stages_of(trace(Tokens(8))) == ("blocks.1", "blocks.3", "blocks.5", "blocks.7")
    with pytest.raises(HandshakeError, match="student shows no layer"):
        stages_of(trace(mlp(3072, 5)))
