"""Choice of the back-end for this machine, made in this module only."""

from __future__ import annotations

from vertex_env.program import is_linux

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vertex_env.run.backend import Backend


def choose() -> Backend:
    """Return a new back-end for this platform, which is Linux or another POSIX system."""
    if is_linux():
        from vertex_env.run.linux import Linux

        return Linux()
    from vertex_env.run.posix import Posix

    return Posix()
