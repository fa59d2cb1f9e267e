"""How a folder of pictures is arranged: which are good, which are for the test, where masks are.

The layouts are those of public data sets and of what people make themselves. Only names are looked
at; in the layouts of KolektorSDD a mask says whether a picture is good, so its masks are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from zoo.data.images import SUFFIXES, is_picture, picture_paths
from zoo.data.masks import MASK_FOLDERS, Masks, folded, one_mask, read_mask, without_masks
from zoo.data.visa import normal_for_test
from zoo.errors import BadMaskError, DataError

Layout = Literal["mvtec", "nanotwice", "visa", "kolektor", "flat", "bare"]
GOOD_NAMES = ("good", "normal", "ok")
BAD_NAMES = ("bad", "abnormal", "ng", "ko", "defect", "defective", "anomaly", "anomalous")
LABEL_ENDINGS = ("_label", "_gt")  # of KolektorSDD
_NO_PARTS = {*GOOD_NAMES, *BAD_NAMES, *MASK_FOLDERS, "test"}
_OWN_NAMES = {*_NO_PARTS, "train", "data", "anomalous"}  # of folders in that of a texture
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
        mask: Its mask, which may be missing; None if the folder has labels but no masks, and for a
            good picture, which needs none.
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
        masks: All masks that were found.
        lost: Those that bear the name of no picture.
    """

    layout: Layout
    good: tuple[Path, ...]
    good_folder: Path
    test: tuple[TestFile, ...] = ()
    masks: tuple[Path, ...] = ()
    lost: tuple[Path, ...] = ()


def folder_names(folder: Path) -> list[str]:
    """List the names of the folders in a folder, sorted, without hidden ones and macOS's own."""
    if not folder.is_dir():
        return []
    entries = (each for each in folder.iterdir() if not each.name.startswith((".", "__MACOSX")))
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
    loose = picture_paths(root) if root.is_dir() else []
    for path in loose:
        if "\\" in path.name:
            raise DataError(
                f"The names of pictures in {root} hold folders, such as '{path.name}': an archive "
                "made on Windows was unpacked without them. Unpack it with another program, such "
                "as 7-Zip."
            )
    return "bare" if loose else None


def unwrapped(root: Path) -> Path:
    """Return the texture's folder in a folder that holds nothing else, as archives make them.

    A folder that is a texture's itself, or holds none in this way, is returned as it is.
    """
    inner = root
    while layout_of(inner) is None:
        names = folder_names(inner)
        if len(names) != 1 or names[0].lower() in _OWN_NAMES:
            return root
        inner = inner / names[0]
    return inner


def textures_in(folder: Path) -> list[str]:
    """Return the names of the textures in a folder; none if it is a texture's itself.

    A single picture beside the folders of textures does not make their folder a texture's.

    Raises:
        DataError: The folder, or one in it, is arranged in two ways.
    """
    layout = layout_of(folder)
    if layout not in (None, "bare"):
        return []
    ignored = (None,) if layout is None else (None, "bare")
    return [
        name for name in folder_names(folder) if layout_of(unwrapped(folder / name)) not in ignored
    ]


def arranged(root: Path, layout: Layout) -> Arrangement:
    """Return what a texture's folder holds. Test pictures are not opened.

    Raises:
        BadMaskError: A mask of KolektorSDD is missing or cannot be read.
    """
    return _READERS[layout](root)


def unused(arrangement: Arrangement, root: Path) -> list[Path]:
    """Return the pictures under a texture's folder that are neither good, nor for the test."""
    used = {*arrangement.good, *arrangement.masks, *(each.path for each in arrangement.test)}
    found = [path for path in sorted(root.rglob("*")) if is_picture(path) and path not in used]
    hidden = (".", "__MACOSX")
    return [
        path
        for path in found
        if not any(part.startswith(hidden) for part in path.relative_to(root).parts)
    ]


def check_test(arrangement: Arrangement) -> None:
    """Check that pictures and masks of the test belong together, by their names.

    Raises:
        BadMaskError: A mask has no picture or two, or two pictures have one name.
    """
    names = Counter((each.path.parent, folded(each.path.stem)) for each in arrangement.test)
    for each in arrangement.test:
        folder, stem = each.path.parent, each.path.stem
        if (count := names[folder, folded(stem)]) > 1:
            raise BadMaskError(
                f"{count} test pictures in {folder} are called '{stem}', so a mask of that name is "
                "ambiguous. Rename them."
            )
    owners: dict[Path, Path] = {}
    for each in arrangement.test:
        if each.mask is not None:
            other = owners.setdefault(each.mask, each.path)
            if other != each.path:
                raise BadMaskError(
                    f"The mask {each.mask} may be that of {other} and that of {each.path}. Put "
                    "masks into a folder for each kind of defect, or rename the pictures."
                )
    if arrangement.lost:
        raise BadMaskError(
            f"The mask {arrangement.lost[0]} has no picture among those of the test. Add the "
            "picture, name the mask as its picture (x.png, x_mask.png, x_label.png), or remove it."
        )


