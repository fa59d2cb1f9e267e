"""Folders to images and masks: MVTec layout, NanoTWICE, a bare folder of good images; splits.

`find` reads the good training images of one texture and `split` divides them into *fit*, *val*
and *calibration*. The test images are opened by `read_test` and nothing else here, and only
the audit may call it.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Shaped
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from zoo.errors import BadImageError, BadMaskError, DataError, EmptyFolderError, did_you_mean

Layout = Literal["mvtec", "nanotwice", "bare"]
Mode = Literal["L", "RGB"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
MVTEC_TEXTURES = ("carpet", "grid", "leather", "tile", "wood")
MVTEC_OBJECTS = ("bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill", "screw")
MVTEC_NAMES = {*MVTEC_TEXTURES, *MVTEC_OBJECTS, "toothbrush", "transistor", "zipper"}
GOOD_FOLDERS: dict[Layout, str] = {"mvtec": "train/good", "nanotwice": "Normal", "bare": "."}
LAYOUTS = (
    "A texture's folder holds either train/good, with test/<kind> and ground_truth/<kind> beside "
    "it (as MVTec AD), or Normal, with Anomalous/images and Anomalous/gt beside it (as NanoTWICE), "
    f"or pictures of good material and nothing else. Pictures end in {', '.join(SUFFIXES)}."
)

LUMA = (19595, 38470, 7471)  # of 65536: what red, green and blue are to grey
HELD_SHARE = 0.25  # for val and for calibration each: a threshold from few images is loose
HELD_LEAST, HELD_MOST = 4, 40
FEWEST_WHOLE = 3 * HELD_LEAST  # below this many images, each is divided into regions
REGION_SHARES = {"fit": 0.6, "val": 0.2, "calibration": 0.2}
REGION_LEAST = 32  # pixels; nothing that deserves the name of texture fits into less

# What Pillow and the plugins below it raise on damaged files.
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_BITS_PER_SAMPLE, _PLANAR_CONFIGURATION = 258, 284  # TIFF tags


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One good image, or a region of one.

    Attributes:
        name: Path relative to the texture's folder; a region of rows 0 to 700 and columns
            0 to 614 is called "a.png[0:700,0:614]".
        pixels: Of type uint8 or uint16, with one or three channels; a region is a view.
        key: SHA-256 of type, shape and pixels of the image; equal images have equal keys. A
            region appends "@top,left,height,width".
    """

    name: str
    pixels: Shaped[np.ndarray, "h w c"]
    key: str


