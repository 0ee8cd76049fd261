"""`python -m benchmarks.load --run runs/demo`: load test of one server with many clients; no question may be lost.

`headwater serve` runs in its own process. Each client asks one question after another for the given time. Three in four
questions are new, and the others are answered from the cache. A client that is turned away (429) waits for the time in
Retry-After. At the end, every question must have an answer.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np

from headwater import configure_process
from headwater.corpus.corpus import Corpus

WAIT = 25
"""Seconds that one request waits for its answer."""
LIMIT = 300
"""Seconds after which a question counts as lost."""


@dataclass(kw_only=True)
class Tally:
    """What happened to the questions of all clients."""

    seconds: list[float] = field(default_factory=list[float])
    """From the first request to the answer, including retries."""
    admitted: list[float] = field(default_factory=list[float])
    """From entering the queue to the answer."""
    outcomes: Counter[str] = field(default_factory=Counter[str])
    turned_away: int = 0
    """Number of 429 responses."""
    retry_after: list[int] = field(default_factory=list[int])
    lock: threading.Lock = field(default_factory=threading.Lock)


def questions_of(run: Path, seed: int) -> list[dict[str, Any]]:
    """Questions about the first words of stories, in random order."""
    corpus = Corpus(run / "corpus" / "examples.arrow")
    places = np.random.default_rng(seed).permutation(len(corpus)).tolist()
    found: list[dict[str, Any]] = []
    for example in corpus.read(places):
        words = example.text.split(" ")
        if len(words) >= 12:
            found.append({"prompt": " ".join(words[:8]), "completion": " " + " ".join(words[8:12])})
    return found


def ask(address: tuple[str, int], body: dict[str, Any], tally: Tally) -> str:
    """Ask until there is an answer. Returns the outcome."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        start = time.monotonic()
        status, headers, content = call(address, "POST", f"/v1/influences?wait={WAIT}", body)
        if status == 429:
            wait = int(headers["Retry-After"])
            with tally.lock:
                tally.turned_away += 1
                tally.retry_after.append(wait)
            time.sleep(wait)
            continue
        if status not in (200, 202):
            return f"status {status}"
        job: dict[str, Any] = json.loads(content)
        while job["state"] in ("queued", "running") and time.monotonic() < deadline:
            status, _, content = call(address, "GET", f"/v1/jobs/{job['id']}?wait={WAIT}")
            if status != 200:
                return f"status {status}"
            job = json.loads(content)
        with tally.lock:
            tally.admitted.append(time.monotonic() - start)
        return "answered" if job["state"] == "done" and job["answer"]["proponents"] else str(job["state"])
    return "lost"


def call(
    address: tuple[str, int], method: str, path: str, body: dict[str, Any] | None = None
) -> tuple[int, Any, bytes]:
    connection = HTTPConnection(*address, timeout=LIMIT)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def client(address: tuple[str, int], questions: Sequence[dict[str, Any]], until: float, tally: Tally) -> None:
    """Ask one question after another until the time is over, and wait for the last answer."""
    draw = random.Random(threading.get_ident())
    asked: list[dict[str, Any]] = []
    new = iter(questions)
    while time.monotonic() < until:
        body = draw.choice(asked) if asked and draw.random() < 0.25 else next(new)
        asked.append(body)
        start = time.monotonic()
        try:
            outcome = ask(address, body, tally)
        except OSError as error:
            outcome = type(error).__name__
        with tally.lock:
            tally.outcomes[outcome] += 1
            tally.seconds.append(time.monotonic() - start)


def serve(run: Path, queue: int) -> tuple[subprocess.Popen[str], tuple[str, int]]:
    """Start a server in its own process and wait until it is ready. Returns the process and its address."""
    command = [str(Path(sys.executable).with_name("headwater")), "serve", str(run), "--port", "0", "--no-open"]
    process = subprocess.Popen([*command, "--queue", str(queue)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    port = int(line.split("http://127.0.0.1:")[1].split("/")[0])
    threading.Thread(target=process.stderr.read, daemon=True).start()
    address = ("127.0.0.1", port)
    while call(address, "GET", "/readyz")[0] != 200:
        time.sleep(0.2)
    return process, address


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"))
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--queue", type=int, default=32)
    options = parser.parse_args()
    questions = questions_of(options.run, seed=0)
    process, address = serve(options.run, options.queue)
    tally = Tally()
    try:
        ask(address, questions[0], Tally())  # the first question reads the sketches
        start = time.monotonic()
        threads = [
            threading.Thread(
                target=client, args=(address, questions[n :: options.clients], start + options.seconds, tally)
            )
            for n in range(options.clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - start
        metrics = call(address, "GET", "/metrics")[2].decode()
    finally:
        process.terminate()
        process.wait(30)
    print_tally(tally, took, options.clients)
    print("\n".join(line for line in metrics.splitlines() if line.startswith("headwater_jobs_total")))
    if set(tally.outcomes) != {"answered"}:
        sys.exit("Not every question was answered.")


def print_tally(tally: Tally, took: float, clients: int) -> None:
    print(f"{clients} clients, {took:.0f} s: {sum(tally.outcomes.values())} questions, {dict(tally.outcomes)}")
    print(f"{len(tally.seconds) / took:.1f} answers a second")
    for what, seconds in (("once in the queue", tally.admitted), ("including retries", tally.seconds)):
        middle, p95, slowest = np.percentile(seconds, [50, 95, 100])
        print(f"seconds to an answer, {what}: median {middle:.2f}, p95 {p95:.2f}, slowest {slowest:.2f}")
    waits = f"Retry-After {min(tally.retry_after)} to {max(tally.retry_after)} s" if tally.retry_after else "none"
    print(f"turned away (429): {tally.turned_away} times, {waits}")


if __name__ == "__main__":
    configure_process()
    main()
