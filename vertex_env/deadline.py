"""Call a function with a time limit, even if the function has no timeout of its own."""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def in_time(ask: Callable[[], T], left_s: float, cut: Callable[[], None] = lambda: None) -> T:
    """Call *ask* in a thread, and return or raise its result.

    The thread is needed because a resolver and a keychain have no timeout at all. If
    *ask* takes too long, *cut* is called and the thread is abandoned. The thread ends
    at its next read, or with the process.

    Raises:
        TimeoutError: *ask* takes longer than *left_s* seconds.
    """
    answers: list[T] = []
    failures: list[Exception] = []

    def work() -> None:
        try:
            answers.append(ask())
        except Exception as e:  # noqa: BLE001 -- raised again below
            failures.append(e)

    if left_s > 0:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(left_s)
    if failures:
        raise failures[0]
    if not answers:
        cut()
        raise TimeoutError("timed out")
    return answers[0]
