"""How docstrings become pages: named paragraphs as lists, methods of a contract said once."""

import re

import griffe

# Sections that Griffe knows by itself (Args, Raises, …) are not among these.
_NAMES = ("Formula", "Shapes", "Paper", "Requires", "Related", "Example")
_PARAGRAPH = re.compile(rf"^({'|'.join(_NAMES)}):[ \n]+(.*(?:\n[ ]+.*)*)$", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Named paragraphs (`Paper: …`) become lists; what a base class says is said there alone."""

    def on_package(self, *, pkg: griffe.Module, **_: object) -> None:
        """Once the whole package is read, so that base classes are known."""
        for cls in _classes(pkg):
            if cls.docstring is not None:
                cls.docstring.value = as_list(cls.docstring.value)
            for method in _kept_contracts(cls):
                method.docstring = None  # what has no docstring is not listed


def as_list(text: str) -> str:
    """`Paper: Hinton` becomes `- **Paper** Hinton`, with an empty line before the first."""
    found = _PARAGRAPH.search(text)
    if found is None:
        return text
    items = _PARAGRAPH.sub(lambda m: f"- **{m[1]}** {' '.join(m[2].split())}", text)
    return f"{items[: found.start()].rstrip()}\n\n{items[found.start() :]}"


def _classes(module: griffe.Module) -> list[griffe.Class]:
    own = [m for m in module.members.values() if isinstance(m, griffe.Class)]
    inner = [m for m in module.members.values() if isinstance(m, griffe.Module)]
    return own + [cls for part in inner for cls in _classes(part)]


def _kept_contracts(cls: griffe.Class) -> list[griffe.Function]:
    methods = [m for m in cls.members.values() if isinstance(m, griffe.Function)]
    return [m for m in methods if any(m.name in base.members for base in cls.mro())]
