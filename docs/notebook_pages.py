"""Shows the notebooks of docs/notebooks as pages of the site: their words, and their code as blocks.

The site runs no code, and notebooks are stored without outputs. The files lie beside their pages, for
download. mkdocs-jupyter would do the same with some seventy packages and a style of its own.
"""

import json

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Is called with the files of docs/. Adds NAME.md beside each NAME.ipynb."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            page = file.src_uri.removesuffix(".ipynb") + ".md"
            files.append(File.generated(config, page, content=page_of(file.content_string, file.name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Is called with the text of each page. Makes links to a notebook lead to its page.

    The page itself is left out: its link downloads the file.
    """
    return markdown if page.file.generated_by else markdown.replace(".ipynb)", ".md)")


def page_of(notebook: str, name: str) -> str:
    """The Markdown of a notebook. Below its first cell, which holds the title, is a link to the file."""
    first, *others = map(_cell_text, json.loads(notebook)["cells"])
    return "\n\n".join([first, f"[Download this notebook]({name}.ipynb)", *others])


def _cell_text(cell: dict) -> str:
    source = "".join(cell["source"])
    return source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```"
