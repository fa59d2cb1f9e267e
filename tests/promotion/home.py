"""A home with a data set, a shelf and an MLflow store, and promotion among them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from mlflow.tracking import MlflowClient

from registry import bundle
from registry.bundle import Bundle
from registry.folder_shelf import FolderShelf
from tests.mlflow_runs import new_store
from zoo.data import textures
from zoo.data.textures import Texture
from zoo.promotion import Origin, Promotion, Registry, promote
from zoo.training import gather


class Home:
    """The folder of a user who promotes detectors for the texture `mesh`."""

    def __init__(self, folder: Path, drawn: Path) -> None:
        self.folder = folder
        self.pictures = folder / "data" / "mesh"
        self.shelf = FolderShelf(folder / "shelf")
        self.said: list[str] = []
        shutil.copytree(drawn, self.pictures)
        self.take_a_new_mlflow("mlflow.db")

    def take_a_new_mlflow(self, name: str) -> None:
        self.uri = new_store(self.folder / name)
        self.client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    @property
    def texture(self) -> Texture:
        return textures.find(self.folder / "data", "mesh")

    @property
    def registry(self) -> Registry:
        return Registry(shelf=self.shelf, tracking_uri=self.uri)

    def saved(self, made: Bundle) -> Path:
        folder = self.folder / "trials" / str(len(list(self.folder.glob("trials/*"))))
        bundle.save(made, folder)
        return folder

    def promote(
        self, folder: Path, *, origin: Origin | None = None, because: str | None = None
    ) -> Promotion:
        return promote(
            folder,
            self.texture,
            registry=self.registry,
            origin=origin,
            because=because,
            say=self.said.append,
        )

    def origin(self, run_id: str) -> Origin:
        """A search whose methods that learn nothing find nothing."""
        windows = gather(self.texture).validation
        blind = [np.zeros(window.mask.shape, np.float32) for window in windows]
        return Origin(untrained={"nothing": blind}, run_id=run_id)

    def served(self, name: str = "mesh") -> str:
        return bundle.digest(self.shelf.fetch(name))

    def alias(self, alias: str) -> int | None:
        found = self.client.get_registered_model("texture-mesh").aliases.get(alias)
        return None if found is None else int(found)

    def spoil_the_test_images(self) -> None:
        found = list((self.pictures / "test").rglob("*.png"))
        assert found
        for path in found:
            path.write_bytes(b"no picture")
