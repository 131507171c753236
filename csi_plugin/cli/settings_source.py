"""The settings of a command: the same as those of ``cinderbox serve``, from the same places."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csi_plugin.cli.output import complain
from csi_plugin.persistence.base import InvalidPersistence, PersistenceError, RecordStore

if TYPE_CHECKING:
    from csi_plugin.server.settings import Settings

EXIT_SETTINGS = 2
SettingsOption = Annotated[Path | None, typer.Option(help="YAML file with settings; the environment counts too.")]


@contextmanager
def readable_errors() -> Iterator[None]:
    """Settings and metadata that cannot work end the command with one line and exit status 2."""
    from csi_plugin.server.settings import SettingsError

    try:
        yield
    except (SettingsError, InvalidPersistence, PersistenceError) as error:
        complain(str(error))
        raise typer.Exit(EXIT_SETTINGS) from None
    except PermissionError as error:
        complain(f"{error.filename or error}: this user may not read or write it; run the command as the server's user")
        raise typer.Exit(EXIT_SETTINGS) from None


def load_settings(file: Path | None, flags: Mapping[str, Any] | None = None, *, serves: bool = False) -> "Settings":
    """The settings; those that one ``serves`` with need backends. Ends the command when they cannot work."""
    from csi_plugin.server.settings import load

    with readable_errors():
        return load(flags, file=file, serves=serves)


@contextmanager
def metadata(file: Path | None) -> Iterator[RecordStore]:
    """The metadata that the settings name, open. Ends the command when it is out of reach."""
    settings = load_settings(file)
    if settings.persistence.get("storage", "memory") in ("memory", "memory_db"):
        complain("persistence: this metadata is in the memory of the serving process alone")
        raise typer.Exit(EXIT_SETTINGS)
    from csi_plugin.server.metadata_store import open_store

    with readable_errors():
        store = open_store(settings)
        try:
            yield store
        finally:
            store.close()
