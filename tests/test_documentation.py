"""The documentation is true: links lead somewhere, and generated pages are those that the code makes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import pages
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
    ],
)
def test_generated_pages_are_fresh(page: str, command: list[str]) -> None:
    made = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True, cwd=PROJECT).stdout
    assert (PROJECT / "docs" / page).read_text().strip() == made.strip(), "run `make docs`"


@pytest.mark.parametrize("page", ["README.md", "docs/kubernetes.md"])
def test_every_block_of_commands_is_run_or_says_why_not(page: str) -> None:
    """tests/support/pages.py has the form of the comment."""
    for block in pages.blocks(page):
        run, reason = re.fullmatch(r"run by (\S+)::(\w+)|not run: (.{20,})", block.comment, re.DOTALL), block.comment
        assert run, f"{page}: nobody says who runs the block behind {block.before!r}: {reason!r}"
        file, name, _ = run.groups()
        if file is None:
            continue
        text = (PROJECT / file).read_text()
        asked = re.findall(r'commands\([^,()]+, "([^"]+)"\)', text)
        assert f"def {name}(" in text
        assert any(block.before.endswith(after) for after in asked), f"{file} does not run {block.before!r}"


@pytest.mark.parametrize(
    "file", ["docs/kubernetes.md", "deploy/examples/backend.yaml", "deploy/helm/cinderbox/values.yaml"]
)
def test_drivers_of_the_first_examples_need_nothing_that_the_image_lacks(file: str) -> None:
    table = (PROJECT / "docs/backends/drivers.md").read_text().partition("## What a connection takes")[0]
    drivers = re.findall(r"driver: cinder\.volume\.drivers\.(\S+)", (PROJECT / file).read_text())
    assert drivers
    for driver in drivers:
        assert re.search(rf"^\| {re.escape(driver)} \|.*\|  \|$", table, re.MULTILINE), f"{driver} needs more"


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


def test_the_threat_model_names_tests_that_there_are() -> None:
    page = (PROJECT / "docs/threat-model.md").read_text().partition("## What holds it")[2]
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| |")][1:]
    for row in rows:
        named = re.findall(r"`(tests/[\w/.]+)::(\w+)`", row)
        assert named, f"no test holds: {row}"
        for file, name in named:
            assert f"def {name}(" in (PROJECT / file).read_text(), f"{file} has no {name}"


def test_the_table_about_cinderlib_and_its_tests_have_the_same_rows() -> None:
    page = (PROJECT / "docs/library.md").read_text()
    table = page.partition("| | cinderlib 5.2.0 | Here | Why |\n")[2].partition("\n\n")[0]
    rows = [line.removeprefix("| ").partition(" | ")[0] for line in table.splitlines()[1:]]
    sources = [path.read_text() for path in (PROJECT / "tests").rglob("test_*.py")]
    marked = [row for source in sources for row in re.findall(r'^@pytest\.mark\.cinderlib\("(.*)"\)$', source, re.M)]
    assert sorted(marked) == sorted(rows)
