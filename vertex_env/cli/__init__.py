"""The command line. What is here has to be found by a supervisor (`run`) that has lived through an upgrade.

Such a process has the modules of its own version loaded, so this imports nothing but a leaf. In the version before the
rooms this package was a module, and `tell_error` was here as well.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vertex_env.errors import VertexEnvError


def tell_error(error: "VertexEnvError") -> None:
    """Say what failed and what cures it, such as a command that is gone when it is to be started anew."""
    from vertex_env.redaction import hide, of_environ

    secrets = of_environ(os.environ)
    error.rewrite(secrets.redact)  # before line breaks are escaped
    for kind, text in (("error", error.message), ("hint", error.hint)):
        # A path may have a line break in it, or what a terminal takes for a command.
        shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
        try:
            sys.stderr.write(secrets.redact(hide(f"vertex-env: {kind}: {shown}\n")))
            sys.stderr.flush()
        except (OSError, AttributeError):
            pass  # nobody listens
