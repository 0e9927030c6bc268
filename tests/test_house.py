"""Rules about the project's own files that no other tool checks."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("store", "engine", "cli", "migrations")
FOLDERS = {*PACKAGES, "tests", "docs", ".ci"}
TEXTS = {".py", ".toml", ".md", ".txt", ".mako", ".ini", ".cfg", ".yml", ".yaml", ""}
PLACES = ("/" + "work/", ".." + "/shared", "/" + "root/")  # of one developer's machine; put together to pass
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def made_here() -> set[str]:
    """Folders that tools make, which are not the project's: git ignores them."""
    lines = (ROOT / ".gitignore").read_text().splitlines()
    return {line.strip("/") for line in lines if line.endswith("/")} | {".git"}


def modules(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def texts() -> Iterator[Path]:
    ignored = made_here()
    yield from (
        file
        for file in sorted(ROOT.iterdir())
        if file.is_file() and file.suffix in TEXTS and file.name not in ignored
    )
    for folder in sorted(FOLDERS - {".ci"}):  # .ci wires the project to the place it is checked in
        for file in sorted((ROOT / folder).rglob("*")):
            if (
                file.is_file()
                and file.suffix in TEXTS
                and not ignored.intersection(file.relative_to(ROOT).parts)
            ):
                yield file


def imported(module: Path) -> set[str]:
    """The top-level names that a module imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module.partition(".")[0])
    return names


def test_the_top_level_holds_only_the_rooms_of_the_house() -> None:
    found = {entry.name for entry in ROOT.iterdir() if entry.is_dir()}
    strangers = {name for name in found - FOLDERS - made_here() if not name.endswith(".egg-info")}
    assert strangers == set()


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(module.relative_to(ROOT))
        for module in modules(*PACKAGES)
        if not ast.get_docstring(ast.parse(module.read_text()))
    ]
    assert silent == []


def test_released_migrations_stand_alone() -> None:
    leaning = {
        module.name: sorted(imported(module).intersection(PACKAGES))
        for module in modules("migrations/versions")
        if imported(module).intersection(PACKAGES)
    }
    assert leaning == {}


def test_no_file_names_a_place_on_one_machine() -> None:
    named = [
        f"{file.relative_to(ROOT)}: {place}"
        for file in texts()
        for place in PLACES
        if place in file.read_text(errors="replace")
    ]
    assert named == []


def test_the_changelog_leads_with_what_is_unreleased_then_this_version() -> None:
    headings = re.findall(r"^## \[([^]]+)\](?: - (\S+))?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings, "CHANGELOG.md has no version headings"
    assert headings[0] == ("Unreleased", "")
    released = headings[1:]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", date) for _, date in released)
    if released:
        assert released[0][0] == PROJECT["version"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of the files in the wheel that this checkout builds."""
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed (pip install hatchling)")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    assert path.name.startswith(f"mailgate-{PROJECT['version']}-")
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_four_packages_and_nothing_else(wheel: set[str]) -> None:
    tops = {name.partition("/")[0] for name in wheel}
    assert tops == {*PACKAGES, f"mailgate-{PROJECT['version']}.dist-info"}


def test_the_wheel_holds_every_module_and_its_data(wheel: set[str]) -> None:
    wanted = {str(module.relative_to(ROOT)) for module in modules(*PACKAGES)}
    wanted |= {f"{package}/py.typed" for package in PACKAGES} | {
        "migrations/script.py.mako",
        "cli/page.html.j2",
    }
    assert wanted - wheel == set()


def test_links_within_the_manual_lead_somewhere() -> None:
    manual = (ROOT / "README.md").read_text()
    titles = [line.lstrip("#").strip().lower() for line in manual.splitlines() if re.match("#+ ", line)]
    anchors = {re.sub(r"[^a-z0-9 -]", "", title).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([a-z0-9-]+)\)", manual)) <= anchors
