"""`token` and `export`: stored tokens, new ones, many identities, many processes."""

import os
import shutil
import subprocess

from tests.benchmarks.timing import Bench, Command, ratio, row
from tests.support import loopback as google

# What Google's documentation has people write; the same work as a cold `vertex-env token`.
SNIPPET = """
import google.auth, google.auth.transport.requests
credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
credentials.refresh(google.auth.transport.requests.Request())
print(credentials.token)
"""


def rows(bench: Bench) -> None:
    """All of it."""
    warm(bench)
    cold(bench)
    many_identities(bench)
    herd(bench)


def warm(bench: Bench) -> None:
    """`export` and `token` with a stored token, against starting Python and against gcloud."""
    for each in bench.installed:
        env = bench.environ(each.name)
        floor = Command((each.python, "-c", "pass"), env)
        goal = "<= 1.15" if each.name.startswith("pip >=") else "<= 1.8"
        for arguments in (("export",), ("token",)):
            ours = Command((each.program, *arguments), env)
            ours.time()
            row(
                f"warm {arguments[0]}",
                f"python -c pass, {each.name}",
                ratio(ours, floor, bench.rounds),
                goal,
            )
    env = bench.environ(bench.installed[0].name)
    ours = Command((bench.installed[0].program, "token"), env)
    gcloud = next(
        (
            p
            for p in ("/usr/bin/gcloud", shutil.which("gcloud") or "")
            if p and os.access(p, os.X_OK)
        ),
        None,
    )
    if gcloud is None:
        print("(gcloud is not installed)")
        return
    key = google.write_adc(
        bench.folder / "gcloud-key.json", google.service_account(bench.sandbox.url)
    )
    theirs = {
        **env,
        "PATH": os.environ["PATH"],
        "GOOGLE_APPLICATION_CREDENTIALS": str(key),
        "CLOUDSDK_AUTH_TOKEN_HOST": f"{bench.sandbox.url}/token",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
    }
    print_token = Command((gcloud, "auth", "application-default", "print-access-token"), theirs)
    value, a, b = ratio(ours, print_token, max(3, bench.rounds // 2))
    row("warm token, times faster than", "gcloud print-access-token", (1 / value, a, b), ">= 50")


def cold(bench: Bench) -> None:
    """A mint on loopback against the documentation's snippet, for a user and for a service account."""
    env = {**bench.environ("cold"), "VERTEX_ENV_STORE": "none"}
    kinds = {
        "user": google.external_account_authorized_user(bench.sandbox.url),
        "service account": google.service_account(bench.sandbox.url),
    }
    for name, info in kinds.items():
        path = google.write_adc(bench.folder / f"{name}.json", info)
        environ = {**env, "GOOGLE_APPLICATION_CREDENTIALS": str(path)}
        ours = Command((bench.installed[0].program, "token"), environ)
        theirs = Command((bench.installed[0].python, "-c", SNIPPET), environ)
        row(
            f"cold mint, {name}",
            "the documentation's snippet",
            ratio(ours, theirs, bench.rounds),
            "<= 0.75",
        )


def many_identities(bench: Bench) -> None:
    """The warm path with 1,000 stored identities against one."""
    commands = []
    for name in ("one", "thousand"):
        env = bench.environ(name)
        commands.append(Command((bench.installed[0].program, "export"), env))
        commands[-1].time()
    cache = bench.folder / "thousand" / "cache"
    for kind in (".token", ".answer"):
        (original,) = list(cache.glob(f"*{kind}"))[:1]
        for i in range(999):
            copy = cache / f"{i:0{len(original.stem)}x}{kind}"
            copy.write_bytes(original.read_bytes())
            copy.chmod(0o600)
    row(
        "warm export, 1,000 stored identities",
        "one",
        ratio(commands[1], commands[0], bench.rounds),
        "<= 1.05",
    )


def herd(bench: Bench) -> None:
    """200 processes that start cold at once."""
    env = bench.environ("herd")
    before = bench.sandbox.counts["token"]
    processes = [
        subprocess.Popen(
            [bench.installed[0].program, "token"],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        for _ in range(200)
    ]
    tokens = {process.communicate()[0] for process in processes}
    asked = bench.sandbox.counts["token"] - before
    print(
        f"200 processes started cold at once: {asked} token request(s), {len(tokens)} token(s), goal 1"
    )
