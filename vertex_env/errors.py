"""The types of expected errors, and the one table of exit statuses.

::

    VertexEnvError               exit   meaning
    ├─ SettingsError               78   a setting is missing, wrong or contradicts another
    ├─ CredentialsError            78   the ADC file is absent, damaged or incomplete
    ├─ RefusedError                77   Google refused: login expired, no permission, API disabled
    ├─ UnavailableError            75   Google gave no sensible answer, or none: try again later
    ├─ StoreError                   1   the keychain cannot be used, or `logout` cannot delete
    └─ ChildError       125, 126, 127   `run`'s command: no process, not executable, not found

In `run`, each of the other errors ends with status 125, so that it is not taken for a
status of the command.

Modules raise; only `cli` prints and exits. Every error carries a hint: the command or
the change that fixes it.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Exit:
    """Every exit status of the program.

    `run` and `sandbox` end with the status of their command, if it has one. The
    statuses from 64 to 78 follow sysexits.h
    (https://man7.org/linux/man-pages/man3/sysexits.h.3head.html, 2026-11-22). Those
    from 125 on follow shells and env(1).
    """

    OK = 0
    FAILURE = 1
    USAGE = 2
    """The command line is wrong."""
    BUG = 70
    """An unexpected exception."""
    TRY_AGAIN = 75
    """No network, a server error, a full disk, or `run` stopped its command before expiry.
    """
    REFUSED = 77
    """Google answered "no"."""
    CONFIG = 78
    """The settings or the credentials are wrong."""
    RUN_FAILURE = 125
    """`run` itself failed, before its command started or beside it.

    `env` and `timeout` of coreutils use the same status.
    """
    NOT_EXECUTABLE = 126
    """The command of `run` was found, but could not be executed."""
    NOT_FOUND = 127
    """The command of `run` was not found."""
    INTERRUPTED = 130
    """The user pressed Ctrl-C."""


_LONG_WORD = 20
"""Least length of a token. The word `application-default`, which is in hints, is shorter."""


def clean(text: str) -> str:
    """Replace everything in *text* that looks like a token.

    Sometimes modules can no longer be imported: no file can be opened, or Python was
    upgraded meanwhile. Then every long word is hidden.
    """
    try:
        # Import it only on failure: it imports `re`, which `run` does without at its
        # start.
        from vertex_env.redaction import hide
    except (ImportError, OSError):
        lines = [
            [word if len(word) < _LONG_WORD else "[hidden]" for word in x.split(" ")]
            for x in text.split("\n")
        ]
        return "\n".join(" ".join(words) for words in lines)
    return hide(text)


class VertexEnvError(Exception):
    """An expected failure, shown to a person in two lines.

    Args:
        message: The action and its failure, in lower case and without a full stop. Text
            that looks like a token is hidden.
        hint: The cure, as a command where there is one.
    """

    exit_code = Exit.FAILURE

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.rewrite(clean)

    def rewrite(self, change: "Callable[[str], str]") -> None:
        """Replace message and hint by the results of *change*, such as `Secrets.redact`."""
        self.message, self.hint = change(self.message), change(self.hint)
        self.args = (self.message,)

    def __reduce__(self) -> tuple[object, ...]:
        """Copy and pickle message and hint only, without other attributes of the error."""
        return type(self), (self.message, self.hint)


class SettingsError(VertexEnvError):
    """A setting is missing, wrong or contradicts another; the message names where it came from."""

    exit_code = Exit.CONFIG


class CredentialsError(VertexEnvError):
    """The ADC file is absent, damaged or incomplete."""

    exit_code = Exit.CONFIG


class RefusedError(VertexEnvError):
    """Google answered "no"."""

    exit_code = Exit.REFUSED


class UnavailableError(VertexEnvError):
    """Google could not be reached, or another server answered; a later try may succeed."""

    exit_code = Exit.TRY_AGAIN


class StoreError(VertexEnvError):
    """The chosen keychain cannot be used, or `logout` cannot delete.

    There is no silent fallback.
    """


class ChildError(VertexEnvError):
    """The command of `run` could not be started.

    Args:
        message: As for `VertexEnvError`.
        hint: As for `VertexEnvError`.
        status: `Exit.NOT_FOUND`, `Exit.NOT_EXECUTABLE`, or `Exit.RUN_FAILURE` if no
            process could be started.
    """

    def __init__(self, message: str, hint: str, status: int) -> None:
        super().__init__(message, hint)
        self.status = status

    def __reduce__(self) -> tuple[object, ...]:
        """Copy and pickle message, hint and status."""
        return type(self), (self.message, self.hint, self.status)


def revive(kind: str, message: str, hint: str) -> VertexEnvError | None:
    """Make the error that another process reported, from the name of its type.

    None if the name is not one of the known types.
    """
    known = (SettingsError, CredentialsError, RefusedError, UnavailableError, StoreError)
    found = next((error for error in known if error.__name__ == kind), None)
    return None if found is None else found(message, hint)
