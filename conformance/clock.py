"""The clock by which explaining a failure is bounded."""

from __future__ import annotations

from time import monotonic, thread_time

#: The share of the thread's own time. Where other processes have the machine, a second here takes four at most.
OWN = 0.75


def now() -> float:
    """Seconds: of work for the most part, so that a busy machine explains as much as an idle one, and of waiting."""
    return OWN * thread_time() + (1 - OWN) * monotonic()
