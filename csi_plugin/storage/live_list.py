"""Lists that follow what happens to their items' storage."""

from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


class LiveList(list[T]):
    """A list from which items go while programs walk through it: they delete what it holds. A walk has all that were
    there at its beginning."""

    def __iter__(self) -> Iterator[T]:
        return iter(self[:])
