"""How functions are compiled: lazily, and kept on disk where that is possible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    Ints = np.ndarray[Any, np.dtype[np.int64]]
    Small = np.ndarray[Any, np.dtype[np.int32]]
    Bytes = np.ndarray[Any, np.dtype[np.uint8]]
    Words = np.ndarray[Any, np.dtype[Any]]

F = TypeVar("F", bound="Callable[..., Any]")


def compiled(function: F) -> F:
    """Compile a function of the numba subset when it is first called.

    The machine code is kept beside the source file, or in the user's cache folder where that one cannot be
    written; where neither can, each process compiles anew.
    """
    try:
        return cast("F", numba.njit(cache=True)(function))
    except RuntimeError:
        return cast("F", numba.njit(function))
