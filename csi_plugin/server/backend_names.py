"""What backends may be called."""

from collections import Counter
from collections.abc import Sequence


def check_names(names: Sequence[str]) -> None:
    """Raise ValueError for backends that have the same name, by which volumes are found, and for a name that Cinder's
    host@backend#pool cannot have.
    """
    for name in names:
        if not name.isprintable() or any(character in name for character in "@#"):
            raise ValueError(f"the name of a backend must be printable and without @ and #, not {name!r}")
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise ValueError(f"each backend needs a name of its own, and {', '.join(repeated)} is there more than once")
