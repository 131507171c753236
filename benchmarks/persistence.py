"""How fast the db plugin is, against Cinder's own layer on the same tables and the same disk.

    python benchmarks/persistence.py [--volumes 10000] [--connection URL] [--directory DIR]

Ratios are between figures of one run, so they hold on a busy machine too.
"""

import argparse
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.dbms import DBPersistence
from csi_plugin.persistence.memory import MemoryPersistence
from csi_plugin.persistence.records import Intent, VolumeRecord
from csi_plugin.persistence.sealing import Sealer, SealingStore


def a_volume(number: int) -> VolumeRecord:
    return VolumeRecord(
        id=str(uuid.uuid4()),
        host="host@backend#pool",
        status="available",
        display_name=f"volume {number}",
        provider_location=f"192.0.2.1:3260,1 iqn.2026-01.org.example:volume-{number} 1",
        provider_auth="CHAP user password",
        metadata={"csi.storage.k8s.io/pvc/name": f"claim-{number}"},
        intent=Intent(name=f"pvc-{number}", fingerprint="0" * 64, request={"parameters": {}, "capacity": [1, None]}),
    )


def per_second(count: int, work: Callable[[int], Any]) -> float:
    started = time.perf_counter()
    for number in range(count):
        work(number)
    return count / (time.perf_counter() - started)


def milliseconds(work: Callable[[], Any], repeat: int = 20) -> float:
    def once() -> float:
        started = time.perf_counter()
        work()
        return (time.perf_counter() - started) * 1000

    return statistics.median(once() for _ in range(repeat))


def measure(store: RecordStore, volumes: int) -> dict[str, float]:
    """Figures of a store after it was filled with that many volumes."""
    ids: list[str] = []
    creates = per_second(volumes, lambda number: ids.append(store.create(a_volume(number)).id))
    middle = sorted(ids)[volumes // 2]

    def update(number: int) -> None:
        record = store.get(VolumeRecord, ids[number])
        assert record is not None
        record.status = "in-use"
        store.update(record)

    return {
        "creates per second": creates,
        "updates per second": per_second(min(volumes, 500), update),
        "gets per second": per_second(500, lambda number: store.get(VolumeRecord, ids[number])),
        "page of 100, ms": milliseconds(lambda: store.find(VolumeRecord, after=middle, limit=100)),
        "page of 100 of a backend, ms": milliseconds(
            lambda: store.find(VolumeRecord, backend="backend", after=middle, limit=100)
        ),
        "lookup by CSI name, ms": milliseconds(lambda: store.find(VolumeRecord, csi_name=f"pvc-{volumes // 2}")),
    }


def measure_cinder(connection: str, volumes: int) -> dict[str, float]:
    """The same of Cinder's own layer, as versioned objects use it."""
    store = DBPersistence(connection)
    from cinder import context, objects

    objects.register_all()
    admin = context.get_admin_context()
    ids: list[str] = []

    def create(number: int) -> None:
        record = a_volume(number)
        volume = objects.Volume(
            admin,
            host=record.host,
            status=record.status,
            size=record.size,
            display_name=record.display_name,
            provider_location=record.provider_location,
            provider_auth=record.provider_auth,
            metadata=record.metadata,
            volume_type_id=store._default_type_id,
        )
        volume.create()
        ids.append(volume.id)

    def update(number: int) -> None:
        volume = objects.Volume.get_by_id(admin, ids[number])
        volume.status = "in-use"
        volume.save()

    creates = per_second(volumes, create)
    middle = sorted(ids)[volumes // 2]
    figures = {
        "creates per second": creates,
        "updates per second": per_second(min(volumes, 500), update),
        "gets per second": per_second(500, lambda number: objects.Volume.get_by_id(admin, ids[number])),
        "page of 100, ms": milliseconds(
            lambda: objects.VolumeList.get_all(admin, marker=middle, limit=100, sort_keys=["id"], sort_dirs=["asc"]), 5
        ),
        "page of 100 of a backend, ms": milliseconds(
            lambda: objects.VolumeList.get_all(
                admin,
                marker=middle,
                limit=100,
                sort_keys=["id"],
                sort_dirs=["asc"],
                filters={"host": "host@backend#pool"},
            ),
            5,
        ),
        "lookup by CSI name, ms": milliseconds(
            lambda: objects.VolumeList.get_all(admin, filters={"display_name": f"volume {volumes // 2}"}), 5
        ),
    }
    store.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--volumes", type=int, default=10_000)
    parser.add_argument("--connection", help="SQLAlchemy URL of an empty database (default: SQLite in --directory)")
    parser.add_argument("--directory", type=Path, help="where SQLite's files go (default: a temporary directory)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        connection = arguments.connection or f"sqlite:///{directory}/ours.sqlite"
        other = arguments.connection or f"sqlite:///{directory}/cinder.sqlite"
        cinder = measure_cinder(other, min(arguments.volumes, 2000))
        stores = {
            "db": DBPersistence(connection),
            "memory": MemoryPersistence(),
        }
        columns = {name: measure(store, arguments.volumes) for name, store in stores.items()}
        sealed = SealingStore(DBPersistence(f"sqlite:///{directory}/sealed.sqlite"), Sealer([b"k" * 32]))
        columns["db sealed"] = measure(sealed, arguments.volumes)
    print(f"{arguments.volumes} volumes (Cinder's layer: {min(arguments.volumes, 2000)})\n")
    print(f"{'':30}{'Cinder':>12}" + "".join(f"{name:>12}{'ratio':>8}" for name in columns))
    for figure, theirs in cinder.items():
        cells = ""
        for values in columns.values():
            ratio = theirs / values[figure] if figure.endswith("ms") else values[figure] / theirs
            cells += f"{values[figure]:12.2f}{ratio:7.1f}x"
        print(f"{figure:30}{theirs:12.2f}{cells}")


if __name__ == "__main__":
    main()
