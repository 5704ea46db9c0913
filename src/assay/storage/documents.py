"""YAML files that people write: read without silent losses, refused with the file's name."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import yaml

from assay.errors import ConfigurationError, NotFound


class _StrictLoader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML ships no types
    """Refuses a key that stands twice, where YAML would let the last one win, and keys not text."""

    text_keys = True

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            problem = None
            if not isinstance(key, str) and (self.text_keys or not isinstance(key, int | date)):
                problem = f"key {key!r} is not text"
            elif key in seen:
                problem = f"key {key!r} stands twice"
            if problem is not None:
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
        return dict(super().construct_mapping(node, deep=deep))


class _PlainKeys(_StrictLoader):
    """Lets whole numbers and dates be keys as well."""

    text_keys = False


def parse_yaml(text: str, *, source: str, text_keys: bool = True) -> Any:
    """The value of a YAML text; ``source`` names it in errors.

    Parameters
    ----------
    text_keys: whether every key has to be text; otherwise whole numbers and dates may be keys too.

    Raises
    ------
    ConfigurationError: it is not YAML, or holds a key twice or one that is not text.
    """
    try:
        loader = _StrictLoader if text_keys else _PlainKeys
        return yaml.load(text, Loader=loader)  # noqa: S506 - a SafeLoader, stricter
    except (yaml.YAMLError, ValueError) as error:
        # ValueError: a date such as 2026-13-45 or an integer of thousands of digits.
        raise ConfigurationError(f"{source}: not readable as YAML: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{source}: nested too deeply") from None


def read_text(path: Path) -> str:
    """The text of a configuration file.

    Raises
    ------
    NotFound: there is no such file. ConfigurationError: it is not UTF-8, or no file.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"configuration file {path} does not exist") from None
    except (UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(f"{path}: not readable as text: {error}") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file; an empty file has none.

    Raises
    ------
    NotFound: there is no such file.
    ConfigurationError: it is not readable, or holds something else than keys and values.
    """
    document = parse_yaml(read_text(path), source=str(path))
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path}: found {type(document).__name__}, expected keys: values")
    return document
