"""Client certificates for mTLS and for X.509 workload identity: the files that google-auth reads.

google-auth 2.62.2 `google/auth/transport/_mtls_helper.py` (2026-11-22).
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vertex_env.errors import CredentialsError
from vertex_env.files import read_file, shown

_CERTIFICATE_VARIABLES = (
    "GOOGLE_API_CERTIFICATE_CONFIG",
    "CLOUDSDK_CONTEXT_AWARE_CERTIFICATE_CONFIG_FILE_PATH",
)


def check_certificate_config(environ: Mapping[str, str]) -> None:
    """Refuse a certificate configuration that google-auth fails to read, or waits for without end.

    google-auth reads the configuration with any credentials, as soon as it is imported
    (google-auth 2.62.2 `google/auth/transport/_mtls_helper.py` check_use_client_cert,
    2026-11). It ignores a configuration that is absent or not JSON.

    Raises:
        CredentialsError: The configuration is a pipe, a device, too large, or a text
            that makes google-auth's JSON reader fail.
    """
    named = next((name for name in _CERTIFICATE_VARIABLES if environ.get(name)), None)
    config = _certificate_configs(environ)[0]
    try:
        json.loads(read_file(config).decode())
    except (FileNotFoundError, PermissionError, NotADirectoryError, json.JSONDecodeError):
        return
    except (OSError, ValueError, RecursionError) as e:
        if not config.exists():
            return
        reason = (isinstance(e, OSError) and e.strerror) or "it is not JSON"
        where = f"the certificate configuration {shown(config)}" + (
            f" (from {named})" if named else ""
        )
        hint = f"unset {named}" if named else f"see what it is: ls -l {shown(config)}"
        raise CredentialsError(f"{where} cannot be read: {reason}", hint) from None


def _certificate_configs(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """List the paths where google-auth looks for the certificate configuration, in its order.

    google-auth uses these paths if the credentials name no configuration. It reads the
    second path if the first file has no workload (google-auth 2.62.2
    `google/auth/transport/_mtls_helper.py` _get_workload_cert_and_key_paths,
    `google/auth/_cloud_sdk.py` get_config_path, 2026-11).
    """
    named = next((environ[name] for name in _CERTIFICATE_VARIABLES if environ.get(name)), None)
    home = os.path.join(environ.get("HOME") or "~", ".config", "gcloud")  # noqa: PTH118
    folder = environ.get("CLOUDSDK_CONFIG")
    known = os.path.join(home if folder is None else folder, "certificate_config.json")  # noqa: PTH118
    return tuple(_expanded(path, environ) for path in (named, known) if path)


def _expanded(path: str, environ: Mapping[str, str]) -> Path:
    """Expand the `~` of *path* as google-auth does, but with the `HOME` of *environ*.

    google-auth uses os.path.expanduser, which leaves the `~` if there is no home
    folder. Path.expanduser would raise an error.
    """
    home = environ.get("HOME")
    if home is not None and (path == "~" or path.startswith("~/")):
        return Path(home.rstrip("/") + path[1:] or "/")
    return Path(os.path.expanduser(path))  # noqa: PTH111


def certificate_files(source: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[Path, ...]:
    """List the files with a workload's client certificate, for an X.509 provider.

    The certificate decides which identity the token is for. Source: google-auth 2.62.2
    `google/auth/transport/_mtls_helper.py` (2026-11-22).
    """
    certificate = source.get("certificate")
    if not isinstance(certificate, dict):
        return ()
    named = certificate.get("certificate_config_location")
    configs = (_expanded(named, environ),) if named else _certificate_configs(environ)
    for number, config in enumerate(configs, start=1):
        with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
            workload = json.loads(read_file(config))["cert_configs"]["workload"]
            return *configs[:number], Path(str(workload["cert_path"]))
    return configs  # google-auth reports errors in these files
