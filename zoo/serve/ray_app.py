"""The service on a Ray cluster: the same routes before replicas that score.

`serve deploy ray_serve.yaml` runs it. An ingress answers HTTP, reads the pointers of the shelf and
builds no detector. It sends a picture to a replica that has its detector, named by the digest of
the bundle, so a promotion is another model and no replica can answer with the old one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import ray
import torch
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.metrics import Counter

from registry.names import parsed
from registry.shelf import shelf_to_read
from zoo.detectors import available
from zoo.errors import ConfigError, RefusedError, ZooError
from zoo.serve.app import build
from zoo.serve.pictures import Answer, Wanted, answered
from zoo.serve.pool import Served, opened
from zoo.serve.refusals import refusal
from zoo.serve.server import log_to_stderr
from zoo.serve.service import Asked
from zoo.serve.settings import Settings

__all__ = ["Args", "app"]

T = TypeVar("T")

log = logging.getLogger("zoo.serve")

MODELS = 8  # detectors of a replica; Ray's own default of 3 is fewer than there are textures
TRIES = 4  # of a picture, when the replicas that it is sent to end
PAUSE_S = 0.5  # before the next try
TAGS: Any = ("detector", "version", "verdict")  # Ray's types know of one tag only

_deployment: Any = serve.deployment  # both are typed in part
_multiplexed: Any = serve.multiplexed(max_num_models_per_replica=MODELS)


class Args(BaseModel):
    """What `args` of `ray_serve.yaml` may say.

    Attributes:
        names: The detectors that are answered for; empty for every champion of the shelf.
        shelf: Address of the shelf; None is that of `zoo.home.shelf_address` on the node.
        keys: File of digests of keys, on every node; `zoo serve --new-key` makes it.
        open: Whether to serve without keys. Requests must then be for the loopback address.
        device: Where the replicas compute.
        most_bytes: Bytes of a picture's file.
        most_megapixels: Size of a picture.
        refresh_s: Seconds between two looks for new champions.
    """

    model_config = ConfigDict(extra="forbid")

    names: tuple[str, ...] = ()
    shelf: str | None = None
    keys: Path | None = None
    open: bool = False
    device: str = "cpu"
    most_bytes: int = Field(default=2**25, gt=0)
    most_megapixels: float = Field(default=50.0, gt=0)
    refresh_s: float = Field(default=10.0, gt=0)

    def settings(self) -> Settings:
        """Return them as the settings of a service.

        Raises:
            ConfigError: There are no keys and it is not to be open, or a value is out of its range.
        """
        if self.keys is None and not self.open:
            raise ConfigError(
                "The service of a cluster asks for keys, and `args` names no file of them. Make "
                "one with `zoo serve --new-key LABEL`, put it on every node, and name it as "
                "`keys`; or say `open: true` to serve the loopback address only."
            )
        return Settings(**self.model_dump(exclude={"open"}))


class Ingress:
    """The routes. It reads pointers and cards, and sends pictures on."""

    def __init__(self, settings: Settings, scorer: DeploymentHandle[Any]) -> None:
        """Take the settings and the replicas that score."""
        self._settings, self._scorer = settings, scorer

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the application."""
        log_to_stderr()
        return build(self._settings, elsewhere=_Replicas(self._scorer, self._settings))


class Scorer:
    """Scores pictures with the detectors that it has loaded, at most `MODELS` of them."""

    def __init__(self, settings: Settings) -> None:
        """Open the shelf; a detector is loaded with its first picture."""
        self._shelf = shelf_to_read(settings.shelf)
        self._device = str(available(settings.device))
        cpus = int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)) or 1
        # On a GPU, one picture is decoded while another is scored.
        self._workers = ThreadPoolExecutor(
            cpus if settings.is_on_cpu else 2,
            initializer=lambda: torch.set_num_threads(1 if settings.is_on_cpu else cpus),
        )
        self._pictures = Counter(
            "zoo_pictures",
            description="Pictures that were scored.",
            tag_keys=TAGS,
        )

    @_multiplexed  # type: ignore[untyped-decorator]
    async def detector(self, pinned: str) -> Any:
        """Load the detector of a name with a digest, `TEXTURE@sha256:DIGEST`."""
        return await asyncio.to_thread(lambda: opened(self._shelf.fetch(pinned), self._device))

    async def answered(self, asked: Asked, content: bytes, wanted: Wanted) -> Answer | RefusedError:
        """Score a picture with the detector that the request was routed by.

        Returns:
            The answer, or a refusal. Ray would log an error that is raised with its traceback.
        """
        try:
            bundle, detector = await self.detector(serve.get_multiplexed_model_id())
            served = Served(
                name=asked.name,
                version=asked.version,
                digest=asked.digest,
                bundle=bundle,
                detector=detector,
            )
            loop = asyncio.get_running_loop()
            done = await loop.run_in_executor(self._workers, answered, served, content, wanted)
        except ZooError as error:
            return refusal(error)
        said = (asked.name, str(asked.version), str(done.line["verdict"]))
        self._pictures.inc(tags=dict(zip(TAGS, said, strict=True)))
        return done


class _Replicas:
    """Sends pictures to the replicas; another one gets the picture of one that ended."""

    def __init__(self, scorer: DeploymentHandle[Any], settings: Settings) -> None:
        self._scorer, self._settings = scorer, settings

    async def answered(self, asked: Asked, content: bytes, wanted: Wanted) -> Answer:
        """Score a picture.

        Raises:
            RefusedError: The picture cannot be scored, or the replicas are busy or gone.
        """
        texture, _ = parsed(asked.name)
        handle = self._scorer.options(multiplexed_model_id=f"{texture}@sha256:{asked.digest}")
        done = await _tried(lambda: handle.answered.remote(asked, content, wanted))
        if isinstance(done, RefusedError):
            raise done
        assert isinstance(done, Answer)
        return done


async def _tried(send: Callable[[], Awaitable[T]]) -> T:
    """Return what a replica answers; scoring has no effect, so it can be tried again.

    Raises:
        RefusedError: The queue of the replicas is full, or each of `TRIES` replicas ended.
    """
    for left in reversed(range(TRIES)):
        try:
            return await send()
        except BackPressureError as error:
            raise RefusedError(
                "The service is busy: its queue is full. Send the picture again later.",
                status=429,
                code="busy",
                retry_after_s=round(error.retry_after_s or 1),
            ) from error
        except (RayActorError, DeploymentUnavailableError) as error:
            log.warning("A replica ended while it scored a picture: %s", error)
            if not left:
                break
            await asyncio.sleep(PAUSE_S)
        except (RayError, RayServeException):
            log.exception("A picture was not scored")
            break
    raise RefusedError(
        "The picture could not be scored, because the replicas that score are not there. Send it "
        "again later; the service's log says why.",
        status=503,
        code="no_replica",
        retry_after_s=5,
    )


def app(args: dict[str, Any]) -> serve.Application:
    """Return the application of `ray_serve.yaml`, whose deployments are `Ingress` and `Scorer`.

    Args:
        args: Those of the file, with the names of `Args`.

    Raises:
        ConfigError: As in `Args.settings`.
        pydantic.ValidationError: A name or a value is not one of `Args`.
    """
    settings = Args.model_validate(args).settings()
    scorer = _deployment(Scorer).bind(settings)
    made: serve.Application = _deployment(serve.ingress()(Ingress)).bind(settings, scorer)
    return made
