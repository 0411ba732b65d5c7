"""Let transformers load a saved model without ``import sgnas_zoo``: remote code, which each user has to allow.

Off by default. Whoever passes ``trust_remote_code=True`` runs the file that ``add_shim`` writes; sgnas_zoo still has to
be installed there.
"""

from __future__ import annotations

from pathlib import Path

from sgnas_zoo.errors import ArtifactError
from sgnas_zoo.files import read_config, write_json
from sgnas_zoo.folders import among_others
from sgnas_zoo.hub.artifacts import CONFIG, described_by

SHIM = "modeling_sgnas_zoo.py"
CODE = '''"""Registers the networks of sgnas_zoo with timm, then loads as transformers loads timm's."""

import sgnas_zoo  # noqa: F401
from transformers import TimmWrapperForImageClassification, TimmWrapperModel


class SgnasZooForImageClassification(TimmWrapperForImageClassification):
    pass


class SgnasZooModel(TimmWrapperModel):
    pass
'''
AUTO_MAP = {
    "AutoModelForImageClassification": "modeling_sgnas_zoo.SgnasZooForImageClassification",
    "AutoModel": "modeling_sgnas_zoo.SgnasZooModel",
}


def add_shim(folder: str | Path) -> None:
    """Add the remote code to a saved model's folder; ``push`` then publishes it with the rest.

    Raises:
        ArtifactError: If the folder holds no model, or cannot be written.
    """
    config = read_config(Path(folder) / CONFIG)
    if "pretrained_cfg" not in config:
        raise ArtifactError(f"{folder} does not hold a model; transformers loads models only.")
    with among_others(folder, replacing=(CONFIG, SHIM)) as staging:
        (staging / SHIM).write_text(CODE, encoding="utf-8")
        write_json(staging / CONFIG, {**config, "auto_map": AUTO_MAP})


def has_shim(folder: Path) -> bool:
    """Whether a folder holds the shim.

    Raises:
        ArtifactError: If it names or holds other remote code: that is never published.
    """
    path, named = folder / SHIM, read_config(described_by(folder)).get("auto_map")
    if named is None and not path.exists():
        return False
    whole = path.is_file() and not path.is_symlink() and path.read_text(encoding="utf-8", errors="replace") == CODE
    if named != AUTO_MAP or not whole:
        raise ArtifactError(f"{folder} holds remote code of others; run `sgnas-zoo shim {folder}` to replace it.")
    return True
