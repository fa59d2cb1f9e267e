"""Archives of small data sets, as their authors would make them."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from tests.data.pictures_written import drawn

Files = Mapping[str, bytes]


def picture(seed: int = 0, suffix: str = "png") -> bytes:
    file = io.BytesIO()
    kind = "jpeg" if suffix == "jpg" else suffix
    Image.fromarray(drawn(40, 48, seed=seed)[..., 0]).save(file, kind)
    return file.getvalue()


def mask(*, black: bool = False, suffix: str = "png") -> bytes:
    pixels = np.zeros((40, 48), np.uint8)
    pixels[3:6, 4:9] = 0 if black else 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, suffix)
    return file.getvalue()


def of_mvtec(*names: str, below: str = "") -> dict[str, bytes]:
    """Return the files of textures in the layout of MVTec AD."""
    files: dict[str, bytes] = {}
    for number, name in enumerate(names):
        root = f"{below}{name}"
        files |= {f"{root}/train/good/{at:03}.png": picture(20 * number + at) for at in range(12)}
        files[f"{root}/test/good/000.png"] = picture(20 * number + 12)
        files[f"{root}/test/cut/000.png"] = picture(20 * number + 13)
        files[f"{root}/ground_truth/cut/000_mask.png"] = mask()
        files[f"{root}/license.txt"] = b"This work is licensed by MVTec Software GmbH ..."
    return files


def tar(path: Path, files: Files, mode: str = "w:xz") -> Path:
    with tarfile.open(path, mode) as opened:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o444
            opened.addfile(info, io.BytesIO(content))
    return path


def zipped(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
