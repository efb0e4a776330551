"""The files of `shell/`, in a wheel and in an editable install.

A wheel has them in `vertex_env/shell/`. An editable install has no such folder, and
reads `shell/` of the checkout.
"""

from pathlib import Path

HOOKS = {
    "bash": "vertex-env.bash",
    "zsh": "vertex-env.zsh",
    "fish": "vertex-env.fish",
    "nu": "vertex-env.nu",
    "xonsh": "vertex-env.xsh",
    "pwsh": "vertex-env.ps1",
    "direnv": "vertex-env-direnv.sh",
}
"""Shell to the file with its integration; `direnv` to the library for direnv."""

COMPLETIONS = {
    "bash": "completions/vertex-env.bash",
    "zsh": "completions/_vertex-env",
    "fish": "completions/vertex-env.fish",
}


def shell_dir() -> Path:
    """The folder with the files that users source, such as `vertex-env.bash`.

    Raises:
        FileNotFoundError: The installation is incomplete.
    """
    package = Path(__file__).parent.parent
    for folder in (package / "shell", package.parent / "shell"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"no shell/ in or beside {package}")


def read_shell_file(name: str) -> str:
    """The text of the file called *name* in `shell_dir()`."""
    return (shell_dir() / name).read_text(encoding="utf-8")
