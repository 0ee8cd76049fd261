"""Write docs/openapi.json from the server's routes; with --check, exit 1 if the file is out of date."""

from __future__ import annotations

import json
import sys

from generated import keep

from headwater.serve.app import create_app

if __name__ == "__main__":
    document = create_app("runs/never-opened").openapi()
    sys.exit(keep("openapi.json", json.dumps(document, indent=2, ensure_ascii=False) + "\n", sys.argv[1:]))
