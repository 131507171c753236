"""No transaction of a controller is committed in another one's term of the lease."""

import sqlalchemy as sa
from sqlalchemy import event

from csi_plugin.persistence.dbms.lease import EPOCHS
from csi_plugin.persistence.leases import Fence


def fence_transactions(engine: sa.Engine, fence: Fence) -> None:
    """Look at the lease's epoch in each transaction of an engine, also of Cinder's own layer, right before its commit.

    The row is locked for as long as the commit takes: a successor, who changes it first of all, comes either before and
    is seen, or waits. Within SQLite's one writer at a time nothing needs to be locked.
    """
    present = sa.select(EPOCHS.c.epoch).where(EPOCHS.c.name == fence.lease).with_for_update(read=True)

    @event.listens_for(engine, "commit")
    def check(connection: sa.Connection) -> None:
        fence.check()
        epoch = connection.execute(present).scalar()
        if epoch != fence.epoch:
            fence.refuse(f"another controller is active: the lease is in its term {epoch}, and ours was {fence.epoch}")
