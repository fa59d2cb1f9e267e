"""How a folder of pictures is arranged: which are good, which are for the test, where masks are.

The layouts are those of public data sets and of what people make themselves. Only names are looked
at; in the layouts of KolektorSDD a mask says whether a picture is good, so its masks are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zoo.data.images import SUFFIXES, read_image
from zoo.errors import BadImageError, BadMaskError, DataError

Layout = Literal["mvtec", "nanotwice", "visa", "kolektor", "flat", "bare"]
GOOD_NAMES = ("good", "normal", "ok")
BAD_NAMES = ("bad", "abnormal", "ng", "ko", "defect", "defective", "anomaly", "anomalous")
MASK_FOLDERS = ("ground_truth", "masks", "mask")
MASK_ENDINGS = ("", "_mask", "_label", "_gt", "_GT")
_NO_PARTS = {*GOOD_NAMES, *BAD_NAMES, *MASK_FOLDERS, "test"}
LAYOUTS = (
    "A texture's folder holds either train/good, with test/<kind> and ground_truth/<kind> beside "
    "it (as MVTec AD and BTAD), or Normal, with Anomalous/images and Anomalous/gt beside it (as "
    "NanoTWICE), or good and bad (or normal and abnormal, OK and NG), or what VisA or KolektorSDD "
    f"hold, or pictures of good material and nothing else. Pictures end in {', '.join(SUFFIXES)}."
)


@dataclass(frozen=True, kw_only=True)
class TestFile:
    """A test picture on disk.

    Attributes:
        kind: "good", or the type of the defect.
        path: The picture.
        mask: Its mask; None for a good picture, and if the folder has labels but no masks.
    """

    __test__ = False  # pytest would take it for a class of tests, because of its name

    kind: str
    path: Path
    mask: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """What a texture's folder holds.

    Attributes:
        layout: How it is arranged.
        good: The good pictures for training, in order of their names.
        good_folder: Where they are.
        test: The test pictures.
    """

    layout: Layout
    good: tuple[Path, ...]
    good_folder: Path
    test: tuple[TestFile, ...] = ()


def picture_paths(folder: Path) -> list[Path]:
    """List the pictures in a folder, sorted, without hidden files."""
    return sorted(filter(is_picture, folder.iterdir()))


def is_picture(path: Path) -> bool:
    """Return whether a path is a file that a picture is read from, and not hidden."""
    suffixed = path.suffix.lower() in SUFFIXES
    return suffixed and not path.name.startswith(".") and path.is_file()


def folder_names(folder: Path) -> list[str]:
    """List the names of the folders in a folder, sorted, without hidden ones."""
    if not folder.is_dir():
        return []
    entries = (entry for entry in folder.iterdir() if not entry.name.startswith("."))
    return sorted(entry.name for entry in entries if entry.is_dir())


def layout_of(root: Path) -> Layout | None:
    """Return how a folder is arranged; None if it is no texture's folder.

    Raises:
        DataError: It is arranged in two ways.
    """
    found = [name for name, there in _SIGNS.items() if there(root)]
    if len(found) > 1:
        raise DataError(
            f"{root} is arranged in two ways: {' and '.join(_MEANT[name] for name in found)}. "
            "Keep one of them."
        )
    if found:
        return found[0]
    return "bare" if root.is_dir() and picture_paths(root) else None


def arranged(root: Path, layout: Layout) -> Arrangement:
    """Return what a texture's folder holds. Test pictures are not opened.

    Raises:
        BadMaskError: A mask of KolektorSDD is missing or cannot be read.
    """
    return _READERS[layout](root)


def check_test(arrangement: Arrangement, root: Path) -> None:
    """Check that pictures and masks of the test belong together, by their names.

    Raises:
        BadMaskError: A mask has no picture, a picture has several masks or none where others have
            one, or two pictures have one name.
    """
    for kind in dict.fromkeys(each.kind for each in arrangement.test):
        own = [each.path for each in arrangement.test if each.kind == kind]
        for (folder, stem), count in Counter((path.parent, path.stem) for path in own).items():
            if count > 1:
                raise BadMaskError(
                    f"{count} test pictures in {folder} are called '{stem}', so a mask of that "
                    "name is ambiguous. Rename them."
                )
    known = {each.mask for each in arrangement.test}
    if not any(known):
        return
    for place in MASK_FOLDERS:
        for path in sorted((root / place).rglob("*")) if (root / place).is_dir() else ():
            if path not in known and is_picture(path):
                raise BadMaskError(
                    f"The mask {path} has no picture among those of the test. Add the picture, or "
                    "remove the mask."
                )


def _is_good(name: str) -> bool:
    return name.lower() in GOOD_NAMES


def _good_folder(folder: Path) -> Path | None:
    """Return the folder of good pictures in a folder; `good` comes before `normal` and `ok`."""
    named = {name.lower(): folder / name for name in reversed(folder_names(folder))}
    return next((named[name] for name in GOOD_NAMES if name in named), None)


def _bad_names(folder: Path) -> list[str]:
    return [name for name in folder_names(folder) if name.lower() in BAD_NAMES]


def _is_nanotwice(root: Path) -> bool:
    return (root / "Normal").is_dir() and not (
        _bad_names(root) and not (root / "Anomalous" / "images").is_dir()
    )


def _is_flat(root: Path) -> bool:
    good = _good_folder(root)
    if good is None or _is_nanotwice(root):
        return False
    others = {name for name in folder_names(root) if name not in MASK_FOLDERS} - {good.name}
    return bool(_bad_names(root)) or not (others or picture_paths(root))


def _train_folder(root: Path) -> Path | None:
    """Return the folder of good training pictures: train/good, or train without labels."""
    train = root / "train"
    good = _good_folder(train)
    if good is not None or not train.is_dir():
        return good
    plain = picture_paths(train)
    return train if plain and not any(map(_is_label, plain)) else None


def _label_of(path: Path) -> Path | None:
    """Return the file beside a picture that KolektorSDD calls its label."""
    for ending in ("_label", "_GT"):
        for suffix in (".bmp", ".png"):
            label = path.with_name(f"{path.stem}{ending}{suffix}")
            if label.is_file():
                return label
    return None


def _is_label(path: Path) -> bool:
    return path.stem.endswith(("_label", "_GT"))


def _kolektor_folders(root: Path) -> list[Path]:
    """Return the folders whose pictures have labels beside them: train, or one a part.

    If one of them has a label, all with pictures are meant to have some.
    """
    names = [name for name in folder_names(root) if name.lower() not in _NO_PARTS]
    inside = [root / "train"] if "train" in names else [root / name for name in names]
    folders = [folder for folder in (root, *inside) if folder.is_dir() and picture_paths(folder)]
    labelled = any(_is_label(path) for folder in folders for path in picture_paths(folder))
    return folders if labelled else []


def _mvtec(root: Path) -> Arrangement:
    good = _train_folder(root)
    assert good is not None
    found = []
    for kind in folder_names(root / "test"):
        for path in picture_paths(root / "test" / kind):
            if _is_good(kind):
                found.append(TestFile(kind="good", path=path))
            else:
                found.append(TestFile(kind=kind, path=path, mask=_mask(root, kind, path)))
    return _made("mvtec", good, found)


def _nanotwice(root: Path) -> Arrangement:
    folder = root / "Anomalous"
    found = [
        TestFile(kind="anomalous", path=path, mask=folder / "gt" / f"{path.stem}_gt.png")
        for path in (picture_paths(folder / "images") if (folder / "images").is_dir() else ())
    ]
    return _made("nanotwice", root / "Normal", found)


def _visa(root: Path) -> Arrangement:
    images, masks = root / "Data" / "Images", root / "Data" / "Masks" / "Anomaly"
    found = []
    if (images / "Anomaly").is_dir():
        for path in picture_paths(images / "Anomaly"):
            mask = _one_mask([masks], path) if masks.is_dir() else None
            found.append(TestFile(kind="anomaly", path=path, mask=mask))
    return _made("visa", images / "Normal", found)


def _kolektor(root: Path) -> Arrangement:
    good, found = [], []
    for path, label in _labelled(_kolektor_folders(root)):
        if not _defective(label):
            good.append(path)
        elif not (root / "test").is_dir():
            found.append(TestFile(kind="defective", path=path, mask=label))
    if (root / "test").is_dir():
        for path, label in _labelled([root / "test"]):
            bad = _defective(label)
            kind = "defective" if bad else "good"
            found.append(TestFile(kind=kind, path=path, mask=label if bad else None))
    return Arrangement(layout="kolektor", good=tuple(good), good_folder=root, test=tuple(found))


def _flat(root: Path) -> Arrangement:
    good = _good_folder(root)
    assert good is not None
    found = [
        TestFile(kind=kind.lower(), path=path, mask=_mask(root, kind, path))
        for kind in _bad_names(root)
        for path in picture_paths(root / kind)
    ]
    return _made("flat", good, found)


def _bare(root: Path) -> Arrangement:
    return _made("bare", root, [])


def _made(layout: Layout, good: Path, test: Sequence[TestFile]) -> Arrangement:
    return Arrangement(
        layout=layout, good=tuple(picture_paths(good)), good_folder=good, test=tuple(test)
    )


def _mask(root: Path, kind: str, picture: Path) -> Path | None:
    """Return the mask of a picture; None if the texture has labels and no masks.

    A mask that is not there, where others are, is named as it would be in MVTec AD.
    """
    places = [root / name for name in MASK_FOLDERS if (root / name).is_dir()]
    return _one_mask([each / kind for each in places] + places, picture) if places else None


def _one_mask(folders: Sequence[Path], picture: Path) -> Path:
    names = [f"{picture.stem}{ending}" for ending in MASK_ENDINGS]
    found = [
        path
        for folder in folders
        for name in names
        for path in (folder / f"{name}{suffix}" for suffix in SUFFIXES)
        if path.is_file()
    ]
    if len(found) > 1:
        raise BadMaskError(
            f"{picture} has {len(found)} masks: {', '.join(map(str, found))}. Keep one of them."
        )
    return found[0] if found else folders[0] / f"{picture.stem}_mask.png"


def _labelled(folders: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    for folder in folders:
        for path in picture_paths(folder):
            if _is_label(path):
                continue
            label = _label_of(path)
            if label is None:
                raise BadMaskError(
                    f"{path} has no label {path.stem}_label.bmp or {path.stem}_GT.png beside it, "
                    "as other pictures have. Add it, or remove the picture."
                )
            yield path, label


def _defective(label: Path) -> bool:
    try:
        return bool(read_image(label).any())
    except BadImageError as error:
        raise BadMaskError(f"The label {label} is damaged: {error}") from error


_SIGNS: dict[Layout, Callable[[Path], bool]] = {
    "mvtec": lambda root: _train_folder(root) is not None,
    "nanotwice": _is_nanotwice,
    "visa": lambda root: (root / "Data" / "Images" / "Normal").is_dir(),
    "kolektor": lambda root: root.is_dir() and bool(_kolektor_folders(root)),
    "flat": _is_flat,
}
_MEANT: dict[Layout, str] = {
    "mvtec": "train/good as MVTec AD",
    "nanotwice": "Normal as NanoTWICE",
    "visa": "Data/Images/Normal as VisA",
    "kolektor": "labels beside the pictures as KolektorSDD",
    "flat": "a folder of good and one of bad pictures",
}
_READERS: dict[Layout, Callable[[Path], Arrangement]] = {
    "mvtec": _mvtec,
    "nanotwice": _nanotwice,
    "visa": _visa,
    "kolektor": _kolektor,
    "flat": _flat,
    "bare": _bare,
}
