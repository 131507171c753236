"""Output for humans or for programs."""

import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="A table for humans, or JSON.")]


def show(rows: Sequence[Mapping[str, Any]], output: Output, *, empty: str) -> None:
    """Print rows that all have the same keys; ``empty`` is said to humans when there are none."""
    if output is Output.JSON:
        print(json.dumps(rows, indent=2, default=str))
        return
    if not rows:
        typer.echo(empty, err=True)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in rows[0]:
        table.add_column(name.upper().replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    # Where nobody looks at it (a pipe, a file), a row stays on a line.
    Console(width=None if sys.stdout.isatty() else 1000).print(table)
