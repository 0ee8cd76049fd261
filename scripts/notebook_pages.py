"""A hook of mkdocs: notebooks are pages of the cells and outputs that they hold, with links that are checked."""

# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# (mkdocs has an environment of its own)

from __future__ import annotations

import json
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

SUFFIX = ".ipynb"


class Notebook(File):
    """A file that becomes a page, though it is not Markdown."""

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
    said = f"*A notebook, run from its first cell to its last: `docs/{page.file.src_uri}` in a copy of the repository.*"
    # Two columns of stories need the width of the table of contents.
    return "\n\n".join(["---\nhide: [toc]\n---", heading, said, rest, *parts]) + "\n"


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
