"""A real pgbouncer before a PostgreSQL server of tests: each transaction may get another connection of the server's."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.polling import wait_until
from tests.support.postgresql import PostgreSQL


@contextmanager
def pooling(server: PostgreSQL, url: str, *, connections: int) -> Iterator[str]:
    """The URL of a database through a pooler that keeps so many connections to the server."""
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n* = host={server.directory} user={server.user} pool_size={connections}\n"
        f"[pgbouncer]\nunix_socket_dir = {folder}\nlisten_port = 6432\nauth_type = any\npool_mode = transaction\n"
        "server_round_robin = 1\nmax_client_conn = 300\n"
    )
    if server.account:  # it refuses to run as root, too
        shutil.chown(folder, server.account)
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, settings], user=server.account, stdout=log, stderr=log)
    try:
        wait_until((folder / ".s.PGSQL.6432").exists, (folder / "log").read_text)
        yield f"{url.partition('?')[0]}?host={folder}&port=6432"
    finally:
        process.kill()
        process.wait(30)
        shutil.rmtree(folder)
