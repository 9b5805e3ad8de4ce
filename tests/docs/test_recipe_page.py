"""docs/recipes.md names every key of a recipe with its default; run this file for its tables."""

from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from potstill import recipe

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
PARTS: dict[str, type[BaseModel]] = {
    "top level": recipe.Recipe,
    "data": recipe.DataSpec,
    "data.synthetic": recipe.SyntheticSpec,
    "data.transfer": recipe.TransferSpec,
    "data.long_tail": recipe.LongTailSpec,
    "data.label_noise": recipe.NoiseSpec,
    "teacher": recipe.TeacherSpec,
    "teacher.ensemble[]": recipe.MemberSpec,
    "teacher.tta": recipe.LookSpec,
    "teacher.route": recipe.RouteSpec,
    "teacher.average": recipe.AverageSpec,
    "teacher.peers[]": recipe.PeerSpec,
    "chain": recipe.ChainSpec,
    "chain.assistants[]": recipe.AssistantSpec,
    "student": recipe.StudentSpec,
    "model": recipe.ModelSpec,
    "distill and teacher.train": recipe.LearnSpec,
    "distill, beside these": recipe.DistillSpec,
    "distill.objective[]": recipe.TermSpec,
    "distill.on_policy": recipe.OnPolicySpec,
    "distill.on_policy.replay": recipe.ReplaySpec,
    "distill.sequences": recipe.SequencesSpec,
    "distill.data_free": recipe.DataFreeSpec,
    "distill.curriculum": recipe.CurriculumSpec,
    "mix": recipe.MixSpec,
    "augment[]": recipe.StepSpec,
    "parity": recipe.ParitySpecs,
    "parity.float32, parity.float16 and parity.int8": recipe.ParitySpec,
    "measure": recipe.MeasureSpec,
    "compress": recipe.CompressSpec,
    "measure.year": recipe.YearSpec,
    "measure.lm_eval": recipe.HarnessSpec,
    "bounds": recipe.BoundsSpec,
    "store": recipe.StoreSpec,
    "store.codec and store.features": recipe.CodecSpec,
}


def tables() -> str:
    """One table a part: key, default, meaning."""
    lines: list[str] = []
    for title, model in PARTS.items():
        lines += [f"### {title}", "", "| key | default | meaning |", "|---|---|---|"]
        inherited = recipe.LearnSpec.model_fields if model is recipe.DistillSpec else {}
        for name, field in model.model_fields.items():
            if name in inherited:
                continue
            value = None if field.is_required() else field.get_default(call_default_factory=True)
            default = "required" if field.is_required() else _shown(value)
            meaning = (field.description or "").replace("|", "or")
            lines.append(f"| `{name}` | {default} | {meaning} |")
        lines.append("")
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, BaseModel):
        return "its own defaults"
    if isinstance(value, tuple) and any(isinstance(v, BaseModel) for v in value):
        return "0.9 kd at temperature 4, 0.1 cross_entropy"
    return "none" if value is None else f"`{list(value) if isinstance(value, tuple) else value!r}`"


def test_the_page_names_every_key_with_its_default() -> None:
    assert tables().strip() in PAGE.read_text(encoding="utf-8"), (
        "run this file and paste its output"
    )


@pytest.mark.parametrize("name", sorted(recipe.shipped()))
def test_what_is_a_default_can_be_left_out(name: str) -> None:
    whole = recipe.load(name)

    short = whole.to_yaml(short=True)

    assert recipe.parse(yaml.safe_load(short), origin=name) == whole
    assert len(short) < len(whole.to_yaml())


def test_every_key_has_a_meaning() -> None:
    assert [line for line in tables().splitlines() if line.endswith("|  |")] == []


if __name__ == "__main__":
    print(tables())
