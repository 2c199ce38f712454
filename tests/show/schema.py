"""A small reader of JSON schemas: what docs/reference/chain.schema.json uses of them, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SCHEMA: dict[str, Any] = json.loads((Path(__file__).parents[2] / "docs/reference/chain.schema.json").read_text())
_TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
_KNOWN = {
    "$ref",
    "type",
    "enum",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "anyOf",
    "const",
    "description",
    "minimum",
}


def problems(value: Any, schema: Any = SCHEMA, where: str = "$") -> list[str]:
    """Return where a value does not fit the schema, in words; nothing for one that fits."""
    assert set(schema) <= _KNOWN | {"$schema", "$defs", "title"}, f"this reader does not know {set(schema) - _KNOWN}"
    if "$ref" in schema:
        return problems(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], where)
    if "anyOf" in schema:
        tried = [problems(value, one, where) for one in schema["anyOf"]]
        return [] if [] in tried else [f"{where} fits none: {tried}"]
    if "const" in schema and value != schema["const"]:
        return [f"{where} is {value!r}, not {schema['const']!r}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where} is {value!r}, none of {schema['enum']}"]
    types = schema.get("type", list(_TYPES))
    types = [types] if isinstance(types, str) else types
    if not any(isinstance(value, _TYPES[one]) and not (one in ("integer", "number") and isinstance(value, bool)) for one in types):
        return [f"{where} is {type(value).__name__} {value!r}, not {types}"]
    found = []
    if isinstance(value, dict) and "properties" in schema:
        found += [f"{where}.{name} is missing" for name in schema.get("required", ()) if name not in value]
        known = schema["properties"]
        for name, one in value.items():
            if name in known:
                found += problems(one, known[name], f"{where}.{name}")
            elif schema.get("additionalProperties") is False:
                found.append(f"{where}.{name} is not in the schema")
    if isinstance(value, list) and "items" in schema:
        for place, one in enumerate(value):
            found += problems(one, schema["items"], f"{where}[{place}]")
    if isinstance(value, (int, float)) and value < schema.get("minimum", value):
        found.append(f"{where} is below {schema['minimum']}")
    return found
