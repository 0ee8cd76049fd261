"""Names and words that nobody has used before, so that each can stand for one planted fact."""

from __future__ import annotations

import random
from collections.abc import Iterator

NAME_PARTS = (
    ("B", "D", "F", "G", "H", "J", "K", "L", "M", "N", "P", "R", "S", "T", "V", "W", "Y", "Z", "Br", "Dr", "Pl", "Tr"),
    ("a", "e", "i", "o", "u"),
    (
        "vi",
        "lo",
        "mba",
        "zu",
        "ndel",
        "ki",
        "ppo",
        "rtu",
        "lva",
        "sko",
        "mi",
        "dax",
        "nok",
        "bet",
        "zzi",
        "llum",
        "rin",
        "voo",
        "gga",
        "tis",
        "pu",
        "nza",
        "fen",
        "dru",
    ),
)
WORD_PARTS = (
    ("fl", "gl", "sn", "sp", "tr", "bl", "cr", "w", "z", "v", "sk", "dr", "m", "n", "pl", "th", "qu", "k", "y", "br"),
    ("a", "e", "i", "o", "u"),
    ("rp", "lb", "zzle", "ggin", "mf", "vvit", "bbin", "ffo", "zza", "lgo", "xle", "zbit", "mbet", "lfin", "ndoo"),
)
UNWANTED = (
    "nazi",
    "piss",
    "dik",
    "kok",
    "tit",
    "puss",
    "fuk",
    "bum",
    "poo",
    "nig",
    "fag",
    "pak",
    "wog",
    "yid",
)
"""Letters that no invented name or word may contain."""


def invent(parts: tuple[tuple[str, ...], ...], taken: frozenset[str], rng: random.Random) -> Iterator[str]:
    """Yield names put together from `parts`, no two alike and none of them (in small letters) in `taken`."""
    used = set(taken)
    while True:
        name = "".join(rng.choice(part) for part in parts)
        low = name.lower()
        if low not in used and not any(letters in low for letters in UNWANTED):
            used.add(low)
            yield name
