"""The controlling terminal: its foreground process group and its modes."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

if sys.platform != "win32":
    import fcntl
    import termios


class Terminal:
    """The controlling terminal, if there is one."""

    def __init__(self) -> None:
        try:
            opened = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
            # Avoid the descriptors 0 to 2, even if they are closed: the command would
            # use the terminal as its own stdin, stdout or stderr.
            self.fd = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, 3)
            os.close(opened)
        except OSError:
            self.fd = -1
        self.last_owner = -1
        """Process group that was last seen in the foreground."""
        # The command may get the terminal only if the whole job is ours. This is not so
        # within a pipeline or a script.
        self.is_ours = (
            self.fd >= 0 and os.getpid() == os.getpgrp() and os.isatty(0) and os.isatty(1)
        )
        self._saved = self.modes() if self.has(os.getpgrp()) else None

    def owner(self) -> int:
        """Return the foreground process group; -1 if there is none or the terminal is gone."""
        try:
            self.last_owner = os.tcgetpgrp(self.fd)
        except OSError:
            return -1
        return self.last_owner

    def has(self, group: int) -> bool:
        """Tell whether *group* is in the foreground."""
        return self.owner() == group

    def is_gone(self) -> bool:
        """Tell whether there was a terminal and its window has been closed."""
        return self.fd >= 0 and self.owner() < 0

    def give(self, group: int) -> None:
        """Put *group* in the foreground."""
        with suppress(OSError):
            os.tcsetpgrp(self.fd, group)

    def modes(self) -> list[object] | None:
        """Return the current modes of the terminal; None if they cannot be read."""
        try:
            return termios.tcgetattr(self.fd) if self.fd >= 0 else None
        except termios.error:
            return None

    def restore(self, modes: list[object] | None = None) -> None:
        """Set *modes*; by default the modes from before the first child."""
        wanted = modes or self._saved
        if wanted is not None:
            with suppress(termios.error):
                termios.tcsetattr(self.fd, termios.TCSADRAIN, wanted)  # type: ignore[arg-type]

    def is_raw(self) -> bool:
        """Tell whether a program reads the terminal key by key.

        Examples are an editor, a REPL or an agent. A restart would lose its session.
        """
        modes = self.modes()
        return modes is not None and not int(modes[3]) & termios.ICANON  # type: ignore[call-overload]
