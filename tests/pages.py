"""A page of HTML taken apart: is it whole, what does it load, what does it say."""

from __future__ import annotations

from html.parser import HTMLParser

_VOID = {"meta", "img", "link", "br", "hr", "input"}
_CELLS = {"td", "th", "dt", "dd"}
_LOADING = {"src", "href", "srcset", "data", "action", "poster", "background", "xlink:href"}


class Page(HTMLParser):
    """A page.

    Args:
        text: its source.

    Raises:
        AssertionError: a tag is not closed, or closed that is not open.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.source, self.text = text, ""
        self.tags, self.loads, self.handlers = list[tuple[str, dict[str, str]]](), list[str](), list[str]()
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found))
        self.loads += [value for name, value in found.items() if name in _LOADING]
        self.handlers += [name for name in found if name.startswith("on")]
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag
        self.text += " " * (tag in _CELLS)

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of every such tag."""
        return [attributes for name, attributes in self.tags if name == tag]
