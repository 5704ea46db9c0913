"""The reference names every command and every setting, and nothing that does not exist."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import typer.main

from assay.cli.app import app
from assay.delivery.gate_pages import gate_index, gate_page
from assay.features.definition.bars import KINDS
from assay.features.definition.reference import reference_page
from assay.features.definition.window_text import KEYS, SECTIONS
from assay.registry.diagram import lifecycle_markdown, lifecycle_svg
from assay.settings import Settings
from assay.validation.catalogue import CATALOGUE

ROOT = Path(__file__).parents[2]


def all_commands() -> set[str]:
    found: set[str] = set()

    def walk(prefix: str, command: object) -> None:
        children = getattr(command, "commands", None)
        if children is None:
            found.add(prefix)
            return
        for name, child in children.items():
            walk(f"{prefix} {name}", child)

    walk("assay", typer.main.get_command(app))
    return found


def test_every_command_is_in_the_reference_and_no_other() -> None:
    text = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(assay [a-z -]+?)(?: [A-Z\[].*?)?` \|", text, re.MULTILINE))
    assert documented == all_commands()


def test_the_page_of_operators_is_what_the_operators_say() -> None:
    page = (ROOT / "docs/reference/operators.md").read_text(encoding="utf-8")
    assert page.strip() == reference_page().strip(), (
        "assay features operators --markdown > docs/reference/operators.md"
    )


def test_every_gate_has_its_page_as_the_command_explains_it_and_no_other_has_one() -> None:
    folder = ROOT / "docs/reference/gates"
    for name in CATALOGUE:
        said = f"assay gates explain {name} --markdown > docs/reference/gates/{name}.md"
        assert (folder / f"{name}.md").read_text(encoding="utf-8") == gate_page(name), said
    assert (folder / "README.md").read_text(encoding="utf-8") == gate_index(), (
        "assay gates list --markdown > docs/reference/gates/README.md"
    )
    assert {page.stem for page in folder.iterdir()} == {*CATALOGUE, "README"}


def test_the_page_of_the_registry_shows_the_rules_of_a_versions_life() -> None:
    page = (ROOT / "docs/explanation/registry.md").read_text(encoding="utf-8")
    assert f"\n\n{lifecycle_markdown()}\n" in page, "assay models lifecycle --markdown"
    picture = (ROOT / "docs/explanation/lifecycle.svg").read_text(encoding="utf-8")
    assert picture == lifecycle_svg(), (
        "assay models lifecycle --svg > docs/explanation/lifecycle.svg"
    )


def test_every_key_of_the_file_of_windows_is_in_its_reference_and_no_other() -> None:
    text = (ROOT / "docs/reference/windows-file.md").read_text(encoding="utf-8")
    keys = [re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE) for part in text.split("\n## ")]
    assert keys[0] == list(SECTIONS)
    assert [sorted(part) for part in keys[1:]] == [sorted(part) for part in KEYS.values()]
    assert all(f"`{kind}`" in text or f"{{{kind}:" in text for kind in KINDS)


def test_every_setting_is_in_the_reference_with_its_default() -> None:
    text = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z]+\.[a-z0-9_]+)` \| `?(.*?)`? \|", text, re.MULTILINE))
    expected = {
        f"{section.name}.{item.name}": str(item.default)
        for section in dataclasses.fields(Settings)
        for item in dataclasses.fields(type(getattr(Settings(), section.name)))
    }
    assert rows == expected


def test_every_link_inside_the_documentation_leads_somewhere() -> None:
    folders = [ROOT / name for name in ("docs", "examples", "changes")]
    for page in [*ROOT.glob("*.md"), *(page for one in folders for page in one.rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} -> {target}"
