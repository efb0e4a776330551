"""What can go wrong, as types, and the one table of exit statuses.

::

    VertexEnvError                     exit   meaning
    ├─ SettingsError                     78   a setting is missing, wrong or contradicts another
    ├─ CredentialsError                  78   the ADC file is absent, damaged or incomplete
    ├─ RefusedError                      77   Google answered "no": login expired, permission missing, API disabled
    ├─ UnavailableError                  75   Google could not be reached or did not answer sensibly: try again later
    ├─ StoreError                         1   the keychain cannot be used, or `logout` cannot delete
    └─ ChildError             125, 126, 127   the command of `run` got no process, cannot be executed, or was not found

In `run` each of the others ends with 125, so that its status is not taken for the command's.

Modules raise; only `cli` prints and exits. Every error carries a hint: the command or the change that cures it.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Exit:
    """Every exit status of the program; `run` and `sandbox` end with their command's own where it has one.

    Those from 64 to 78 follow sysexits.h (https://man7.org/linux/man-pages/man3/sysexits.h.3head.html, 2026-11-22),
    those from 125 on what shells and env(1) do.
    """

    OK = 0
    FAILURE = 1
    USAGE = 2
    """The command line is wrong."""
    BUG = 70
    """An exception that nobody expected."""
    TRY_AGAIN = 75
    """No network, a server's failure, a full disk; or `run` has stopped its command before the token expires."""
    REFUSED = 77
    """Google answered, and the answer was no."""
    CONFIG = 78
    """The settings or the credentials are wrong."""
    RUN_FAILURE = 125
    """`run` itself failed, before or beside its command; the same as in `env` and `timeout` of coreutils."""
    NOT_EXECUTABLE = 126
    """The command of `run` was found, but could not be executed."""
    NOT_FOUND = 127
    """The command of `run` was not found."""
    INTERRUPTED = 130
    """Ctrl-C."""


_LONG_WORD = 20
"""No token is shorter; `application-default` in a hint is."""


def clean(text: str) -> str:
    """*text* without anything that looks like a token.

    Where modules cannot be loaded, because no file can be opened any more or Python is upgraded meanwhile, each long
    word is hidden.
    """
    try:
        # Only a failure needs it: it imports `re`, which `run` starts without.
        from vertex_env.redaction import hide
    except (ImportError, OSError):
        lines = [
            [word if len(word) < _LONG_WORD else "[hidden]" for word in x.split(" ")]
            for x in text.split("\n")
        ]
        return "\n".join(" ".join(words) for words in lines)
    return hide(text)


class VertexEnvError(Exception):
    """An expected failure, told to a person in two lines.

    Args:
        message: What was tried and what failed, lower case, without a full stop. What looks like a token is hidden.
        hint: What cures it, as a command where there is one.
    """

    exit_code = Exit.FAILURE

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.rewrite(clean)

    def rewrite(self, change: "Callable[[str], str]") -> None:
        """Put message and hint as *change* gives them, such as `Secrets.redact`."""
        self.message, self.hint = change(self.message), change(self.hint)
        self.args = (self.message,)

    def __reduce__(self) -> tuple[object, ...]:
        """Copies and pickles have what the error is made of, and nothing else that hangs on it."""
        return type(self), (self.message, self.hint)


class SettingsError(VertexEnvError):
    """A setting is missing, wrong or contradicts another; the message names where it came from."""

    exit_code = Exit.CONFIG


class CredentialsError(VertexEnvError):
    """The ADC file is absent, damaged or incomplete."""

    exit_code = Exit.CONFIG


class RefusedError(VertexEnvError):
    """Google answered, and the answer was no."""

    exit_code = Exit.REFUSED


class UnavailableError(VertexEnvError):
    """Google could not be reached, or what answered was not Google; trying again later may help."""

    exit_code = Exit.TRY_AGAIN


class StoreError(VertexEnvError):
    """The keychain cannot be used, though it was chosen, or `logout` cannot delete; there is no silent way round."""


class ChildError(VertexEnvError):
    """The command of `run` could not be started.

    Args:
        message: As for `VertexEnvError`.
        hint: As for `VertexEnvError`.
        status: `Exit.NOT_FOUND`, `Exit.NOT_EXECUTABLE`, or `Exit.RUN_FAILURE` if no process could be started.
    """

    def __init__(self, message: str, hint: str, status: int) -> None:
        super().__init__(message, hint)
        self.status = status

    def __reduce__(self) -> tuple[object, ...]:
        """With the status."""
        return type(self), (self.message, self.hint, self.status)


def revive(kind: str, message: str, hint: str) -> VertexEnvError | None:
    """The error that another process met, from its type's name; None if this is no name of ours."""
    known = (SettingsError, CredentialsError, RefusedError, UnavailableError, StoreError)
    found = next((error for error in known if error.__name__ == kind), None)
    return None if found is None else found(message, hint)
