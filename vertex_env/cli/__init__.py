"""The command line. A supervisor (`run`) that has lived through an upgrade imports `tell_error` from here.

Such a process has the modules of its own version loaded. In the version before the rooms this package was a module, and
`tell_error` was in it.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vertex_env.errors import VertexEnvError


def tell_error(error: "VertexEnvError") -> None:
    """Say what failed and what cures it; see `output.tell_error`."""
    from vertex_env.cli import output

    output.tell_error(error)
