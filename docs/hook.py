"""What MkDocs is told besides the pages in this folder: the generated ones, and links out of it.

Pages about commands, settings, parts, errors and files are made from the code when the site is
built, so that none of them can fall behind it. `mkdocs.yml` names this file under `hooks`.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from generate import commands, environment, errors, file_formats, notebooks, parts, python_api
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
REPOSITORY = "repository"
"""Where files of the repository lie on the site that pages link to: results, scripts, data."""
FROM_ROOT = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
"""Page -> the file beside this folder that it shows."""
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
CODE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the generated pages to the navigation, in which no command can be forgotten."""
    fill(config.nav or [], "Commands", commands.navigation())
    fill(config.nav or [], "Notebooks", notebooks.navigation())
    return config


def fill(nav: list[Any], title: str, entries: list[Any]) -> bool:
    """Put `entries` behind those of the section with this title, wherever it stands."""
    for section in nav:
        if not isinstance(section, dict):
            continue
        for name, content in section.items():
            if name == title:
                section[name] = [*content, *entries]
                return True
            if isinstance(content, list) and fill(content, title, entries):
                return True
    return False


def generated() -> dict[str, str | bytes]:
    """Path below this folder -> its content."""
    return {
        **commands.pages(),
        **python_api.pages(),
        **parts.pages(),
        **errors.pages(),
        **environment.pages(),
        **file_formats.pages(),
        **notebooks.pages(),
        **{page: (ROOT / name).read_text("utf-8") for page, name in FROM_ROOT.items()},
    }


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and the files of the repository that pages link to."""
    for path, content in generated().items():
        files.append(File.generated(config, path, content=content))
    linked: set[str] = set()
    for file in files.documentation_pages():
        text = CODE.sub("", file.content_string)
        for link in LINK.finditer(text):
            target = in_repository(file.src_uri, link[2])
            if target is not None:
                linked.add(target)
    for target in sorted(linked):
        path = ROOT / target
        if not path.is_file():
            raise PluginError(f"a page links to {target}, which is no file of the repository")
        uri = f"{REPOSITORY}/{target}"
        # Without the ending .md, which would make a page of it.
        if uri.endswith(".md"):
            uri = uri.removesuffix(".md") + ".txt"
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links out of this folder at the copies on the site."""
    del config, files
    source = page.file.src_uri

    def moved(link: re.Match[str]) -> str:
        return f"{link[1]}{moved_link(source, link[2])}{link[3]}"

    # Links alone, no code: an index such as names[0](x) looks like one.
    pieces = []
    end = 0
    for block in CODE.finditer(markdown):
        pieces += [LINK.sub(moved, markdown[end : block.start()]), block[0]]
        end = block.end()
    pieces.append(LINK.sub(moved, markdown[end:]))
    return together("".join(pieces))


def together(markdown: str) -> str:
    """In tables a mean and its deviation stay on one line."""
    lines = []
    for line in markdown.split("\n"):
        if line.startswith("|"):
            line = line.replace(" ± ", "&nbsp;±&nbsp;").replace(" / ", "&nbsp;/ ")
        lines.append(line)
    return "\n".join(lines)


def folder_in_repository(source: str) -> str:
    """The folder of the repository that the links of a page start from."""
    if source in FROM_ROOT:
        return ""
    return posixpath.join("docs", posixpath.dirname(source))


def path_of(source: str, link: str) -> str | None:
    """The path in the repository that a link leads to; None of one that leads elsewhere."""
    path = link.partition("#")[0]
    if not path or re.match(r"[a-z]+:", path) or path.startswith("/"):
        return None
    return posixpath.normpath(posixpath.join(folder_in_repository(source), path))


def in_repository(source: str, link: str) -> str | None:
    """The path of a file outside this folder, which needs a copy; None of all other links."""
    path = path_of(source, link)
    if path is None or path.startswith("docs/") or path in FROM_ROOT.values():
        return None
    # A notebook is a page, but its file may be meant too.
    if path.startswith("notebooks/") and source not in notebooks.pages_of():
        return None
    return path


def moved_link(source: str, link: str) -> str:
    """A link as it must be on the site."""
    path = path_of(source, link)
    if path is None:
        return link
    _, sign, anchor = link.partition("#")
    page_of = {name: page for page, name in FROM_ROOT.items()}
    if path in page_of:
        target = page_of[path]
    elif path.startswith("docs/"):
        target = path.removeprefix("docs/")
    elif path.startswith("notebooks/") and path.endswith(".ipynb"):
        target = path.removesuffix(".ipynb") + ".md"
    else:
        target = f"{REPOSITORY}/{path}"
        if target.endswith(".md"):
            target = target.removesuffix(".md") + ".txt"
    relative = posixpath.relpath(target, posixpath.dirname(source) or ".")
    return f"{relative}{sign}{anchor}"
