r"""What shells load at their start without starting Python: the last environment, and everything that it depended on.

A snapshot is a file of lines that a shell's builtins can read, and compare with what it has:

    vertex-env-snapshot 1
    until 1763816400                    stale from then on; left out where nothing in it ages
    file 1763812800 0f3a….mark /path    stale unless that is there, with this time stamp, which the mark has as well
    none /path                          stale if that is there
    same NAME=value                     stale unless the variable is so
    gone NAME NAME...                   stale if one of the variables is set
    token /path                         the store's file with the token
    stamp /path                         the file with `REFRESH_AT EXPIRES_AT GENERATION`
    set NAME=value                      with \x1f where the token belongs
    unset NAME
    end

A mark is an empty file with the time stamp of the file it stands for: bash and zsh can compare the stamps of two files
and cannot read that of one. The token itself stays in the store.
"""

import os
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from vertex_env import warm
from vertex_env.render import lines
from vertex_env.store import write_private
from vertex_env.variables import Environment

_PROFILE = re.compile(r"[A-Za-z0-9._-]*", re.ASCII)
_FROM_STAMP = ("VERTEX_ENV_EXPIRES_AT", "VERTEX_ENV_REFRESH_AT", "VERTEX_ENV_STAMP")
_SETTLED_S = 2.0
"""A file younger than this may change once more within the second, and some shells see whole seconds only."""


def write_snapshot(  # noqa: PLR0913
    folder: Path,
    profile: str,
    *,
    key: str,
    names: Iterable[str],
    judged: Mapping[str, str],
    files: Mapping[Path, str],
    environ: Mapping[str, str],
    until: float,
    env: Environment,
    stand_in: str,
) -> bool:
    """Write the snapshot for shells whose `$VERTEX_ENV_PROFILE` is *profile*, unless something cannot be told in lines.

    Args:
        folder: The store's.
        profile: May be empty.
        key: Of the identity.
        names: Variables that were looked at, set or not.
        judged: Variables of which only `warm.is_kept` was looked at, to its rule.
        files: Those that were looked at, there or not, with what `warm.look` saw.
        environ: The environment.
        until: When a fact in it has to be looked up anew, in epoch seconds; 0 for never.
        env: The variables, for a token that stands for all.
        stand_in: The value of that token.

    Returns:
        Whether there is one now, or can be soon, when the files are a little older; False where there cannot be one.
    """
    head = ["vertex-env-snapshot 1", *([f"until {int(until)}"] if until else [])]
    for path, look in files.items():
        try:
            status = path.stat()
        except OSError:
            head.append(f"none {path}")
        else:
            if time.time() - status.st_mtime < _SETTLED_S:
                return True
            mark = _mark(folder, path, status.st_mtime_ns)
            if mark is None or _is_coarse(status.st_mtime_ns) or warm.look(str(path)) != look:
                return False
            head.append(f"file {int(status.st_mtime)} {mark} {path}")
    kept = {name for name, rule in judged.items() if warm.is_kept(rule, environ.get(name, ""))}
    if "OPENAI_CUSTOM_HEADERS" in kept:
        return False  # no builtin could tell that it is kept without its value, which may be a secret
    # What we set or unset is not checked: a shell that has had it unset loads the same snapshot again.
    cleared = [name for name in judged if name not in kept and env.get(name, "") is None]
    same = [*(name for name in names if name in environ), *(name for name in judged if name in kept)]
    gone = [*(name for name in names if name not in environ), *cleared]
    head += [f"same {name}={environ[name]}" for name in same]
    head += [" ".join(("gone", *gone))]
    head += [f"token {warm.token_path(str(folder), key)}", f"stamp {warm.stamp_path(str(folder), key)}"]
    body = lines({name: value for name, value in env.items() if name not in _FROM_STAMP})
    text = "\n".join(head)
    if _PROFILE.fullmatch(profile) and text.count("\n") == len(head) - 1 and "\r" not in text:
        data = f"{text}\n{body.replace(stand_in, chr(0x1F))}end\n".encode("utf-8", "surrogateescape")
        return write_private(folder / (f"shell-{profile}.snapshot" if profile else "shell.snapshot"), data)
    return False


def _is_coarse(mtime_ns: int) -> bool:
    """Whether another file may well have the same time stamp and take this one's place without a shell noticing.

    Whole seconds come from archives, image layers, and Nix and Guix, whose stores have the same one on every file.
    """
    return mtime_ns % 1_000_000_000 == 0


def _mark(folder: Path, path: Path, mtime_ns: int) -> str | None:
    """Name of the mark of *path*; None where the file system's time stamps are too coarse for it."""
    mark = folder / f"{warm.digest(str(path))}.mark"
    with suppress(OSError):
        if mark.stat().st_mtime_ns == mtime_ns:
            return mark.name
    if not write_private(mark, b""):
        return None
    with suppress(OSError):
        os.utime(mark, ns=(mtime_ns, mtime_ns))
        if mark.stat().st_mtime_ns == mtime_ns:
            return mark.name
    return None
