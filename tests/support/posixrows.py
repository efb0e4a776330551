"""The rows of `run` that only Linux can hold: the kernel has what the back-end for POSIX has not."""

_LOCALE = "without /proc there is no telling whether LC_CTYPE is Python's own where that means C"
_LEFT = "what leaves the group is the first process's child, not ours"
_ORIGIN = (
    "without siginfo, a real fault and a signal that was sent look the same: neither is caught"
)
_QUEUE = (
    "a handler in Python is called once for all that came meanwhile; macOS has no real-time signals"
)

LINUX_ONLY = {
    "test_start.py::test_the_environment[run-none]": _LOCALE,
    "test_start.py::test_the_environment[run-c]": _LOCALE,
    "test_start.py::test_the_environment[in place-none]": _LOCALE,
    "test_start.py::test_the_environment[in place-c]": _LOCALE,
    "test_start.py::test_the_environment[cold-none]": _LOCALE,
    "test_start.py::test_the_environment[cold-c]": _LOCALE,
    "test_start.py::test_restarts[what_has_left_the_group_is_gone_too]": _LEFT,
    "test_signals.py::test_a_fault_that_is_sent_is_none[run]": _ORIGIN,
    "test_signals.py::test_real_time_signals_queue[run]": _QUEUE,
}
"""Test, and why it does not pass where the back-end for POSIX is forced; see `conftest.py`."""
