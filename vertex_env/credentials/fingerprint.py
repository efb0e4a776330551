"""What tells two identities apart whose credentials files may be the same."""

import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vertex_env import program
from vertex_env.credentials.certificates import certificate_files
from vertex_env.errors import CredentialsError
from vertex_env.files import read_file, shown

AWS = "urn:ietf:params:aws:token-type:aws4_request"


def innermost(info: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the source credentials of an impersonating file; any other file is its own source."""
    source = info.get("source_credentials")
    return source if isinstance(source, dict) else info


def fingerprint(
    content: bytes, info: Mapping[str, Any], where: str, environ: Mapping[str, str]
) -> tuple[str, tuple[Path, ...]]:
    """Hash everything that the file's tokens are made from, and list the other files among it.

    With workload identity, the credentials file only says where the identity comes
    from, so several jobs and machines may share the file. The identity may be a subject
    token on disk, an AWS access key in the environment (google-auth 2.62.2
    `google/auth/aws.py`, 2026-11-22), or the answer of a server or a program to this
    machine.
    """
    digest = hashlib.sha256(content)
    info = innermost(info)
    if info["type"] != "external_account":
        return digest.hexdigest(), ()
    if asks_around(info):
        digest.update(b"\0" + program.machine().encode(errors="surrogateescape"))
    names = (
        ["AWS_ACCESS_KEY_ID"]
        if info["subject_token_type"] == AWS
        else _named(info["credential_source"])
    )
    for name in names:
        digest.update(f"\0{name}={environ.get(name)!r}".encode(errors="surrogateescape"))
    programs = _files_of_command(info["credential_source"], environ)
    for path in programs:
        digest.update(b"\0" + os.fsencode(path.absolute()))
    certificates = certificate_files(info["credential_source"], environ)
    for path in certificates:
        with suppress(OSError, ValueError):
            digest.update(b"\0" + read_file(path))
    files = (*certificates, *programs)
    subject = info["credential_source"].get("file")
    if not isinstance(subject, str):
        return digest.hexdigest(), files
    try:
        digest.update(b"\0" + read_file(Path(subject)))
    except (OSError, ValueError) as e:
        name, reason = shown(Path(subject)), e.strerror if isinstance(e, OSError) else None
        raise CredentialsError(
            f"the subject token {name}, which {where} names, cannot be read: {reason or e}",
            f"see whether the job that writes it has done so: ls -l {name}",
        ) from None
    return digest.hexdigest(), (*files, Path(subject))


def asks_around(info: Mapping[str, Any]) -> bool:
    """Whether a URL, AWS or a program gives the subject token, which may differ on each machine."""
    if info.get("type") != "external_account":
        return False
    source = info["credential_source"]
    return info["subject_token_type"] == AWS or any(
        source.get(name) for name in ("url", "executable")
    )


def _named(source: Mapping[str, Any]) -> list[str]:
    """List the words of the program's command that can be names of variables.

    Examples: `$NAME`, `--token-from NAME`. google-auth starts the command without a
    shell, so the program itself reads the variables (google-auth 2.62.2
    `google/auth/pluggable.py`, 2026-11-24).
    """
    return sorted(set(re.findall(r"[A-Za-z_]\w*", _command(source), re.ASCII)))


def _files_of_command(source: Mapping[str, Any], environ: Mapping[str, str]) -> list[Path]:
    """List the program of the command, and its arguments that are files in the working folder.

    Two folders may each have a `./get-token`. For that reason the fingerprint includes
    the program that `PATH` or the working folder leads to. google-auth splits the
    command at spaces (2.62.2 `google/auth/pluggable.py` retrieve_subject_token,
    2026-11).
    """
    first, *others = _command(source).split() or [""]
    if first and not Path(first).is_absolute():
        import shutil  # it loads the compression modules

        first = shutil.which(first, path=environ.get("PATH")) or ""
    here = [path for path in map(Path, others) if not path.is_absolute() and path.is_file()]
    return [*([Path(first)] if first else []), *here]


def _command(source: Mapping[str, Any]) -> str:
    """Return the command of the program that gives the subject token; empty if there is none."""
    executable = source.get("executable")
    command = executable.get("command") if isinstance(executable, dict) else None
    return command if isinstance(command, str) else ""
