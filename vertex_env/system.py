"""Which back-end this machine has: the one place that decides it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vertex_env.backend import Backend


def choose() -> Backend:
    """A new back-end of this platform."""
    from vertex_env.linux import Linux

    return Linux()
