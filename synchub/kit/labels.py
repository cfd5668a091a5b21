"""Names in metrics, as many as a reader of metrics can bear."""

from __future__ import annotations

from typing import Final

OTHER: Final = "other"
"""What stands for everybody who came when the places were taken."""


class BoundedLabels:
    """The first so many names keep theirs; all further ones are :data:`OTHER`.

    For counters and histograms, which add up. A gauge of several that share one name would show whoever wrote
    last: set it only for those that :meth:`has`.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def of(self, name: str) -> str:
        """Return the name, or :data:`OTHER`."""
        if name in self._known:
            return name
        if len(self._known) >= self._most:
            return OTHER
        self._known.add(name)
        return name

    def has(self, name: str) -> bool:
        """Say whether the name stands for itself."""
        return self.of(name) == name
