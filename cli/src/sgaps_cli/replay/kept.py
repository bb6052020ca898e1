"""Results that are kept while they are used and fit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Kept(Generic[Key, Value]):
    """The values used last, as many as their sizes allow; always at least the newest."""

    def __init__(
        self,
        room: int,
        *,
        size_of: Callable[[Value], int] = lambda _: 1,
        let_go: Callable[[Value], None] = lambda _: None,
    ) -> None:
        """`let_go` hears of every value that is dropped."""
        self._room = room
        self._size_of = size_of
        self._let_go = let_go
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._size = 0

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of a key, made if it is not there; what `make` raises is passed on."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        value = self._values[key] = make()
        self._size += self._size_of(value)
        while self._size > self._room and len(self._values) > 1:
            self._drop()
        return value

    def clear(self) -> None:
        while self._values:
            self._drop()

    def _drop(self) -> None:
        _, value = self._values.popitem(last=False)
        self._size -= self._size_of(value)
        self._let_go(value)
