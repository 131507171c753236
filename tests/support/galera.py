"""A Galera cluster of one MariaDB server: its rules of locks and transactions hold, and there is nobody to wait for."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.mariadb import MariaDB
from tests.support.network import free_ports
from tests.support.polling import wait_until

PROVIDER = "/usr/lib/galera/libgalera_smm.so"
"""Debian: galera-4."""


@contextmanager
def galera(folder: Path) -> Iterator[MariaDB]:
    """A server that is the first of a cluster, for the length of a block."""
    folder.mkdir(parents=True)
    server = MariaDB(folder)
    server.execute("CREATE DATABASE mysql")  # without accounts there is none, and the cluster keeps its members there
    server.stop()
    port, transfer_port = free_ports(2)
    provider = (
        f"base_port={port};gmcast.listen_addr=tcp://127.0.0.1:{port};ist.recv_addr=127.0.0.1:{transfer_port};"
        "gcache.size=8M;gcache.page_size=8M"
    )
    try:
        server.start(
            *("--wsrep-on=ON", f"--wsrep-provider={PROVIDER}", f"--wsrep-provider-options={provider}"),
            *("--wsrep-cluster-name=test", "--wsrep-cluster-address=gcomm://", "--wsrep-node-address=127.0.0.1"),
            *("--wsrep-new-cluster", "--binlog-format=ROW", "--innodb-autoinc-lock-mode=2"),
        )
        wait_until(lambda: _is_ready(server), lambda: "the server is no member of its cluster yet")
        yield server
    finally:
        server.kill()


def _is_ready(server: MariaDB) -> bool:
    return server.execute("SHOW STATUS LIKE 'wsrep_ready'") == [("wsrep_ready", "ON")]
