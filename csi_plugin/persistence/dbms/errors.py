"""What database servers and SQLAlchemy raise, as errors of persistence."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from oslo_db import exception as db_exception

from csi_plugin.persistence.base import PersistenceError, UnstorableText
from csi_plugin.persistence.dbms import requirements

_REFUSED_COLUMN = re.compile(r"Incorrect string value.* for column (\S+)")


class DuplicateRow(PersistenceError):
    """A row with that key is there."""


class DanglingReference(PersistenceError):
    """A foreign key would point nowhere."""


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn the database's errors into PersistenceError."""
    try:
        yield
    except db_exception.DBDuplicateEntry as error:
        raise DuplicateRow(f"database: {error}") from error
    except db_exception.DBReferenceError as error:
        raise DanglingReference(f"a record refers to one that does not exist: {error}") from error
    except (db_exception.DBError, sa.exc.SQLAlchemyError) as error:
        if column := _unstorable(error):
            raise UnstorableText(
                f"{column} cannot be stored in this database: names, parameters and labels must not have U+0000 on "
                "PostgreSQL, nor characters beyond U+FFFF (emoji) on MariaDB with utf8mb3"
            ) from error
        raise PersistenceError(f"database: {error}") from error


@contextmanager
def opening_errors() -> Iterator[None]:
    """As database_errors(), and InvalidPersistence for what only a person can end."""
    with database_errors():
        try:
            yield
        except (db_exception.DBError, sa.exc.SQLAlchemyError) as error:
            if refused := requirements.refusal(error):
                raise refused from error
            raise


def _unstorable(error: Exception) -> str:
    """The column for which a text was refused, as people know it; empty when something else went wrong."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, sa.exc.DataError):
        cause = getattr(cause, "inner_exception", None) or cause.__cause__
    if cause is None:
        return ""
    text = str(cause)
    if found := _REFUSED_COLUMN.search(text):
        return f"{found[1].replace('`', '').rpartition('.')[2]}: a text"
    return "a text" if "NUL" in text else ""
