"""The rows of `run` that only Linux can hold: the kernel has what the back-end for POSIX has not."""

_LOCALE = "without /proc there is no telling whether LC_CTYPE is Python's own where that means C"
_LEFT = "what leaves the group is the first process's child, not ours"

LINUX_ONLY = {
    "test_run.py::test_the_environment[run-none]": _LOCALE,
    "test_run.py::test_the_environment[run-c]": _LOCALE,
    "test_run.py::test_the_environment[in place-none]": _LOCALE,
    "test_run.py::test_the_environment[in place-c]": _LOCALE,
    "test_run.py::test_the_environment[cold-none]": _LOCALE,
    "test_run.py::test_the_environment[cold-c]": _LOCALE,
    "test_run.py::test_restarts[what_has_left_the_group_is_gone_too]": _LEFT,
}
"""Test, and why it does not pass where the back-end for POSIX is forced; see `conftest.py`."""
