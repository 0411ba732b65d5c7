"""Profiles as files: JSON in and out, and tables that somebody measured elsewhere as CSV. Both are untrusted data."""

from __future__ import annotations

import codecs
import csv
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from itertools import zip_longest
from typing import Any

from sgnas_zoo.costs.profile import BlockTime, Profile, Setup, Validation
from sgnas_zoo.costs.table import Conditions
from sgnas_zoo.errors import ArtifactError, SpaceError
from sgnas_zoo.plain_json import parse_json
from sgnas_zoo.spaces import SPACES

KIND, FORMAT_VERSION = "profile", 1
MOST_BLOCKS = 20_000
"""Beyond any space: layers times what a layer can be deployed as."""
MOST_MS = 1e7
"""Beyond the patience of whoever measures."""
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
        ArtifactError: If it is no valid profile of a known format version.
    """
    try:
        data = parse_json(text)
        if not isinstance(data, dict) or data.get("artifact") != KIND:
            raise ValueError('"artifact" is not "profile"')
        if data.get("format_version") != FORMAT_VERSION:
            raise ArtifactError(f"{where} has another format version than {FORMAT_VERSION}; upgrade sgnas_zoo.")
        return _parse(data)
    except (ValueError, TypeError, KeyError, LookupError, SpaceError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ArtifactError(f"{where} is no valid profile ({reason}); fetch it again or profile anew.") from error


def write_profile(profile: Profile) -> str:
    """The JSON of a profile: one block a line, as people like to read it."""
    data = {
        "artifact": KIND,
        "format_version": FORMAT_VERSION,
        "space": profile.space,
        **asdict(profile.conditions),
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
    conditions = Conditions(**{field.name: data[field.name] for field in fields(Conditions)})
    space = SPACES[_text(data["space"])]
    space.check_resolution(conditions.resolution)
    setup = Setup(
        device=_text(data["device"]),
        device_type=_text(data["device_type"]),
        runtime=_text(data["runtime"]),
        threads=_count(data["threads"]),
        dtype=_text(data["dtype"]),
        memory_format=_text(data["memory_format"]),
        batch_size=_count(data["batch_size"]),
    )
    versions = data["versions"]
    if not isinstance(versions, dict) or len(versions) > 20:
        raise ValueError("versions are no short table")
    rows = data["blocks"]
    if not isinstance(rows, list) or not 0 < len(rows) <= MOST_BLOCKS:
        raise ValueError(f"blocks are no list of 1 to {MOST_BLOCKS:,}")
    blocks = tuple(
        BlockTime(
            _count(row["layer"], least=0), _text(row["choice"]), _number(row["median_ms"]),
            _number(row["iqr_ms"], positive=False), _count(row["n"]),
        )
        for row in rows
    )  # fmt: skip
    held = data["validation"]
    validation = held and Validation(
        _count(held["nets"]), _number(held["median_error"], positive=False), _number(held["p90_error"], positive=False),
        _number(held["spearman"], positive=False, least=-1.0),
    )  # fmt: skip
    return Profile(
        space=space.name,
        conditions=conditions,
        setup=setup,
        versions=tuple((_text(name), _text(version)) for name, version in versions.items()),
        cores=_count(data["cores"]),
        date=_text(data["date"]),
        fixed_ms=_number(data["fixed_ms"], positive=False),
        scale=_number(data["scale"]),
        blocks=_distinct(blocks),
        validation=validation or None,
    )


def _distinct(blocks: tuple[BlockTime, ...]) -> tuple[BlockTime, ...]:
    if len({(block.layer, block.choice) for block in blocks}) < len(blocks):
        raise ValueError("a block is listed twice")
    return blocks


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 100 or not value.isprintable():
        raise ValueError(f"{str(value)[:40]!r} is no short text")
    return value


def _count(value: object, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= 1_000_000_000:
        raise ValueError(f"{str(value)[:40]!r} is no count")
    return value


def _number(value: object, positive: bool = True, least: float = 0.0) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= MOST_MS:
        raise ValueError(f"{str(value)[:40]!r} is no time or share")
    if not math.isfinite(value) or (positive and value == 0):
        raise ValueError(f"{str(value)[:40]!r} is no time or share")
    return float(value)


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
        fixed = [_number(float(row["median_ms"]), positive=False) for row in rows if row["layer"] == "fixed"]
        if len(fixed) != 1:
            raise ValueError("it needs one row of layer fixed")
        blocks = tuple(
            BlockTime(
                _count(int(row["layer"]), least=0), _text(row["choice"]), _number(float(row["median_ms"])),
                _number(float(row.get("iqr_ms") or 0), positive=False), _count(int(row.get("n") or 1)),
            )
            for row in rows if row["layer"] != "fixed"
        )  # fmt: skip
        return Profile(fixed_ms=fixed[0], scale=1.0, blocks=_distinct(blocks), **known)
    except (ValueError, TypeError, csv.Error) as error:
        raise ArtifactError(f"{where} is no table of block times ({error}); write {', '.join(COLUMNS)}.") from error


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
