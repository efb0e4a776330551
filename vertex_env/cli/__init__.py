"""The command line.

A supervisor (`run`) of an older version imports `tell_error` from here.

Such a supervisor was started before an upgrade and goes on afterwards. It has modules
of its own version in memory. In that version this package was a single module, which
contained `tell_error`.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vertex_env.errors import VertexEnvError


def tell_error(error: "VertexEnvError") -> None:
    """Write what failed and what fixes it to stderr; see `output.tell_error`."""
    from vertex_env.cli import output

    output.tell_error(error)
