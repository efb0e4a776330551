"""Tasks: `nox` runs the tests on every Python that is installed; `nox -l` lists the others."""

import nox

nox.options.sessions = ["tests"]
nox.options.error_on_missing_interpreters = False


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """The whole suite, lint, types and layers included."""
    session.install("-r", "requirements.lock")
    session.install("--no-deps", "-e", ".")
    session.run("pytest", "-n2", *session.posargs)


@nox.session
def posix(session: nox.Session) -> None:
    """The tests of `run` on the back-end for macOS and the BSDs."""
    session.install("-r", "requirements.lock")
    session.install("--no-deps", "-e", ".")
    env = {"_VERTEX_ENV_BACKEND": "posix"}
    session.run(
        "python",
        "-m",
        "tests.support.reaper",
        "pytest",
        "-n2",
        "tests/run",
        *session.posargs,
        env=env,
    )


@nox.session
def clients(session: nox.Session) -> None:
    """Real clients in a network namespace: no token goes anywhere but to Vertex AI."""
    session.install("-r", "requirements.lock")
    session.install("--no-deps", "-e", ".")
    session.run("pytest", "tests/clients", *session.posargs)


@nox.session
def lock(session: nox.Session) -> None:
    """Write requirements.lock anew."""
    session.install("uv")
    session.run("uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-emit-index-url",
                "--no-emit-find-links", "--no-header", "--upgrade", "--python-version", "3.11",
                "--extra", "test", "-o", "requirements.lock", "pyproject.toml")  # fmt: skip


@nox.session
def build(session: nox.Session) -> None:
    """Wheel and source distribution in dist/."""
    session.install("build")
    session.run("python", "-m", "build")
