"""What models of Hugging Face Transformers have in common: options, refusals, descriptions."""

from collections.abc import Collection, Mapping
from pathlib import Path

from potstill.errors import ModelError, UntrustedCode, need
from potstill.models.config import Json, ModelConfig

DECIDED = frozenset(
    {"_name_or_path", "architectures", "dtype", "id2label", "label2id", "model_type"}
    | {"transformers_version", "torch_dtype"}
)
"""Settings that the data, the name or the library decide, of models of tokens."""


def flag(config: ModelConfig, name: str) -> bool:
    """An option that is true or false; false if absent.

    Raises:
        ModelError: it is something else.
    """
    value = config.options.get(name, False)
    if not isinstance(value, bool):
        raise ModelError(
            f"The option `{name}` of `{config.name}` is {value!r}; it must be true or false."
        )
    return value


def refuse_remote_code(config: ModelConfig, *, asked: bool, trust: bool) -> None:
    """Raise `UntrustedCode` if a model is to run code of its own and the user did not allow it."""
    if asked and not trust:
        raise UntrustedCode(
            f"`{config.name}` asks to run code that comes with the model: read it, then allow it "
            "with `--trust`, or drop `trust_remote_code`."
        )


def refuse_missing_folder(config: ModelConfig, *, fetch: bool) -> None:
    """Raise `ModelError` if a model is neither in a folder nor to be fetched."""
    if not fetch and not Path(config.name).is_dir():
        raise ModelError(
            f"There is no folder `{config.name}`, and nothing is fetched without being asked for: "
            "set `pretrained: true` to fetch it from the hub, or give `model_type` for random "
            "weights."
        )


def described(
    settings: Mapping[str, Json],
    config: ModelConfig,
    *,
    decided: Collection[str] = DECIDED,
    also: Collection[str] = (),
    kept: Mapping[str, Json] | None = None,
) -> ModelConfig:
    """A model described by its type and settings, so that no folder or hub is needed.

    Settings that its type has no more are left out: configs of the hub carry many that no model
    reads today.

    Args:
        settings: of its Transformers config, with the type.
        config: what it was built from.
        decided: settings that are left out.
        also: settings that are kept though the type's defaults have none.
        kept: further options.
    """
    kind = str(settings["model_type"])
    defaults = need("transformers", extra="text").AutoConfig.for_model(kind)
    known = {*defaults.to_dict(), *also} - {*decided, "model_type"}
    shown = {name: value for name, value in settings.items() if name in known}
    options = {"model_type": kind, "config": shown, **(kept or {})}
    return ModelConfig(
        source="hf",
        name=config.name,
        options=options,
        input_shape=config.input_shape,
        num_outputs=config.num_outputs,
        purpose=config.purpose,
    )
