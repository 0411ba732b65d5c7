"""Profiles as files: JSON in and out, and tables that somebody measured elsewhere as CSV. Both are untrusted data."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Mapping
from dataclasses import asdict, astuple, fields
from itertools import chain, zip_longest
from typing import Any

from msgspec import Struct

from sgnas_zoo.costs.profile import MOST_BLOCKS, Amount, BlockTime, Profile, Setup
from sgnas_zoo.costs.table import Conditions
from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.plain_json import checked, parse_json
from sgnas_zoo.spaces import SPACES

KIND, FORMAT_VERSION = "profile", 1
COLUMNS = ("layer", "choice", "median_ms")
"""What a CSV table has to have; ``iqr_ms`` and ``n`` may follow. The row of layer "fixed" is all the rest."""
TIMES = ("median_ms", "iqr_ms")
"""The columns of a CSV table that may hold decimal commas."""


def read_profile(text: str | bytes, where: str) -> Profile:
    """Read the JSON of a profile, field by field.

    Args:
        text: Its content.
        where: What to call it in errors.

    Raises:
        ArtifactError: If it is not a valid profile of a known format version.
    """
    try:
        data = parse_json(text)
        if not isinstance(data, dict) or data.get("artifact") != KIND:
            raise ValueError('"artifact" is not "profile"')
        if data.get("format_version") != FORMAT_VERSION:
            raise ArtifactError(f"{where} has another format version than {FORMAT_VERSION}; upgrade sgnas_zoo.")
        return _parse(data)
    except (ValueError, LookupError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ArtifactError(f"{where} is not a valid profile ({reason}); fetch it again or profile anew.") from error


def write_profile(profile: Profile) -> str:
    """The JSON of a profile: one block a line, as people like to read it."""
    data = {
        "artifact": KIND,
        "format_version": FORMAT_VERSION,
        "space": profile.space,
        **profile.conditions.of_network(),
        **asdict(profile.setup),
        "cores": profile.cores,
        "versions": dict(profile.versions),
        "date": profile.date,
        "fixed_ms": profile.fixed_ms,
        "scale": profile.scale,
        "validation": profile.validation and asdict(profile.validation),
    }
    blocks = ",\n".join(f"    {json.dumps(asdict(block))}" for block in profile.blocks)
    return json.dumps(data, indent=2).removesuffix("\n}") + f',\n  "blocks": [\n{blocks}\n  ]\n}}\n'


def _parse(data: Mapping[str, Any]) -> Profile:
    own = {name: data[name] for name in ("space", "cores", "date", "fixed_ms", "scale", "blocks", "validation")}
    parts = {"conditions": Conditions().of_network(), "setup": [field.name for field in fields(Setup)]}
    for part, names in parts.items():  # all in one object, as people like to read it
        own[part] = {name: data[name] for name in names}
    profile = checked({**own, "versions": list(checked(data, _File).versions.items())}, Profile)
    SPACES[profile.space].check_resolution(profile.conditions.resolution)
    return _sound(profile)


def _sound(profile: Profile) -> Profile:
    """Check what types cannot say: no block is listed twice, and texts are for people."""
    places = {(block.layer, block.choice) for block in profile.blocks}
    if len(places) < len(profile.blocks):
        raise ValueError("a block is listed twice")
    texts = (*chain(*profile.versions), *map(str, astuple(profile.setup)), profile.date, *(c for _, c in places))
    if odd := [text for text in texts if not text.isprintable()]:
        raise ValueError(f"{odd[0][:40]!r} is not printable")
    return profile


class _File(Struct):
    """What a file writes otherwise than ``Profile`` has it."""

    versions: dict[str, str]


class _Times(Struct):
    """What a table measured elsewhere tells."""

    fixed_ms: Amount
    blocks: list[BlockTime]


def read_csv(table: str | bytes, where: str, **known: Any) -> Profile:
    """Read a table of block times that was measured elsewhere, with the runtime of somebody's own device.

    What spreadsheets write is read too: a byte order mark, UTF-16, semicolons or tabs between the columns, and there
    decimal commas, unless points are among the numbers as well.

    Args:
        table: CSV with a header: ``layer`` (a number, or "fixed" for all that no choice changes), ``choice`` as
            ``deployed`` writes it, ``median_ms``, and ``iqr_ms`` and ``n`` where they are known.
        where: What to call it in errors.
        known: All else of ``Profile`` but ``fixed_ms``, ``scale`` and ``blocks``.

    Raises:
        ArtifactError: If a column or the fixed row is missing, or a value is none.
    """
    try:
        rows = _rows(table if isinstance(table, str) else _text_of(table))
        fixed = [float(row["median_ms"]) for row in rows if row["layer"] == "fixed"]
        if len(fixed) != 1:
            raise ValueError("it needs one row of layer fixed")
        blocks = [
            {
                "layer": int(row["layer"]), "choice": row["choice"], "median_ms": float(row["median_ms"]),
                "iqr_ms": float(row.get("iqr_ms") or 0), "n": int(row.get("n") or 1),
            }
            for row in rows if row["layer"] != "fixed"
        ]  # fmt: skip
        times = checked({"fixed_ms": fixed[0], "blocks": blocks}, _Times)
        return _sound(Profile(fixed_ms=times.fixed_ms, scale=1.0, blocks=tuple(times.blocks), **known))
    except (ValueError, TypeError, csv.Error) as error:
        raise ArtifactError(f"{where} is not a table of block times ({error}); write {', '.join(COLUMNS)}.") from error


def _text_of(content: bytes) -> str:
    """Text by its byte order mark, else UTF-8, else the single bytes of older spreadsheets."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _rows(text: str) -> list[dict[str, str]]:
    """The rows of a table by column, with points in its numbers; empty lines are left out."""
    lines = text.removeprefix("\ufeff").splitlines()
    if lines and lines[0].strip().strip('"').lower().startswith("sep="):  # a line that only Excel reads
        lines = lines[1:]
    header = lines[0] if lines else ""
    delimiter = max(",;\t", key=header.count)
    table = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter, strict=True)]
    names = [name.lower() for name in table[0]] if table else []
    missing = [column for column in COLUMNS if column not in names]
    if missing:
        raise ValueError(f"it has no column {missing[0]}")
    filled = [row for row in table[1:] if any(row)]
    if len(filled) > MOST_BLOCKS:
        raise ValueError(f"it has more than {MOST_BLOCKS:,} rows")
    if any(any(row[len(names) :]) for row in filled):
        raise ValueError("a row has more columns than the header")
    rows = [dict(zip_longest(names, row[: len(names)], fillvalue="")) for row in filled]
    return _with_points(rows) if delimiter != "," else rows


def _with_points(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Decimal commas as points. Where points are among them, a comma may part thousands, so all stay as they are."""
    numbers = [row[name] for row in rows for name in TIMES if row.get(name)]
    if any("." in number for number in numbers):
        return rows
    return [{name: text.replace(",", ".") if name in TIMES else text for name, text in row.items()} for row in rows]
