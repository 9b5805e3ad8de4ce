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

_READ_BY_ALL = (
    *("head_dim", "pad_token_id", "bos_token_id", "eos_token_id"),
    *("decoder_start_token_id", "forced_eos_token_id"),
)  # and defaults of some types only


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


def settings_of(kind: str) -> frozenset[str]:
    """The settings that models of a type have in the installed Transformers, but for the type."""
    defaults = need("transformers", extra="text").AutoConfig.for_model(kind)
    return frozenset({*defaults.to_dict(), *_READ_BY_ALL} - {"model_type"})


def in_settings_of_today(options: Mapping[str, Json]) -> dict[str, Json]:
    """Options of a saved model without settings that its type has no more, teachers' included."""
    found: dict[str, Json] = {}
    for name, value in options.items():
        if name == "config" and isinstance(value, Mapping) and "model_type" in options:
            try:
                known = settings_of(str(options["model_type"]))
            except ValueError:  # no such type: whoever builds it says so
                known = frozenset(value)
            found[name] = {key: kept for key, kept in value.items() if key in known}
        elif isinstance(value, Mapping):
            found[name] = in_settings_of_today(value)
        else:
            found[name] = value
    return found


def described(
    settings: Mapping[str, Json],
    config: ModelConfig,
    *,
    decided: Collection[str] = DECIDED,
    kept: Mapping[str, Json] | None = None,
) -> ModelConfig:
    """A model described by its type and settings, so that no folder or hub is needed.

    Settings that its type has no more are left out: configs of the hub carry many that no model
    reads today.

    Args:
        settings: of its Transformers config, with the type.
        config: what it was built from.
        decided: settings that are left out.
        kept: further options.
    """
    kind = str(settings["model_type"])
    known = settings_of(kind).difference(decided)
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
