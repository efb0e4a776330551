"""The real openai package in a program that knows nothing of tokens, under `run`: it keeps getting answers."""

import json
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.processes import RUN, Process, sandboxed, until

CLIENT = """
import json, os, sys, time
from openai import OpenAI

notes = open(sys.argv[1], "a", buffering=1)
generation = int(os.environ["VERTEX_ENV_GENERATION"])
client = OpenAI(max_retries=0)


def ask(question):
    messages = [{"role": "user", "content": question}]
    return client.chat.completions.create(model="google/gemini-2.5-flash", messages=messages).choices[0].message.content


def stream(question):
    messages = [{"role": "user", "content": question}]
    chunks = client.chat.completions.create(model="google/gemini-2.5-flash", messages=messages, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


number = 0
while True:
    number += 1
    question = f"question {number} of start {generation}"
    print(json.dumps([generation, question, "asked"]), file=notes)
    try:
        answer = (stream if number % 3 == 0 else ask)(question)
    except Exception as e:
        answer = f"{type(e).__name__}: {e}"
    print(json.dumps([generation, question, answer]), file=notes)
    time.sleep(0.1)
"""
"""What people write: one client, made at the start, and a loop."""


@dataclass
class Session:
    """What a client under `run` has seen."""

    path: Path
    refused: int = 0
    said: str = ""
    answered: Counter[int] = field(default_factory=Counter)
    """By start."""
    failed: list[str] = field(default_factory=list)
    cut_off: int = 0
    """Questions without an answer because the client was told to end meanwhile."""

    def read(self) -> "Session":
        """Bring it up to date."""
        lines = self.path.read_text().splitlines(keepends=True) if self.path.exists() else []
        notes: list[Any] = [json.loads(line) for line in lines if line.endswith("\n")]
        answers = {question: answer for _, question, answer in notes if answer != "asked"}
        self.answered = Counter(
            n for n, question, answer in notes if answer == f"The sandbox heard: {question}"
        )
        self.failed = [
            answer
            for question, answer in answers.items()
            if answer != f"The sandbox heard: {question}"
        ]
        self.cut_off = sum(answer == "asked" for _, _, answer in notes) - len(answers)
        return self


def keep_asking(folder: Path, lifetime_s: float, enough: Callable[[Session], object]) -> Session:
    """Run the client with tokens of *lifetime_s* seconds until it has seen *enough*."""
    session = Session(folder / "notes")
    command = [*RUN, "--", sys.executable, "-c", CLIENT, str(session.path)]
    with sandboxed(folder, lifetime_s) as (google, env), Process(command, env, folder) as process:
        until(lambda: enough(session.read()) or process.popen.poll() is not None, 600)
        process.send(signal.SIGTERM)
        assert process.status() == -signal.SIGTERM
        session.refused, session.said = google.counts["refused"], process.stderr
    return session.read()


def test_a_client_keeps_getting_answers(tmp_path: Path) -> None:
    """Over two restarts: each question gets its answer, but for the one asked while the client was told to end."""
    session = keep_asking(tmp_path, 9, lambda seen: seen.answered[2] >= 3)
    assert session.failed == []
    assert session.refused == 0
    assert min(session.answered.values()) >= 3
    assert session.cut_off <= len(session.answered)
    assert session.said.count("starting the command anew") == len(session.said.splitlines()) == 2