@dataclass(frozen=True, kw_only=True)
class Texture:
    """The good training images of one texture.

    Attributes:
        name: What the user calls it.
        root: Its folder.
        layout: How the folder is arranged.
        mode: RGB if any training image has colour, else L.
        pictures: The good training images in order of their names, all brought to `mode`.
        licence: What the pictures may be used for, in one line; "unknown" if nobody said.
    """

    name: str
    root: Path
    layout: Layout
    mode: Mode
    pictures: tuple[Picture, ...]
    licence: str

    @property
    def fingerprint(self) -> str:
        """Name the content of all pictures, whatever their file names and order."""
        keys = "\n".join(sorted(picture.key for picture in self.pictures))
        return f"sha256:{hashlib.sha256(keys.encode()).hexdigest()}"


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Good images in three parts that share no pixel.

    Attributes:
        fit: Training sees these.
        val: These get synthetic defects; the search is judged by them.
        calibration: These set means, thresholds and the false-alarm rate.
        seed: What the division was drawn with.
        note: How the images were divided, for a person to read.
    """

    fit: tuple[Picture, ...]
    val: tuple[Picture, ...]
    calibration: tuple[Picture, ...]
    seed: int
    note: str


@dataclass(frozen=True, kw_only=True)
class TestPicture:
    """One test image with what is wrong in it.

    Attributes:
        name: Path relative to the texture's folder.
        kind: "good", or the type of its defect.
        pixels: Of type uint8 or uint16, in the texture's mode.
        mask: True where the image is anomalous; nowhere in a good one.
    """

    __test__ = False  # by its name, pytest would take it for a class of tests

    name: str
    kind: str
    pixels: Shaped[np.ndarray, "h w c"]
    mask: Bool[np.ndarray, "h w"]


def _is_deep_colour(image: ImageFile.ImageFile) -> bool:
    """Tell whether a file just opened holds colour of more than 8 bits; ask before `load`."""
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,))
    is_deep = max(bits) > 8 or any(";16" in str(tile.args) for tile in image.tile)
    return is_deep and image.mode.startswith("RGB")


def _deep_colour(data: bytes, planar: bool) -> Shaped[np.ndarray, "h w 3"]:
    """Decode 16-bit colour, which Pillow 13 would flatten to 8 bits.

    Raises:
        ValueError: OpenCV cannot read it, or is known to read it wrongly.
    """
    import cv2

    if planar:  # OpenCV 5 mixes up the channels of such files
        raise ValueError("16-bit colour in separate planes; save it with interleaved channels")
    flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ValueError(f"16-bit colour that OpenCV cannot decode: {error}") from error
    if pixels is None or pixels.dtype != np.uint16:
        raise ValueError("16-bit colour that OpenCV cannot decode; save it as a plain PNG")
    return np.ascontiguousarray(pixels[..., ::-1])


def _plain(image: Image.Image) -> Shaped[np.ndarray, "h w c"]:
    """Return an upright image as grey or RGB, without alpha or palette.

    Raises:
        ValueError: Its values do not fit into 16 bits.
    """
    if image.mode == "F":
        raise ValueError("32-bit float values; save it with 8 or 16 bits a channel")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise ValueError(f"grey values from {low} to {high}, and 16 bits hold 0 to 65535")
        return values.astype(np.uint16)[..., None]
    if image.mode in ("1", "L", "LA"):
        return np.array(image.convert("L"))[..., None]
    if image.mode in ("P", "PA"):  # straight to RGB, Pillow warns about transparent palettes
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def has_colour(pixels: Shaped[np.ndarray, "h w c"]) -> bool:
    """Tell whether the channels of any pixel differ."""
    return pixels.shape[2] > 1 and bool((pixels != pixels[..., :1]).any())


def _without_idle_colour(pixels: Shaped[np.ndarray, "h w c"]) -> Shaped[np.ndarray, "h w k"]:
    """Keep one of three channels that are all equal."""
    return pixels if has_colour(pixels) else np.ascontiguousarray(pixels[..., :1])


def _decoded(data: bytes) -> Shaped[np.ndarray, "h w c"]:
    """Decode a picture to its last pixel; three equal channels become one."""
    try:
        # From memory, as Pillow 13 garbles rotated grey TIFFs that it maps from disk.
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise ValueError("no picture of 8 or 16 bits, or damaged at its start") from error
    deep = _is_deep_colour(image)
    planar = getattr(image, "tag_v2", {}).get(_PLANAR_CONFIGURATION) == 2
    image.load()
    pixels = _deep_colour(data, planar) if deep else _plain(ImageOps.exif_transpose(image))
    return _without_idle_colour(pixels)


def read_image(path: Path) -> Shaped[np.ndarray, "h w c"]:
    """Read one picture upright, as uint8 or uint16 with one channel or three.

    A colour picture whose channels are all equal comes back with one channel. Alpha is dropped,
    a palette expanded, 1 bit becomes 0 or 255, and of a file with several pages the first is read.

    Args:
        path: A file in one of the formats of `SUFFIXES`.

    Raises:
        BadImageError: The file is missing, damaged or cut short, or its values are no 16 bits'.
    """
    try:
        return _decoded(path.read_bytes())
    except _UNREADABLE as error:
        raise BadImageError(
            f"{path} cannot be read as a picture: {error}. Remove it or replace it."
        ) from error


def from_bytes(content: bytes) -> Shaped[np.ndarray, "h w c"]:
    """Return the pixels of a file that was read already, by the same rules as `read_image`.

    Raises:
        BadImageError: It is no picture, damaged or cut short, or its values are no 16 bits'.
    """
    try:
        return _decoded(content)
    except _UNREADABLE as error:
        raise BadImageError(
            f"These {len(content)} bytes cannot be read as a picture: {error}. Pass a whole file."
        ) from error


def from_pil(image: Image.Image) -> Shaped[np.ndarray, "h w c"]:
    """Return the pixels of a Pillow image by the same rules as `read_image`.

    Raises:
        BadImageError: Its values are no 16 bits', its file is damaged, or the file holds 16-bit
            colour, of which Pillow shows 8 bits only.
    """
    try:
        if isinstance(image, ImageFile.ImageFile) and _is_deep_colour(image):
            raise ValueError("Pillow keeps 8 of its 16 bits of colour; give the path instead")
        return _without_idle_colour(_plain(ImageOps.exif_transpose(image)))
    except _UNREADABLE as error:
        raise BadImageError(f"The Pillow image cannot be used: {error}.") from error


def unit(pixels: Shaped[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w c"]:
    """Scale uint8 or uint16 to float32 from 0 to 1.

    Raises:
        BadImageError: The pixels are of another type.

    Example:
        >>> unit(np.array([[[0], [65535]]], np.uint16)).ravel().tolist()
        [0.0, 1.0]
    """
    if pixels.dtype not in (np.uint8, np.uint16):
        raise BadImageError(f"Pixels are uint8 or uint16, not {pixels.dtype}. Convert them first.")
    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


def to_mode(pixels: Shaped[np.ndarray, "h w c"], mode: Mode) -> Shaped[np.ndarray, "h w k"]:
    """Bring pixels to grey or RGB, keeping their type; equal channels make that same grey.

    Source: ITU-R BT.601, luma 0.299 R + 0.587 G + 0.114 B, in 16-bit fixed point as in Pillow.

    Raises:
        BadImageError: There are neither one nor three channels.

    Example:
        >>> to_mode(np.array([[[255, 0, 0]]], np.uint8), "L").tolist()
        [[[76]]]
    """
    channels = pixels.shape[2]
    if channels not in (1, 3):
        raise BadImageError(f"A picture has 1 or 3 channels, not {channels}. Drop the others.")
    if mode == "RGB":
        return pixels if channels == 3 else np.repeat(pixels, 3, axis=2)
    if channels == 1:
        return pixels
    weighted = pixels.astype(np.uint32) @ np.array(LUMA, np.uint32)
    return ((weighted + 0x8000) >> 16).astype(pixels.dtype)[..., None]


def content_key(pixels: Shaped[np.ndarray, "h w c"]) -> str:
    """Return the SHA-256 of an image's type, shape and pixels, in hexadecimal."""
    digest = hashlib.sha256(f"{pixels.dtype} {pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def same_source(key_a: str, key_b: str) -> bool:
    """Tell whether the pictures of two keys share pixels.

    Example:
        >>> same_source("ab", "ab@0,0,9,5"), same_source("ab@0,0,9,5", "ab@0,5,9,5")
        (True, False)
    """
    image_a, _, region_a = key_a.partition("@")
    image_b, _, region_b = key_b.partition("@")
    if image_a != image_b:
        return False
    if not region_a or not region_b:
        return True
    top_a, left_a, height_a, width_a = map(int, region_a.split(","))
    top_b, left_b, height_b, width_b = map(int, region_b.split(","))
    rows = min(top_a + height_a, top_b + height_b) - max(top_a, top_b)
    columns = min(left_a + width_a, left_b + width_b) - max(left_a, left_b)
    return rows > 0 and columns > 0


def _picture_paths(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _folder_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    entries = (entry for entry in folder.iterdir() if not entry.name.startswith("."))
    return sorted(entry.name for entry in entries if entry.is_dir())


def _layout(folder: Path) -> Layout | None:
    if (folder / GOOD_FOLDERS["mvtec"]).is_dir():
        return "mvtec"
    if (folder / GOOD_FOLDERS["nanotwice"]).is_dir():
        return "nanotwice"
    return "bare" if _picture_paths(folder) else None


def _root(data: Path, category: str) -> tuple[Path, Layout]:
    """Choose the texture's folder.

    Raises:
        DataError: The category is no folder's name.
        EmptyFolderError: Neither DATA nor DATA/category is a texture's folder.
    """
    if category in ("", "..") or Path(category).name != category:
        raise DataError(f"A category is the name of one folder, not '{category}'. Give a name.")
    if not data.is_dir():
        near = did_you_mean(data.name, _folder_names(data.parent))
        raise EmptyFolderError(f"No folder {data} to look for texture '{category}' in.{near}")
    root = data / category if (data / category).is_dir() else data
    layout = _layout(root)
    subfolders = _folder_names(root)
    if root == data and layout in (None, "bare"):
        # A stray picture beside textures makes no texture of their common folder.
        unlike: tuple[Layout | None, ...] = (None,) if layout is None else (None, "bare")
        textures = [name for name in subfolders if _layout(root / name) not in unlike]
        if textures:
            raise EmptyFolderError(
                f"No texture '{category}' in {data}; it has {', '.join(textures)}."
                f"{did_you_mean(category, textures)} {LAYOUTS}"
            )
    if layout is None:
        found = f"the folders {', '.join(subfolders)}" if subfolders else "no folder"
        raise EmptyFolderError(
            f"No picture of good '{category}' in {root}; it has {found} and no picture. {LAYOUTS}"
        )
    return root, layout


def _read_all(paths: Sequence[Path]) -> list[Shaped[np.ndarray, "_ _ _"]]:
    """Read every picture before complaining, so that one run names all that are damaged."""
    images, damaged = [], []
    for path in paths:
        try:
            images.append(_decoded(path.read_bytes()))
        except _UNREADABLE as error:
            damaged.append(f"{path} ({error})")
    if damaged:
        first = "; ".join(damaged[:3]) + (" and others" if len(damaged) > 3 else "")
        raise BadImageError(
            f"{len(damaged)} of {len(paths)} good pictures cannot be read: {first}. "
            "Remove or replace them, then run again."
        )
    return images


def _licence(root: Path, layout: Layout, name: str) -> str:
    """Return the first line of a licence file, or the licence of a well-known name."""
    for folder in (root, root.resolve().parent):
        for path in sorted(folder.iterdir()):
            is_text = path.suffix.lower() in ("", ".txt", ".md") and path.is_file()
            if is_text and path.stem.lower() in ("license", "licence"):
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
                for line in filter(None, (line.strip("# \t\ufeff") for line in lines)):
                    return line
    if layout == "mvtec" and not MVTEC_NAMES.isdisjoint((name, root.name)):
        return "MVTec AD, CC BY-NC-SA 4.0 (assumed from the name)"
    return "unknown"


def find(data: Path, category: str, *, licence: str | None = None) -> Texture:
    """Read all good training images of a texture; test images are not opened.

    Args:
        data: A folder of textures, or one texture's folder.
        category: The texture's name, and its folder in `data` if there is one of that name.
        licence: What the pictures may be used for. If not given, the first line of a licence
            file beside the pictures or one folder up.

    Raises:
        DataError: The category is no folder's name.
        EmptyFolderError: There are no good pictures; the message lists what there is.
        BadImageError: Some pictures are damaged; the message counts them and names the first.
    """
    root, layout = _root(data, category)
    good = root / GOOD_FOLDERS[layout]
    paths = _picture_paths(good)
    if not paths:
        found = ", ".join(sorted(entry.name for entry in good.iterdir())[:5]) or "nothing"
        raise EmptyFolderError(
            f"No picture of good '{category}' in {good}; it has {found}. {LAYOUTS}"
        )
    images = _read_all(paths)
    mode: Mode = "RGB" if any(image.shape[2] == 3 for image in images) else "L"
    images = [to_mode(image, mode) for image in images]
    return Texture(
        name=category,
        root=root,
        layout=layout,
        mode=mode,
        pictures=tuple(
            Picture(name=path.relative_to(root).as_posix(), pixels=image, key=content_key(image))
            for path, image in zip(paths, images, strict=True)
        ),
        licence=licence or _licence(root, layout, category),
    )


def _draw(seed: int, key: str) -> int:
    return int(hashlib.sha256(f"{seed}:{key}".encode()).hexdigest(), 16)


def _regions(picture: Picture, order: Sequence[str]) -> dict[str, Picture]:
    """Cut a picture across its longer side into one region a split, in the order given.

    Raises:
        BadImageError: A region would have a side under `REGION_LEAST`.
    """
    height, width = picture.pixels.shape[:2]
    longer = max(height, width)
    if min(height, width) < REGION_LEAST or longer * min(REGION_SHARES.values()) < REGION_LEAST:
        raise BadImageError(
            f"{picture.name} is {height}x{width} pixels (height x width), too small to be divided "
            f"into regions for training, validation and calibration: that takes {REGION_LEAST}x"
            f"{round(REGION_LEAST / min(REGION_SHARES.values()))}. Give larger pictures, or at "
            f"least {FEWEST_WHOLE} of them."
        )
    regions = {}
    start, share = 0, 0.0
    for name in order:
        share += REGION_SHARES[name]
        end = round(share * longer)
        (top, bottom), (left, right) = (0, height), (start, end)
        if height > width:
            (top, bottom), (left, right) = (start, end), (0, width)
        regions[name] = Picture(
            name=f"{picture.name}[{top}:{bottom},{left}:{right}]",
            pixels=picture.pixels[top:bottom, left:right],
            key=f"{picture.key}@{top},{left},{bottom - top},{right - left}",
        )
        start = end
    return regions


def _split_regions(pictures: Sequence[Picture], seed: int, duplicates: str) -> Splits:
    """Give every split a region of each picture, on another side in the next picture."""
    orders = list(itertools.permutations(REGION_SHARES))
    first = orders[_draw(seed, "order") % len(orders)]
    parts = []
    for number, picture in enumerate(pictures):
        turn = number % len(first)
        parts.append(_regions(picture, first[turn:] + first[:turn]))
    count = f"{len(pictures)} good images are" if len(pictures) > 1 else "1 good image is"
    return Splits(
        fit=tuple(part["fit"] for part in parts),
        val=tuple(part["val"] for part in parts),
        calibration=tuple(part["calibration"] for part in parts),
        seed=seed,
        note=f"{count} too few to keep whole images apart; each is divided into regions: "
        f"60 % to fit, 20 % to validate, 20 % to calibrate.{duplicates}",
    )


def split(texture: Texture, *, seed: int = 0) -> Splits:
    """Divide the good images into three parts that share no pixel.

    From 12 distinct images on, whole images are kept apart, a quarter of them, at most 40, for
    val and for calibration each. With fewer, each
    image is divided into regions, and every split sees every image: the parts are then more
    alike than new images will be. The division hangs on content and seed, not on file names.

    Args:
        texture: What `find` read.
        seed: Another seed draws another division.

    Raises:
        BadImageError: There are fewer than 12 images and one is too small to be divided.
    """
    distinct = {picture.key: picture for picture in reversed(texture.pictures)}
    pictures = sorted(distinct.values(), key=lambda picture: _draw(seed, picture.key))
    left_out = len(texture.pictures) - len(distinct)
    duplicates = f" Duplicates left out: {left_out}." if left_out else ""
    if len(pictures) < FEWEST_WHOLE:
        return _split_regions(pictures, seed, duplicates)
    held = min(HELD_MOST, max(HELD_LEAST, round(HELD_SHARE * len(pictures))))
    return Splits(
        fit=tuple(pictures[2 * held :]),
        val=tuple(pictures[held : 2 * held]),
        calibration=tuple(pictures[:held]),
        seed=seed,
        note=f"{len(pictures)} good images: {len(pictures) - 2 * held} to fit, {held} to "
        f"validate, {held} to calibrate.{duplicates}",
    )


def has_test(texture: Texture) -> bool:
    """Tell whether there are folders of test images, without looking into them."""
    if texture.layout == "mvtec":
        return bool(_folder_names(texture.root / "test"))
    return texture.layout == "nanotwice" and (texture.root / "Anomalous" / "images").is_dir()


def _test_paths(texture: Texture) -> Iterator[tuple[str, Path, Path]]:
    """Yield kind, picture and mask of every test image; a good one's mask need not exist."""
    root = texture.root
    if texture.layout == "mvtec":
        for kind in _folder_names(root / "test"):
            for path in _picture_paths(root / "test" / kind):
                yield kind, path, root / "ground_truth" / kind / f"{path.stem}_mask.png"
    elif has_test(texture):
        for path in _picture_paths(root / "Anomalous" / "images"):
            yield "anomalous", path, root / "Anomalous" / "gt" / f"{path.stem}_gt.png"


def _read_mask(path: Path, picture: Path, height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """Read the mask of a picture of this size; any pixel that is not black is anomalous.

    Raises:
        BadMaskError: It is missing, cannot be read, or has another size.
    """
    if not path.is_file():
        raise BadMaskError(f"{picture} has no mask {path}. Add it, or remove the picture.")
    try:
        mask = np.asarray(read_image(path).any(axis=2))
    except BadImageError as error:
        raise BadMaskError(f"The mask of {picture} is damaged: {error}") from error
    if mask.shape != (height, width):
        raise BadMaskError(
            f"{picture} is {height}x{width} pixels (height x width), but its mask {path} is "
            f"{mask.shape[0]}x{mask.shape[1]}. Replace one of them."
        )
    return mask


def read_test(texture: Texture) -> Iterator[TestPicture]:
    """Yield the test images with their masks, one at a time, reading each when asked for it.

    Only the audit may call this. Images of the NanoTWICE layout are all of kind "anomalous".

    Raises:
        EmptyFolderError: There is no test image.
        BadImageError: A picture cannot be read.
        BadMaskError: A defective picture has no mask, or one of another size.
    """
    empty = True
    for kind, path, mask_path in _test_paths(texture):
        empty = False
        pixels = to_mode(read_image(path), texture.mode)
        height, width = pixels.shape[:2]
        good = kind == "good"
        yield TestPicture(
            name=path.relative_to(texture.root).as_posix(),
            kind=kind,
            pixels=pixels,
            mask=np.zeros((height, width), np.bool_)
            if good
            else _read_mask(mask_path, path, height, width),
        )
    if empty:
        raise EmptyFolderError(
            f"No test image of '{texture.name}' in {texture.root}; test/<kind> or Anomalous/images "
            "should hold some. A detector can be made without them, but not audited."
        )
