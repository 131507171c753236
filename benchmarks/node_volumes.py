"""Measures what a volume costs a node that has many: per volume at 200 against at 20, as a ratio.

One server in mode all, with the loop driver and metadata in SQLite: volumes are staged and published, asked for their
statistics and health as an orchestrator does each minute, the server is started again and the volumes staged once more,
and all are taken away. A ratio of 1 is linear. Threads and descriptors are the server's, with its children's.

    python -W ignore -m benchmarks.node_volumes [FEW MANY]
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.start import family
from csi_plugin.protocol import csi_pb2
from tests.support.claims import Claim
from tests.support.serving import Served

FEW, MANY = 20, 200

Times = dict[str, float]


def measure(folder: Path, count: int) -> tuple[Times, dict[str, int]]:
    """Seconds per volume of each step, and what the server holds with all of them."""
    served = Served(folder)
    served.start()
    try:
        claims = [Claim(served, folder / f"claim-{number}", name=f"claim-{number}") for number in range(count)]
        for claim in claims:
            claim.publish_controller()
        times = {
            "stage": per_volume(claims, Claim.stage),
            "publish": per_volume(claims, Claim.publish),
            "statistics": per_volume(claims, lambda claim: claim.stats(claim.staging)),
            "health": per_volume(claims, Claim.health),
            "storage health": storage_health(served) / count,
        }
        held = holds(served)
        served.kill()
        begin = time.monotonic()
        served.start()
        times["start with volumes, seconds in all"] = time.monotonic() - begin
        times["stage again"] = per_volume(claims, Claim.stage)
        times["unpublish"] = per_volume(claims, Claim.unpublish)
        times["unstage"] = per_volume(claims, Claim.unstage)
        for claim in claims:
            claim.remove()
        return times, held
    finally:
        served.close()


def per_volume(claims: Sequence[Claim], step: Callable[[Claim], object]) -> float:
    begin = time.monotonic()
    for claim in claims:
        step(claim)
    return (time.monotonic() - begin) / len(claims)


def storage_health(served: Served) -> float:
    begin = time.monotonic()
    served.node.NodeGetStorageHealth(csi_pb2.NodeGetStorageHealthRequest())
    return time.monotonic() - begin


def holds(served: Served) -> dict[str, int]:
    assert served.process is not None
    processes = [Path(f"/proc/{pid}") for pid in family(served.process.pid)]
    return {
        "threads": sum(len(list((process / "task").iterdir())) for process in processes),
        "descriptors": sum(len(list((process / "fd").iterdir())) for process in processes),
    }


def main() -> None:
    few, many = [int(text) for text in sys.argv[1:]] or (FEW, MANY)
    found = []
    for count in (few, many):
        with tempfile.TemporaryDirectory(prefix="cinderbox-bench-") as name:
            found.append(measure(Path(name), count))
    (few_times, few_held), (many_times, many_held) = found
    print(f"{'':36}{few:>8}{many:>8}   ratio")
    for name, before in few_times.items():
        after = many_times[name]
        unit = 1 if name.endswith("in all") else 1000
        print(f"{name:36}{before * unit:8.2f}{after * unit:8.2f}{after / before:8.2f}")
    for name, number in few_held.items():
        print(f"{name:36}{number:8}{many_held[name]:8}")
    print("Milliseconds per volume, where nothing else is said; a ratio of 1 is linear.")


if __name__ == "__main__":
    main()
