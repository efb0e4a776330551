"""A server under `run` with tokens that live for ten seconds: every request has to be answered, over many restarts."""

import json
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tests.support.processes import RUN, Process, sandboxed

LIFETIME_S = 10

SERVER = """
import json, os, signal, sys
from openai import OpenAI

stopping = False


def stop(*_):
    global stopping
    stopping = True


signal.signal(signal.SIGTERM, stop)
# Opened for appending: what earlier starts have noted stays.
notes = open(sys.argv[1], "a", buffering=1)
generation = int(os.environ["VERTEX_ENV_GENERATION"])
client = OpenAI(max_retries=0)
number = 0
while not stopping:
    number += 1
    question = f"question {number} of start {generation}"
    note = {"generation": generation, "number": number}
    print(json.dumps({**note, "asked": True}), file=notes)
    try:
        chunks = client.chat.completions.create(
            model="google/gemini-2.5-flash", messages=[{"role": "user", "content": question}], stream=True
        )
        answer = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        error = None if answer == f"The sandbox heard: {question}" else f"another answer: {answer}"
    except Exception as e:
        error = f"{type(e).__name__}: {e}"
    print(json.dumps({**note, "error": error, "stopping": stopping}), file=notes)
"""
"""What a server does that is told to end: it finishes the request at hand. No retries, which would hide failures."""


def soak(seconds: float) -> int:
    """Let it run for so long and print what happened; 1 if a request failed that no planned stop cut off, else 0."""
    with tempfile.TemporaryDirectory(prefix="vertex-env-soak-") as name:
        folder = Path(name)
        notes = folder / "notes"
        command = (*RUN, "--", sys.executable, "-c", SERVER, str(notes))
        with (
            sandboxed(folder, LIFETIME_S) as (sandbox, env),
            Process(command, env, folder) as process,
        ):
            end = time.monotonic() + seconds
            while time.monotonic() < end and process.popen.poll() is None:
                time.sleep(0.1)
            early = process.popen.poll()
            process.send(signal.SIGTERM)
            # By the signal if that came before the server was ready for it.
            status = process.status()
            said, counts = process.stderr, sandbox.counts
        seen = (
            [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
        )
    return report(seen, counts, said, ended_well=early is None and status in (0, -signal.SIGTERM))


def report(
    seen: list[dict[str, object]], counts: Mapping[str, int], said: str, *, ended_well: bool
) -> int:
    """Print the counts; the exit status."""
    answers = [note for note in seen if "asked" not in note]
    failed = Counter(
        str(note["error"]) for note in answers if note["error"] and not note["stopping"]
    )
    while_stopping = sum(bool(note["error"] and note["stopping"]) for note in answers)
    # Killed with a request at hand: that happens to whom a planned stop takes too long, and to nobody else.
    cut_off = len(seen) - 2 * len(answers)
    succeeded = sum(not note["error"] for note in answers)
    print(f"requests that succeeded                  {succeeded}")
    print(f"requests that failed                     {failed.total()} (goal 0)")
    print(f"requests that failed in a planned stop   {while_stopping + cut_off}")
    print(f"requests refused with 401                {counts.get('refused', 0)}")
    print(f"restarts                                 {said.count('starting the command anew')}")
    print(
        f"starts that got an answer                {len({note['generation'] for note in answers})}"
    )
    print(f"token requests                           {counts['token']}")
    for error, times in failed.most_common(5):
        print(f"  {times} x {error}")
    if not ended_well or not succeeded:
        print(f"vertex-env run did not last, or nothing was answered:\n{said}", file=sys.stderr)
        return 1
    return 1 if failed else 0
