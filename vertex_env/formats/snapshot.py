r"""What shells load at their start without starting Python: the last environment, and everything that it depended on.

A snapshot is a file of lines that a shell's builtins can read, and compare with what it has:

    vertex-env-snapshot 2
    until 1763816400                    stale from then on; left out where nothing in it ages
    file 1763812800 0f3a….mark /path    stale unless that is there, with this time stamp, which the mark has as well
    none /path                          stale if that is there
    same NAME=value                     stale unless the variable is so
    fits NAME=value                     stale if the variable is set to something else
    lacks NAME=text                     stale if the variable has the text in it, in small or capital letters
    gone NAME NAME...                   stale if one of the variables is set
    token /folder/KEY.token             the store's file with the token, in the folder of the snapshot
    stamp /folder/KEY.stamp             the file with `REFRESH_AT EXPIRES_AT GENERATION`, in the same folder
    unset NAME NAME...
    set NAME=value                      with \x1f where the token belongs, and that one last
    end

`cache.snapshots` makes the marks, and writes the file. The token itself stays in the store.

Some shells cannot tell whether others may write to a file. So a snapshot is believed only where it cannot hurt: it sets
the names in `NAMES` to values of their kind, always with both base URLs beside the key, and it unsets no others than
`OPENAI_*` and those. It sets the switch of openai-agents' tracing to `1` only, where the shell has no
value for it. What cannot be said in this way has no snapshot, and shells start Python for it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vertex_env.vertex.target import GOOGLE_DOMAINS, is_loopback
from vertex_env.vertex.variables import (
    CLIENTS,
    CONFLICTS,
    REDIRECTS,
    SETTABLE,
    SHARED,
    TRACING,
    Environment,
)

_FROM_STAMP = ("VERTEX_ENV_EXPIRES_AT", "VERTEX_ENV_REFRESH_AT", "VERTEX_ENV_STAMP")
_PLAIN = re.compile(
    r"(?:VERTEX_ENV|GOOGLE|CLOUDSDK|GCLOUD|GCE|XDG)_[A-Z0-9_]+|HOME|APPDATA|LOCALAPPDATA"
)
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|KEY|HEADER|PROXY|VERTEX_ENV_SET")
"""Variables whose value may stand in a snapshot, unless their name has a word of the second pattern."""

_LACKS = {"OPENAI_CUSTOM_HEADERS": "authorization", **dict.fromkeys(SHARED, "openai.com")}
"""Variables whose value may be a secret and is not kept: all that is decided by is whether this text is in it."""

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9.-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~:@%+=,/-]*)?",
    re.ASCII,
)
_GOOGLE = tuple(f".{domain}" for domain in GOOGLE_DOMAINS)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*", re.ASCII)


def _kinds() -> dict[str, tuple[str, ...]]:
    templates = {
        "OPENAI_API_KEY": "{token}",
        "OPENAI_BASE_URL": "{base_url}",
        "OPENAI_API_BASE": "{base_url}",
    }
    for client in CLIENTS.values():
        templates |= {name: template for name, template in client.items() if template is not None}
    names = [name for name in SETTABLE if name not in _FROM_STAMP]
    keys = [name for name in names if "{token}" in templates.get(name, "")]
    urls = [name for name in names if templates.get(name, "").startswith(("{base_url}", "{host}"))]
    words = [name for name in names if name not in (*keys, *urls)]
    return {"keys": tuple(keys), "urls": tuple(urls), "words": tuple(words)}


NAMES: Mapping[str, tuple[str, ...]] = _kinds()
"""The only names that a snapshot may set, by what the value has to be.

| kind | value |
|---|---|
| `keys` | the mark that stands for the token, and nothing else |
| `urls` | an https URL without a port on a host of Google's, or what `VERTEX_ENV_ALLOW_HOST` allows (see below) |
| `words` | letters, digits and `._/-`, beginning with a letter or digit: no host |

