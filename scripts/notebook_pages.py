"""An mkdocs hook that makes a page from each notebook's cells and stored outputs, so that mkdocs checks its links."""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# (mkdocs is installed in a separate environment)

from __future__ import annotations

import json
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

SUFFIX = ".ipynb"


class Notebook(File):
    """A file that mkdocs treats as a page although it is not Markdown."""

    def is_documentation_page(self) -> bool:
        return True


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for file in list(files):
        if file.src_uri.endswith(SUFFIX):
            files.remove(file)
            files.append(Notebook(file.src_uri, file.src_dir, config.site_dir, config.use_directory_urls))
    return files


def on_page_read_source(page: Page, config: MkDocsConfig) -> str | None:
    if not page.file.src_uri.endswith(SUFFIX):
        return None
    notebook = json.loads(page.file.content_string)
    title, *parts = [part for cell in notebook["cells"] for part in _parts(cell)]
    heading, _, rest = title.partition("\n")
    note = f"*This page is a notebook, run from first cell to last: `docs/{page.file.src_uri}` in the repository.*"
    # Hide the table of contents: two columns of stories need its width.
    return "\n\n".join(["---\nhide: [toc]\n---", heading, note, rest, *parts]) + "\n"


def _parts(cell: dict[str, Any]) -> list[str]:
    source = "".join(cell["source"])
    if cell["cell_type"] != "code":
        return [source]
    return [_fenced(source, "python"), *map(_output, cell["outputs"])]


def _output(output: dict[str, Any]) -> str:
    data: dict[str, Any] = output.get("data", {"text/plain": output.get("text", "")})
    if "text/html" in data:
        return f'<div class="output">{"".join(data["text/html"])}</div>'
    if "image/png" in data:
        return f'<img class="output" alt="" src="data:image/png;base64,{"".join(data["image/png"]).strip()}">'
    return _fenced("".join(data["text/plain"]).rstrip("\n"), "{ .text .output }")


def _fenced(text: str, kind: str) -> str:
    return f"````{kind}\n{text}\n````"
