"""Output for humans or for programs."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from csi_plugin.printable import printable
from csi_plugin.secrets_in_text import redact_text


class Output(StrEnum):
    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="A table for humans, or JSON.")]


def age(created: datetime | None) -> str:
    """How long ago that was, in the two largest units, as kubectl has it: 3d4h; empty when it is not known."""
    if created is None:
        return ""
    left = max(0, int((datetime.now(UTC) - created).total_seconds()))
    parts: list[str] = []
    for unit, seconds in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, seconds)
        if count or parts or unit == "s":
            parts.append(f"{count}{unit}")
    return "".join(parts[:2])


def complain(text: str) -> None:
    """Say on standard error what went wrong."""
    say(f"cinderbox: {text}", err=True)


def say(text: str, *, err: bool = False) -> None:
    """Print a text that may quote names, or errors, from outside."""
    typer.echo(printable(redact_text(text), keep="\n"), err=err)


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
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in rows[0]:
        table.add_column(name.upper().replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if value is None else printable(str(value))) for value in row.values()))
    # Where nobody looks at it (a pipe, a file), a row stays on a line.
    Console(width=None if sys.stdout.isatty() else 1000).print(table)
