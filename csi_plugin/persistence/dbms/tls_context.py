"""TLS to MariaDB and MySQL for which nobody set options: used where the server offers it, and nobody is verified.

pymysql reads all certificate authorities of the machine for each such connection, 30 ms of processor time, and then
trusts none of them.
"""

import ssl
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event


def share(engine: sa.Engine) -> None:
    """Let the connections that an engine will open through pymysql share one context; those of other drivers stay."""
    if engine.dialect.driver != "pymysql":
        return
    from pymysql.connections import Connection  # an optional dependency

    unverified: list[ssl.SSLContext] = []

    class SharingConnection(Connection):  # type: ignore[misc]
        def _create_ssl_ctx(self, sslp: dict[str, Any] | ssl.SSLContext) -> ssl.SSLContext:
            if sslp:
                return super()._create_ssl_ctx(sslp)  # type: ignore[no-any-return]
            if not unverified:
                unverified.append(super()._create_ssl_ctx(sslp))
            return unverified[0]

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
        return SharingConnection(*arguments, **options)