def beside_good(root: Path) -> str:
    """Return what to do with folders of unknown kind beside that of good pictures, or nothing."""
    good = _good_folder(root)
    others = [name for name in folder_names(root) if name.lower() not in _NO_PARTS]
    if good is None or not others:
        return ""
    return (
        f" If the folders beside {good.name} ({', '.join(others[:3])}) hold defects, put them into "
        f"{root / 'bad'}; if not, put them elsewhere."
    )


def _is_good(name: str) -> bool:
    return name.lower() in GOOD_NAMES


def _inside(folder: Path, *names: str) -> Path | None:
    """Return the folder at the end of a path of names, in upper or lower case; None without it."""
    for name in names:
        known = [each for each in folder_names(folder) if each.lower() == name]
        if not known:
            return None
        folder = folder / (name if name in known else known[0])
    return folder


def _mask_places(folder: Path) -> list[Path]:
    return [place for name in MASK_FOLDERS if (place := _inside(folder, name))]


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
    good, bad = _good_folder(root), _bad_names(root)
    if good is None or (_is_nanotwice(root) and bad in ([], ["Anomalous"])):
        return False
    others = {name for name in folder_names(root) if name.lower() not in MASK_FOLDERS} - {good.name}
    return bool(bad) or not (others or picture_paths(root))


def _train_folder(root: Path) -> Path | None:
    """Return the folder of good training pictures: train/good, or train without labels."""
    train = _inside(root, "train")
    if train is None:
        return None
    good = _good_folder(train)
    if good is not None:
        return good
    plain = picture_paths(train)
    return train if plain and not _labels(plain) else None


def _labels(paths: Sequence[Path]) -> dict[Path, list[Path]]:
    """Return the labels of each picture that has some beside it, as in KolektorSDD."""
    named: dict[str, list[Path]] = {}
    for path in paths:
        named.setdefault(folded(path.stem), []).append(path)
    found = {
        path: [label for ending in LABEL_ENDINGS for label in named.get(stem + ending, ())]
        for stem, several in named.items()
        for path in several
    }
    return {path: labels for path, labels in found.items() if labels}


def _is_label(path: Path) -> bool:
    return folded(path.stem).endswith(LABEL_ENDINGS)


def _kolektor_folders(root: Path) -> list[Path]:
    """Return the folders whose pictures have labels beside them: train, or one a part.

    If one of them has a label, all with pictures are meant to have some.
    """
    names = [name for name in folder_names(root) if name.lower() not in _NO_PARTS]
    train = _inside(root, "train")
    labelled_train = train is not None and bool(_labels(picture_paths(train)))
    inside = [train] if train and labelled_train else [root / name for name in names]
    folders = [folder for folder in (root, *inside) if folder.is_dir() and picture_paths(folder)]
    labelled = any(_labels(picture_paths(folder)) for folder in folders)
    return folders if labelled else []


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """A folder of test pictures, and the folders of masks that may hold theirs."""

    name: str
    folder: Path
    masks: tuple[str, ...]


def _mvtec(root: Path) -> Arrangement:
    good, test = _train_folder(root), _inside(root, "test")
    assert good is not None
    kinds = []
    if test is not None:
        for name in folder_names(test):
            kind = "good" if _is_good(name) else name
            kinds.append(_Kind(name=kind, folder=test / name, masks=(name,)))
    return _made("mvtec", good, kinds, Masks(_mask_places(root)))


def _nanotwice(root: Path) -> Arrangement:
    images, masks = root / "Anomalous" / "images", root / "Anomalous" / "gt"
    kinds = [_Kind(name="anomalous", folder=images, masks=("",))] if images.is_dir() else []
    places = [masks] if masks.is_dir() else []
    return _made("nanotwice", root / "Normal", kinds, Masks(places, ending="_gt"))


