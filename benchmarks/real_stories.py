"""Prepares real stories for `headwater evaluate`: a training corpus, and 24 queries.

Half of the queries continue stories of the corpus, for which tracing should find the story itself. The other half
continue held-out stories.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks.texts import DATA

EACH = 12
OPENING, WORDS = 2, 8
"""A query's prompt has OPENING sentences of a story, and its completion the next WORDS words."""


def prepare(out: Path) -> None:
    """Write corpus.jsonl and queries.jsonl. Exits if there are no stories."""
    source = DATA / "tinystories" / "stories.jsonl"
    if not source.exists():
        sys.exit(f"There are no stories at {source}: nothing to prepare.")
    stories = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    held_out = set(json.loads((DATA / "gptneo-1m" / "heldout_ids.json").read_text(encoding="utf-8")))
    corpus = [story for story in stories if story["id"] not in held_out]
    queries = [query for story in corpus[::7] if (query := _query(story, [story["id"]]))][:EACH]
    queries += [query for story in stories if story["id"] in held_out and (query := _query(story, []))][:EACH]
    _write(out / "corpus.jsonl", corpus)
    _write(out / "queries.jsonl", queries)


def _query(story: dict[str, Any], known: list[str]) -> dict[str, Any] | None:
    sentences = re.findall(r"[^.!?]+[.!?]+[\"”]?\s*", story["text"])
    if len(sentences) <= OPENING:
        return None
    prompt = "".join(sentences[:OPENING]).rstrip()
    words = re.findall(r"\s*\S+", story["text"][len(prompt) :])
    return {"id": story["id"], "prompt": prompt, "completion": "".join(words[:WORDS]), "stories": known}


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
