"""Memory that was let go of, given back to the system."""

from __future__ import annotations

import contextlib
import ctypes


def give_back() -> None:
    """After something large was dropped: free pages go back to the system, in milliseconds.

    glibc keeps them, once for each thread that ever allocated, and a process that makes its indexes anew from time to
    time would look, and count for a container's limit, twice as large as it is. Elsewhere nothing happens.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):     # TypeError: where there is no library to ask
        ctypes.CDLL(None).malloc_trim(0)
