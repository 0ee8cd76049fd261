"""Write docs/pictures/page-*.png: four screenshots of real answers, from a run that `headwater demo` made.

python scripts/write_screenshots.py runs/demo
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Page, sync_playwright

from headwater.serve.app import create_app
from headwater.serve.server import Server, address_of, listen

CHROMIUM = "/usr/bin/chromium"
TARGET = Path(__file__).parents[1] / "docs" / "pictures"
SIZE = {"width": 1280, "height": 800}


def main(run: Path) -> None:
    first = json.loads((run / "examples.jsonl").read_text(encoding="utf-8").splitlines()[0])
    listener = listen("127.0.0.1", 0)
    app = create_app(run)
    server = Server(app, app.state.service, lambda: None)
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]), daemon=True)
    thread.start()
    while app.state.service.worker.run is None:
        time.sleep(0.1)
    address = address_of("127.0.0.1", listener)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport=SIZE)  # pyright: ignore[reportArgumentType]
        page.goto(address)
        page.wait_for_selector(".chip")
        take_pictures(page, first["prompt"], first["completion"])
        browser.close()
    server.should_exit = True
    thread.join()


def take_pictures(page: Page, prompt: str, completion: str) -> None:
    asked = {"prompt": prompt, "completion": completion}
    show(page, f"#ask?{urlencode(asked)}", ".tok")
    save(page, "ask")
    show(page, f"#results?{urlencode(asked)}", ".card")
    save(page, "answer")
    page.locator(".raised .card .id").first.click()
    page.locator(".query .t").first.wait_for()
    page.locator(".query .t.strong").first.click()
    save(page, "tokens")
    page.get_by_role("link", name="Edit it: what if?").click()
    page.wait_for_selector(".scores")
    box = page.locator("#what-if-text")
    box.fill(box.input_value().replace(completion.strip(" ."), "tin whistle"))
    page.get_by_text("at first").wait_for()
    save(page, "what-if")


def show(page: Page, address: str, selector: str) -> None:
    page.evaluate("address => { location.hash = address }", address)
    page.wait_for_selector(selector)


def save(page: Page, name: str) -> None:
    page.wait_for_timeout(400)
    path = TARGET / f"page-{name}.png"
    page.screenshot(path=path)
    print(f"Wrote {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
