"""What a browser makes of a page: its elements, whatever the strings on it hold."""

from __future__ import annotations

import html.parser

HOSTILE = "</script><img src=x onerror=\"document.title='run'\"><!--<script>\u2028&amp;"
"""Ends a script, asks for an image, and would run code if that fails."""


class Elements(html.parser.HTMLParser):
    """The elements of a page with their attributes, and the content of its scripts."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.elements and self.elements[-1][0] == "script":
            self.scripts.append(data)
