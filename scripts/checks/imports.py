"""Checks what import-linter cannot: imports of our own package inside functions, and circles of modules.

An import inside a function is allowed only where [tool.cinderbox.lazy-imports] of pyproject.toml has it, as
``"importing module -> imported module" = "reason"``; ``*`` stands for anything. An entry that matches no import fails
too. Imports for type checking count as none. ``make lint`` runs this.
"""

import ast
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import grimp

ROOT = Path(__file__).parents[2]
PACKAGE = "csi_plugin"

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class LazyImport(NamedTuple):
    importer: str
    imported: str
    place: str
    """File and line."""

    def __str__(self) -> str:
        return f"{self.importer} -> {self.imported}"


def main() -> int:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    allowed = settings["tool"]["cinderbox"]["lazy-imports"]
    problems = [*check_lazy_imports(find_lazy_imports(ROOT), allowed), *check_circles()]
    print("\n".join(problems) or "Imports inside functions and circles: as agreed")
    return 1 if problems else 0


def check_lazy_imports(found: list[LazyImport], allowed: dict[str, str]) -> Iterator[str]:
    """One line for each import that is not allowed, and for each allowance that nothing uses or that has no reason."""
    for one in found:
        if not any(fnmatchcase(str(one), pattern) for pattern in allowed):
            yield (
                f"{one.place}: {one.importer} imports {one.imported} inside a function; move it to the top of the"
                " module, or give the reason in [tool.cinderbox.lazy-imports] of pyproject.toml"
            )
    for pattern, reason in allowed.items():
        if not any(fnmatchcase(str(one), pattern) for one in found):
            yield f"pyproject.toml: no import is '{pattern}' any more; remove it from [tool.cinderbox.lazy-imports]"
        if not reason.strip():
            yield f"pyproject.toml: '{pattern}' of [tool.cinderbox.lazy-imports] needs a reason"


def check_circles() -> Iterator[str]:
    """One line for a circle of modules; imports inside functions and of package roots take part in it."""
    graph = grimp.build_graph(PACKAGE, exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        # Each module of it is imported by the one after it.
        yield f"A circle of imports: {' -> '.join(reversed(error.args[1]))}"


def find_lazy_imports(root: Path) -> list[LazyImport]:
    """Imports of the package's own modules inside functions, in the package below ``root``."""
    found = []
    for path in sorted((root / PACKAGE).rglob("*.py")):
        importer = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for statement in _inside_functions(ast.parse(path.read_text()), inside=False):
            for imported in _imported(statement, root):
                found.append(LazyImport(importer, imported, f"{path.relative_to(root)}:{statement.lineno}"))
    return found


def _inside_functions(node: ast.AST, *, inside: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    if inside and isinstance(node, ast.Import | ast.ImportFrom):
        yield node
    inside = inside or isinstance(node, _FUNCTIONS)
    # What is under TYPE_CHECKING is for type checkers; what is beside it, in `else`, is not.
    children = node.orelse if isinstance(node, ast.If) and _is_type_checking(node.test) else ast.iter_child_nodes(node)
    for child in children:
        yield from _inside_functions(child, inside=inside)


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _imported(statement: ast.Import | ast.ImportFrom, root: Path) -> Iterator[str]:
    if isinstance(statement, ast.Import):
        names = [alias.name for alias in statement.names]
    elif statement.level:
        names = []  # ruff and review keep relative imports out
    else:
        names = [_module(statement.module or "", alias.name, root) for alias in statement.names]
    # Several names of one module are one import.
    yield from (name for name in dict.fromkeys(names) if name.partition(".")[0] == PACKAGE)


def _module(module: str, name: str, root: Path) -> str:
    """The module that ``from module import name`` loads: ``name`` is a module itself, or something in ``module``."""
    path = root.joinpath(*module.split("."), name)
    return f"{module}.{name}" if path.with_suffix(".py").exists() or path.is_dir() else module


if __name__ == "__main__":
    sys.exit(main())
