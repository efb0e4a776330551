"""The rows of `run` that only Linux can hold: the kernel has what the back-end for POSIX has not."""

LINUX_ONLY: dict[str, str] = {}
"""Test, and why it does not pass where the back-end for POSIX is forced; see `conftest.py`."""
