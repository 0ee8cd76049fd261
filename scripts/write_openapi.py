"""Write docs/openapi.json from the server's routes; with --check, exit 1 where the file is out of date."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from headwater.serve.app import create_app

PATH = Path(__file__).parent.parent / "docs" / "openapi.json"


def main(arguments: list[str]) -> int:
    document = create_app("runs/never-opened").openapi()
    wanted = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if arguments == ["--check"]:
        current = PATH.read_text(encoding="utf-8") if PATH.exists() else ""
        if current != wanted:
            print(f"{PATH} is out of date. Write it again: make docs-generated", file=sys.stderr)
        return int(current != wanted)
    PATH.write_text(wanted, encoding="utf-8")
    print(f"Wrote {PATH}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
