"""Filters over a table of a fleet: what is chosen, what is left, the code that repeats it. No widget here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

COLUMNS: Final = ("subscription", "region", "os", "scale_set", "state", "severity", "status")
TEXT: Final = "text"
NOT_STATED: Final = "not-stated"
"""What a value that a table does not have is called; it can be chosen like any other."""
MAX_VALUES: Final = 500
"""Most values of one filter; text finds the others."""


class FleetFilters:
    """Choose rows of a table by the values of its columns and by a text.

    Args:
        frame: The table; it is not changed. Texts in it are unescaped.
        columns: Columns to choose by; those of `COLUMNS` that the table has where left out.
        unit: Column of what is counted, such as ``machine``; rows where left out or not there.

    Raises:
        ValueError: A column is not in the table.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"machine": ["a", "b"], "region": ["eastus", None]})
        >>> filters = FleetFilters(table)
        >>> filters.select(region="not-stated")
        >>> list(filters.frame["machine"])
        ['b']
        >>> filters.code()
        "view.select(region='not-stated')"
    """

    def __init__(
        self, frame: pd.DataFrame, columns: tuple[str, ...] | None = None, *, unit: str = "machine"
    ) -> None:
        missing = [name for name in columns or () if name not in frame.columns]
        if missing:
            raise ValueError(
                f"the table has no column {', '.join(missing)}; it has {', '.join(map(str, frame))}"
            )
        self.columns = columns or tuple(name for name in COLUMNS if name in frame.columns)
        self.unit = unit if unit in frame.columns else ""
        self._all = frame
        self._keys = {name: _words(frame[name]) for name in self.columns}
        self._texts: pd.Series[str] | None = None
        self._value: dict[str, str] = {}

    @property
    def value(self) -> dict[str, str]:
        """What is chosen: column to value, and ``text``; a filter that is left open is not in it."""
        return dict(self._value)

    @value.setter
    def value(self, chosen: Mapping[str, str]) -> None:
        self.select(**chosen)

    def select(self, **chosen: str | None) -> None:
        """Choose anew; filters that are not named are left open, so that no argument shows everything.

        Args:
            chosen: A value for each column, and ``text`` that must be somewhere in a row, whatever its case.
                None and an empty text leave a filter open.

        Raises:
            ValueError: There is no such filter, or the column has no such value.
        """
        given = {name: str(value) for name, value in chosen.items() if value not in (None, "")}
        for name, value in given.items():
            if name == TEXT:
                continue
            if name not in self._keys:
                raise ValueError(f"there is no filter {name!r}; there are {', '.join((*self.columns, TEXT))}")
            known = self._keys[name].unique()
            if value not in known:
                some = ", ".join(sorted(known)[:20])
                raise ValueError(f"no row has {value!r} as {name}; there are {some}")
        self._value = given

    @property
    def frame(self) -> pd.DataFrame:
        """The rows that are left, in the order of the table."""
        import pandas as pd

        keep = pd.Series(True, index=self._all.index)
        for name, value in self._value.items():
            if name == TEXT:
                keep &= self._searched().str.contains(value.casefold(), regex=False)
            else:
                keep &= self._keys[name] == value
        return self._all[keep]

    def _searched(self) -> pd.Series[str]:
        """Every row as one text, made once: free text looks at all that a person could read."""
        if self._texts is None:
            import pandas as pd

            # what is between two columns is in neither
            parts = [_words(self._all[name]).str.casefold() for name in self._all.columns]
            texts = pd.Series("", index=self._all.index, dtype=object)
            for part in parts:
                texts = texts + "\n" + part
            self._texts = texts
        return self._texts

    def options(self, column: str) -> list[tuple[str, int]]:
        """Return the values of a column and how many machines (or rows) of the whole table have each.

        The commonest `MAX_VALUES` are returned, in the order of the alphabet.
        """
        import pandas as pd

        keys = self._keys[column]
        if self.unit:
            pairs = pd.DataFrame({"key": keys, "unit": self._all[self.unit].astype(str)}).drop_duplicates()
            counts = pairs["key"].value_counts()
        else:
            counts = keys.value_counts()
        return sorted((str(value), int(count)) for value, count in counts.head(MAX_VALUES).items())

    def count(self, *, whole: bool = False) -> int:
        """Return how many machines (or rows) are left, or are in the whole table."""
        frame = self._all if whole else self.frame
        return int(frame[self.unit].nunique()) if self.unit else len(frame)

    def rows(self, *, whole: bool = False) -> int:
        """Return how many rows are left, or are in the whole table."""
        return len(self._all) if whole else len(self.frame)

    def code(self, name: str = "view") -> str:
        """Return the code that repeats the choice."""
        return f"{name}.select({', '.join(f'{key}={value!r}' for key, value in self._value.items())})"


def _words(column: pd.Series) -> pd.Series[str]:
    """A column as texts; what is absent has a word of its own, which no empty text can be taken for."""
    return column.astype(object).where(column.notna(), NOT_STATED).astype(str)
