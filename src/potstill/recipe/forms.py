"""What all parts of a recipe are: frozen, and strict about their keys."""

from pydantic import BaseModel, ConfigDict, JsonValue

Options = dict[str, JsonValue]


class Strict(BaseModel):
    """Frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Open(BaseModel):
    """Frozen, with free options that the named thing checks itself."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    @property
    def options(self) -> Options:
        """The keys beyond the declared ones."""
        return dict(self.model_extra or {})
