"""A call that ends within a time limit, also where what it calls has none."""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def in_time(ask: Callable[[], T], left_s: float, cut: Callable[[], None] = lambda: None) -> T:
    """What *ask* returns or raises.

    A resolver and a keychain have no time-out at all, so *ask* runs in a thread. If it takes too long, *cut* is called
    and the thread left to itself: it ends with its next read, or with the process.

    Raises:
        TimeoutError: It takes longer than *left_s* seconds.
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
