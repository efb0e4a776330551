"""The rows of `run` that only Linux can hold: the kernel has what the back-end for POSIX has not."""

_LOCALE = "without /proc there is no telling whether LC_CTYPE is Python's own where that means C"

LINUX_ONLY = {
    **{
        f"test_the_environment[{way}-{locale}]": _LOCALE
        for way in ("run", "in place", "cold")
        for locale in ["c", "none"]
    },
    "test_restarts[what_has_left_the_group_is_gone_too]": "what leaves the group is the first process's child, not ours",
}
"""Test, and why it does not pass where the back-end for POSIX is forced; see `conftest.py`."""
