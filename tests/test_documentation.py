"""The documentation is true: links lead somewhere, and generated pages are those that the code makes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.project import PROJECT

PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    missing = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize(
    ("page", "command"),
    [
        ("settings.md", ["-m", "csi_plugin.cli", "settings"]),
        (
            "commands.md",
            ["-m", "typer", "csi_plugin.cli.main", "utils", "docs", "--name", "cinderbox", "--title", "Commands"],
        ),
        ("backends/drivers.md", ["scripts/generate/drivers_page.py"]),
        ("backends/database-calls.md", ["scripts/generate/database_calls_page.py"]),
    ],
)
def test_generated_pages_are_fresh(page: str, command: list[str]) -> None:
    made = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True, cwd=PROJECT).stdout
    assert (PROJECT / "docs" / page).read_text().strip() == made.strip(), "run `make docs`"


def test_every_page_is_listed_in_the_readme() -> None:
    readme = (PROJECT / "README.md").read_text()
    assert [page.name for page in PROJECT.glob("docs/*.md") if f"docs/{page.name}" not in readme] == []


def test_every_folder_is_on_the_map() -> None:
    """With docs/architecture.md a newcomer finds where a thing lives."""
    files = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True, cwd=PROJECT).stdout.split(
        "\n"
    )
    packages = {str(Path(name).parent) for name in files if name.startswith("csi_plugin/") and name.endswith(".py")}
    packages = {folder for folder in packages if "migrations" not in folder}  # of dbms, where Alembic wants them
    tops = {name.partition("/")[0] for name in files if "/" in name and not name.startswith(".")}
    page = (PROJECT / "docs" / "architecture.md").read_text().partition("## Map")[2]
    assert set(re.findall(r"^\| `([\w/]+)` \|", page, re.MULTILINE)) == packages | tops
