"""Each term is documented in one form, and the page of losses knows them all."""

import re
from pathlib import Path

import pytest

from potstill import losses as L
from potstill.protocols import Term

HEADINGS = ("Formula:", "Shapes:", "Paper:", "Requires:", "Related:", "Example:")
PAGE = Path(__file__).parents[3] / "docs" / "losses.md"


@pytest.mark.parametrize("name", L.TERMS)
def test_the_docstring_has_its_six_headings_in_order(name: str) -> None:
    text = L.TERMS[name].__doc__

    places = [text.find(f"\n    {heading}") for heading in HEADINGS]

    assert min(places) > 0, dict(zip(HEADINGS, places, strict=True))
    assert places == sorted(places)


@pytest.mark.parametrize("name", L.TERMS)
def test_the_paper_can_be_found(name: str) -> None:
    paper = L.TERMS[name].__doc__.split("Paper:")[1].split("Requires:")[0]

    assert re.search(r"arXiv:\d{4}\.\d{4,5}|doi:10\.\d{4,}/\S+", paper)


@pytest.mark.parametrize("name", L.TERMS)
def test_the_example_runs_and_uses_the_term(name: str) -> None:
    example = re.search(r"Example: `(.+)`", L.TERMS[name].__doc__).group(1)

    made = eval(example, {n: getattr(L, n) for n in L.__all__})

    used = [made] if isinstance(made, Term) else [term for _, term in made]
    assert L.TERMS[name] in [type(term) for term in used]


@pytest.mark.parametrize("name", L.TERMS)
def test_every_option_is_described(name: str) -> None:
    from potstill.losses.catalog import options

    described = L.TERMS[name].__doc__.partition("Args:")[2]

    assert [o for o in options(name) if f"\n        {o}: " not in described] == []


@pytest.mark.parametrize("name", L.TERMS)
def test_the_page_of_losses_has_an_entry_with_name_and_paper(name: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    entry = re.search(rf"### {L.TERMS[name].__name__} · `{name}`\n(.*?)(?=\n###? |\Z)", page, re.S)

    assert entry, "no entry"
    for heading in ("**Formula**", "**Needs**", "**Defaults**", "**Paper**"):
        assert heading in entry.group(1)
    paper = L.TERMS[name].__doc__.split("Paper:")[1].split("Requires:")[0]
    for reference in re.findall(r"arXiv:(\d{4}\.\d{4,5})|doi:(10\.\d{4,}/[\w.]+)", paper):
        assert next(filter(None, reference)) in entry.group(1)


def test_the_page_of_losses_has_no_entry_too_many() -> None:
    entries = re.findall(r"^### \w+ · `(\w+)`$", PAGE.read_text(encoding="utf-8"), re.M)

    assert sorted(entries) == sorted(L.TERMS)