def _visa(root: Path) -> Arrangement:
    normal, bad = (_inside(root, "data", "images", name) for name in ("normal", "anomaly"))
    assert normal is not None
    kinds = [_Kind(name="anomaly", folder=bad, masks=(bad.name,))] if bad else []
    masks = _inside(root, "data", "masks", "anomaly")
    made = _made("visa", normal, kinds, Masks([masks.parent] if masks else []))
    kept = normal_for_test(root)
    held = tuple(TestFile(kind="good", path=path) for path in made.good if path.name in kept)
    good = tuple(path for path in made.good if path.name not in kept)
    return replace(made, good=good, test=(*made.test, *held))


def _kolektor(root: Path) -> Arrangement:
    test, good, found = _inside(root, "test"), [], []
    folders = _kolektor_folders(root)
    for path, label in _labelled(folders):
        if not read_mask(label).any():
            good.append(path)
        elif test is None:
            found.append(TestFile(kind="defective", path=path, mask=label))
    if test is not None:
        folders = [*folders, test]
        for path, label in _labelled([test]):
            bad = read_mask(label).any()
            kind = "defective" if bad else "good"
            found.append(TestFile(kind=kind, path=path, mask=label if bad else None))
    files = [path for folder in folders for path in picture_paths(folder)]
    labels = tuple(filter(_is_label, files))
    owned = {
        label
        for folder in folders
        for several in _labels(picture_paths(folder)).values()
        for label in several
    }
    return Arrangement(
        layout="kolektor",
        good=tuple(good),
        good_folder=root,
        test=tuple(found),
        masks=labels,
        lost=tuple(label for label in labels if label not in owned),
    )


def _flat(root: Path) -> Arrangement:
    good = _good_folder(root)
    assert good is not None
    kinds = []
    for bad in _bad_names(root):
        kinds.append(_Kind(name=bad.lower(), folder=root / bad, masks=(bad,)))
        for name in folder_names(root / bad):
            masks = (f"{bad}/{name}", name)
            kinds.append(_Kind(name=name.lower(), folder=root / bad / name, masks=masks))
    return _made("flat", good, kinds, Masks(_mask_places(root)))


def _bare(root: Path) -> Arrangement:
    return _made("bare", root, [], Masks(_mask_places(root)))


def _made(layout: Layout, good: Path, kinds: Sequence[_Kind], masks: Masks) -> Arrangement:
    """Find the mask of each picture: in a folder of its kind, beside it, or among all.

    A mask that is not there, where others are, is named as it would be in MVTec AD.
    """
    own, beside = without_masks(picture_paths(good))
    masks.add(good.name, beside)
    pictures: list[tuple[_Kind, Path]] = []
    for kind in kinds:
        shown, beside = without_masks(picture_paths(kind.folder))
        masks.add(kind.masks[0], beside)
        pictures += [(kind, path) for path in shown]
    chosen: dict[Path, Path | None] = {}
    for kind, path in pictures:
        if kind.name != "good":
            mask = masks.of(path, (*kind.masks, ""))
            chosen[path] = mask or (masks.missing(path, kind.masks[0]) if masks else None)
    taken = set(chosen.values())
    for kind, path in pictures:
        if kind.name == "good":  # its mask is black, if there is one
            mask = masks.of(path, kind.masks) or masks.of(path, ("",))
            chosen[path] = None if mask in taken else mask
    known = {
        *chosen.values(),
        *(mask for path in own for mask in masks.all_of(path, (good.name, ""))),
    }
    return Arrangement(
        layout=layout,
        good=tuple(own),
        good_folder=good,
        test=tuple(
            TestFile(kind=kind.name, path=path, mask=chosen[path]) for kind, path in pictures
        ),
        masks=tuple(masks.files),
        lost=tuple(mask for mask in masks.files if mask not in known),
    )


def _labelled(folders: Sequence[Path]) -> list[tuple[Path, Path]]:
    found = []
    for folder in folders:
        paths = picture_paths(folder)
        labels = _labels(paths)
        for path in paths:
            if _is_label(path):
                continue
            own = labels.get(path, [])
            if not own:
                raise BadMaskError(
                    f"{path} has no label {path.stem}_label.bmp or {path.stem}_GT.png beside it, "
                    "as other pictures have. Add it, or remove the picture."
                )
            found.append((path, one_mask(path, own)))
    return found


_SIGNS: dict[Layout, Callable[[Path], bool]] = {
    "mvtec": lambda root: _train_folder(root) is not None,
    "nanotwice": _is_nanotwice,
    "visa": lambda root: _inside(root, "data", "images", "normal") is not None,
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
