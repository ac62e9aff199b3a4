"""A small reader of JSON schemas: unknown fields are errors, as for an API server that is strict."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}


def problems(
    value: Any, schema: Mapping[str, Any], definitions: Mapping[str, Any], at: str = ""
) -> Iterator[str]:
    """Yields the errors in a value, each with its path."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"]]
    if "enum" in schema:
        if value not in schema["enum"]:
            yield f"{at}: {value!r} is none of {schema['enum']}"
        return
    if type(value) is not _TYPES[schema["type"]]:
        yield f"{at}: {value!r} is no {schema['type']}"
        return
    if isinstance(value, str) and not re.fullmatch(schema.get("pattern", "(?s:.*)"), value):
        yield f"{at}: {value!r} does not fit {schema['pattern']}"
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from (
                problems(item, schema["items"], definitions, f"{at}[{number}]") if "items" in schema else ()
            )
    if isinstance(value, dict):
        yield from _fields(value, schema, definitions, at)


def _fields(
    value: dict[str, Any], schema: Mapping[str, Any], definitions: Mapping[str, Any], at: str
) -> Iterator[str]:
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{at}: {name} is missing"
    for name, entry in value.items():
        inner = schema.get("properties", {}).get(name, schema.get("values"))
        if inner is not None:
            yield from problems(entry, inner, definitions, f"{at}.{name}")
        elif "properties" in schema:
            yield f"{at}: {name} is unknown"
