"""HTML and SVG as text, escaped where it is made.

Everything that is not :class:`Markup` is text and is escaped, attributes included, so a reason in
the log or the name of a desk can never become part of the page's structure. The output is well
formed both as HTML and as XML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from typing import Final

_VOID: Final = frozenset({"br", "hr", "link", "meta"})
# Control characters are not allowed in XML, and marks that turn the direction of writing can make
# a reader see another text than the one that was recorded.
_UNSAFE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffe\uffff]")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object) -> Markup:
    """``value`` as escaped text; what must not stand in a page becomes U+FFFD."""
    plain = _SURROGATES.sub("\ufffd", _UNSAFE.sub("\ufffd", str(value)))
    return Markup(escape(plain, quote=True))


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """An element with its children.

    Children that are None are left out, sequences are flattened, everything else that is no markup
    is escaped. Attributes that are None or False are left out; ``class_`` means ``class`` and an
    underscore inside a name a hyphen.
    """
    named = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{text(name if value is True else value)}"'
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    if tag in _VOID:
        return Markup(f"<{tag}{named} />")
    return Markup(f"<{tag}{named}>{join(*children)}</{tag}>")


def join(*children: object) -> Markup:
    """Children one after the other, without an element around them."""
    return Markup("".join(_parts(children)))


def _parts(children: Iterable[object]) -> Iterable[str]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Markup):
            yield child
        elif isinstance(child, str) or not isinstance(child, Iterable):
            yield text(child)
        else:
            yield from _parts(child)