The shell's own `VERTEX_ENV_ALLOW_HOST` may name further hosts, with any port, and with http where they are loopback.
The hooks have these lists as well (`python -m tests.hooknames`).
"""


Files = Mapping[str, "tuple[int, str] | None"]
"""Files that were looked at, by their paths: time stamp in whole epoch seconds, and the name of the mark that has the
same one; None where there was no file."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a shell needs besides the files: lines of the text."""

    variables: Sequence[str]
    changes: Sequence[str]

    def text(self, files: Files, *, token: str, stamp: str, until: float) -> str | None:
        """The text; None where something in it cannot be told in lines.

        Args:
            files: Those that were looked at.
            token: Path of the store's file with the token.
            stamp: Path of its stamp.
            until: When a fact has to be looked up anew, in epoch seconds; 0 for never.
        """
        head = ["vertex-env-snapshot 2", *([f"until {int(until)}"] if until else [])]
        for path, seen in files.items():
            head.append(f"none {path}" if seen is None else f"file {seen[0]} {seen[1]} {path}")
        lines = [*head, *self.variables, f"token {token}", f"stamp {stamp}", *self.changes, "end"]
        if any(re.search(r"[\n\r]", line) for line in lines):
            return None
        return "".join(f"{line}\n" for line in lines)


def snapshot(
    names: Iterable[str],
    judged: Mapping[str, str],
    environ: Mapping[str, str],
    env: Environment,
    stand_in: str,
) -> Snapshot | None:
    """The snapshot for shells, but for the files; None where something cannot be told in it.

    Args:
        names: Variables that were looked at, set or not.
        judged: Variables of which only `answers.is_kept` was looked at, to its rule.
        environ: The environment.
        env: The variables, for a token that stands for all.
        stand_in: The value of that token.
    """
    # Unset in any case: a shell that has had them unset writes the next snapshot, for one in which they are still set.
    env = {
        **dict.fromkeys((*CONFLICTS, *REDIRECTS)),
        **{n: v for n, v in env.items() if n not in _FROM_STAMP},
    }
    env = {name: value for name, value in env.items() if name not in _LACKS or value is not None}
    variables = _variables(names, judged, environ, env)
    changes = _changes(
        env, stand_in, re.split(r"[,\s]+", environ.get("VERTEX_ENV_ALLOW_HOST", "").lower())
    )
    return None if variables is None or changes is None else Snapshot(variables, changes)


def _variables(
    names: Iterable[str], judged: Mapping[str, str], environ: Mapping[str, str], env: Environment
) -> list[str] | None:
    """The lines about the variables *names* and *judged*; None where a value is not to be kept."""
    lines, gone = [], []
    for name in names:
        value = environ.get(name)
        if name in env:
            continue  # it is set or unset in any case
        if value is None:
            gone.append(name)
        elif _PLAIN.fullmatch(name) and not _SECRET.search(name):
            lines.append(f"same {name}={value}")
        else:
            return None
    for name in judged:
        value = environ.get(name, "")
        if name in _LACKS:
            if _LACKS[name] in value.lower():
                return None
            lines.append(f"lacks {name}={_LACKS[name]}")
        else:
            lines.append(f"fits {name}={env[name]}" if name in env else f"same {name}={value}")
    return [*lines, " ".join(("gone", *gone))]


def _changes(env: Environment, stand_in: str, allowed: Iterable[str]) -> list[str] | None:
    """The lines that say what to do; None where no hook would do it."""
    unset = [name for name, value in env.items() if value is None]
    if not all(name.startswith("OPENAI_") or name in NAMES["urls"] for name in unset):
        return None
    lines, last = [" ".join(("unset", *unset))], []
    for name, value in env.items():
        if value is None:
            continue
        if name == TRACING and value != "1":
            return None
        if name in NAMES["keys"] and value == stand_in:
            last.append(f"set {name}=\x1f")
        elif (name in NAMES["urls"] and _is_url(value, allowed)) or (
            name in NAMES["words"] and _WORD.fullmatch(value)
        ):
            lines.append(f"set {name}={value}")
        else:
            return None
    return lines + last


def _is_url(value: str, allowed: Iterable[str]) -> bool:
    found = _URL.fullmatch(value)
    if found is None:
        return False
    scheme, host = found.group("scheme", "host")
    if scheme == "https" and host.endswith(_GOOGLE) and f"{value}/".startswith(f"https://{host}/"):
        return True
    return host in allowed and (scheme == "https" or is_loopback(host.strip("[]")))
