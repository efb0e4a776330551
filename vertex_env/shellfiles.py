"""The files of `shell/`, wherever this installation keeps them.

A wheel carries them as `vertex_env/shell/`; an editable install has none there and reads the checkout's own folder.
"""

from pathlib import Path


def shell_dir() -> Path:
    """The folder with the files that users source, such as `vertex-env.bash`.

    Raises:
        FileNotFoundError: The installation is incomplete.
    """
    package = Path(__file__).parent
    for folder in (package / "shell", package.parent / "shell"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"no shell/ in or beside {package}")
