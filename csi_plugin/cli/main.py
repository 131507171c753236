"""The ``cinderbox`` command."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="cinderbox",
    help="A CSI driver that runs OpenStack Cinder's volume drivers, without OpenStack.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(
    context: typer.Context,
    settings: Annotated[Path | None, typer.Option(help="YAML file with settings.")] = None,
) -> None:
    """Serve CSI. Every setting is a flag too (--endpoint, --mode, --node-id ...); see `cinderbox settings`."""
    from csi_plugin.server.serve import EXIT_SETTINGS
    from csi_plugin.server.serve import serve as run
    from csi_plugin.server.settings import SettingsError, load

    try:
        loaded = load(_flags(context.args), file=settings)
    except SettingsError as error:
        typer.echo(f"cinderbox: {error}", err=True)
        raise typer.Exit(EXIT_SETTINGS) from None
    sys.exit(run(loaded))


@app.command()
def version() -> None:
    """Print the version."""
    from csi_plugin.server.identity import own_version

    typer.echo(own_version())


def _flags(arguments: list[str]) -> dict[str, Any]:
    """--some-setting value, --some-setting=value, and --flag alone for true; values as in the environment."""
    from csi_plugin.server.settings import SettingsError, parse_text

    values: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise SettingsError(f"unexpected argument {word!r}")
        name, separator, text = word.removeprefix("--").partition("=")
        if not separator:
            text = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        name = name.replace("-", "_")
        values[name] = parse_text(name, text, source=f"flag --{name.replace('_', '-')}")
    return values
