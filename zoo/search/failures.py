"""Why a worker of Ray failed, in one line."""

from __future__ import annotations

import re

NO_MEMORY = "running low on memory"  # of the monitor with which Ray ends workers
_MEMORY = re.compile(r"was (\S+ used / \S+ limit)")


def in_words(error: str) -> str:
    r"""Return the last line of an error of Ray; of missing memory, what was found and what to do.

    Example:
        >>> in_words("Traceback:\nValueError: no")
        'ValueError: no'
    """
    if NO_MEMORY in error:
        used = _MEMORY.search(error)
        return (
            "Ray ended its worker because the memory of the node was nearly full"
            f"{f' ({used[1]})' if used else ''}. Set a lower `batch` or `width` in the space, or "
            "more --threads for fewer trials at once."
        )
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return lines[-1] if lines else "its worker was lost"
