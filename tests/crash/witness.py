"""What a WitnessedDriver has told: which process called it when."""

from itertools import pairwise
from pathlib import Path


def reigns(witness: Path) -> list[int]:
    """The processes whose driver was called, in order; one that was called again after another comes twice."""
    callers: list[int] = []
    for line in sorted(witness.read_text().splitlines()):
        caller = int(line.split()[1])
        if callers[-1:] != [caller]:
            callers.append(caller)
    return callers


def check_one_at_a_time(witness: Path) -> None:
    """No process called after another one had begun to."""
    callers = reigns(witness)
    assert len(callers) == len(set(callers)), [f"{one} before {other}" for one, other in pairwise(callers)]
