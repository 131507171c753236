"""What a database server must be and allow, and which of its refusals only a person can end."""

import logging
import re
from contextlib import closing
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from csi_plugin.persistence.base import InvalidPersistence

OLDEST = {"PostgreSQL": (12,), "MariaDB": (10, 3), "MySQL": (8, 0, 17)}
_CHARACTER_SETS = ("utf8", "utf8mb3", "utf8mb4")

_NO_DATABASE = "it does not exist; create it"
_CLOSED = "it takes no connections: ALTER DATABASE ... ALLOW_CONNECTIONS true"
_NO_ENTRY = "the user, its password or its host is not accepted; check the URL, and the server's accounts"
_NO_RIGHTS = "the user lacks rights; grant it all of them on the database"
_NO_SCHEMA = "no schema to create tables in; the user's search_path must name one on which it has USAGE and CREATE"
_NO_SCHEMA_RIGHTS = "the user lacks rights; grant it USAGE and CREATE on the schema, and all rights on tables in it"

# What servers answer when it is of no use to ask again, by SQLSTATE (PostgreSQL) and number (MariaDB, MySQL).
_REFUSALS: dict[str | int, str] = {
    "28000": _NO_ENTRY,
    "28P01": _NO_ENTRY,
    "3D000": _NO_DATABASE,
    "3F000": _NO_SCHEMA,
    "42501": _NO_SCHEMA_RIGHTS,
    1044: _NO_RIGHTS,
    1045: _NO_ENTRY,
    1049: _NO_DATABASE,
    1130: _NO_ENTRY,  # the host
    1142: _NO_RIGHTS,
    1227: _NO_RIGHTS,
    1698: _NO_ENTRY,  # by another plugin than the server's
    1820: _NO_ENTRY,  # the password has to be changed, or has expired
    1862: _NO_ENTRY,
    3118: _NO_ENTRY,  # locked, in MySQL and in MariaDB
    4151: _NO_ENTRY,
}
_REFUSED_CONNECTIONS = (
    (re.compile('FATAL: +database ".*" does not exist'), _NO_DATABASE),
    (re.compile('FATAL: +database ".*" is not currently accepting connections'), _CLOSED),
    (
        re.compile(
            r'FATAL: +(password authentication failed|role ".*" (does not exist|is not permitted to log in)'
            r"|no pg_hba\.conf entry|pg_hba\.conf rejects connection)|fe_sendauth: no password supplied"
        ),
        _NO_ENTRY,
    ),
    (re.compile("FATAL: +permission denied for database"), "the user lacks rights; grant it CONNECT on the database"),
)

_LOG = logging.getLogger(__name__)


def check_at_first_connection(engine: sa.Engine) -> None:
    """Raise InvalidPersistence, as an engine connects for the first time, for a server that it cannot work with."""
    if engine.dialect.name == "postgresql":
        check: Any = _check_postgresql
    elif engine.dialect.name in ("mysql", "mariadb"):
        check = _check_mysql
    else:
        return
    # Before SQLAlchemy looks at the server: to some encodings it answers with a TypeError.
    event.listen(engine, "first_connect", lambda connection, record: check(connection), insert=True)


def refusal(error: BaseException) -> InvalidPersistence | None:
    """What a person has to do, where a server will go on refusing; None where it may be asked again."""
    cause: BaseException | None = error
    while cause is not None:
        # A driver's own error is inside of SQLAlchemy's, which is inside of oslo.db's.
        original = getattr(cause, "orig", cause)
        if isinstance(original, BaseException) and (advice := _advice(original)):
            return InvalidPersistence(f"database: {advice} (the server says: {str(original).strip()})")
        cause = getattr(cause, "inner_exception", None) or cause.__cause__
    return None


def _advice(original: BaseException) -> str:
    """For what a database's driver raised."""
    # MariaDB's number says more than the SQLSTATE beside it.
    for code in (*original.args[:1], getattr(original, "sqlstate", None), getattr(original, "pgcode", None)):
        if isinstance(code, str | int) and code in _REFUSALS:
            return _REFUSALS[code]
    # While it connects, libpq has a text alone.
    return next((advice for text, advice in _REFUSED_CONNECTIONS if text.search(str(original))), "")


def _check_postgresql(connection: Any) -> None:
    encoding, version = _ask(connection, "SHOW server_encoding"), _ask(connection, "SHOW server_version")
    if encoding != "UTF8":
        raise InvalidPersistence(
            f"database: its encoding is {encoding}; it must be UTF8: CREATE DATABASE ... TEMPLATE template0 ENCODING "
            "'UTF8'"
        )
    _check_version("PostgreSQL", version)


def _check_mysql(connection: Any) -> None:
    version = _ask(connection, "SELECT VERSION()")
    _check_version("MariaDB" if "mariadb" in version.lower() else "MySQL", version.removeprefix("5.5.5-"))
    character_set = _ask(connection, "SELECT @@character_set_database")
    if character_set in _CHARACTER_SETS:
        return
    problem = (
        f"database: its character set is {character_set}; it must be utf8mb4: ALTER DATABASE ... CHARACTER SET utf8mb4"
    )
    tables = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'volumes'"
    if _ask(connection, tables) == "0":
        raise InvalidPersistence(problem)
    _LOG.warning("%s, and of tables that are there: ALTER TABLE ... CONVERT TO CHARACTER SET utf8mb4", problem)


def _check_version(server: str, version: str) -> None:
    numbers = tuple(int(part) for part in version.partition("-")[0].split()[0].split(".") if part.isdigit())
    if numbers < OLDEST[server]:
        oldest = ".".join(map(str, OLDEST[server]))
        raise InvalidPersistence(f"database: {server} {version} is too old; it must be {oldest} or newer")


def _ask(connection: Any, query: str) -> str:
    with closing(connection.cursor()) as cursor:
        cursor.execute(query)
        value = cursor.fetchone()[0]
    connection.rollback()
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
