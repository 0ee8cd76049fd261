"""Write docs/answer.schema.json from the classes; with --check, exit 1 if the file is out of date."""

from __future__ import annotations

import json
import sys

from generated import keep

from headwater.attribution.answer import answer_schema

if __name__ == "__main__":
    wanted = json.dumps(answer_schema(), indent=2, ensure_ascii=False) + "\n"
    sys.exit(keep("answer.schema.json", wanted, sys.argv[1:]))
