"""The same work again and again on a GPU, as one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3  # calls before the capture, in which libraries and optimisers set themselves up


class Replayed:
    """A function of tensors whose kernels are launched together, from its fourth call on.

    A round on a small batch has some hundred short kernels, and to launch them one by one takes
    several times as long as they take. On a CPU it is the function itself.

    The function must not wait for the device, and what it reads and changes besides its arguments
    must stay where it is. The arguments must keep their shapes.
    """

    def __init__(self, work: Callable[..., Tensor]) -> None:
        """Set the function."""
        self.work, self.calls = work, 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return what the function returns; the next call overwrites it."""
        if inputs[0].device.type != "cuda":
            return self.work(*inputs)
        if self.calls < WARM_UP:
            self.calls += 1
            return self._aside(*inputs)
        if self.graph is None:
            self.graph = self._captured(*inputs)
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given)
        self.graph.replay()
        return self.output

    def _aside(self, *inputs: Tensor) -> Tensor:
        """Call the function on another stream, as the capture will."""
        stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        current = torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            output = self.work(*inputs)
        current.wait_stream(stream)
        return output

    def _captured(self, *inputs: Tensor) -> torch.cuda.CUDAGraph:
        """Record the kernels, without running them."""
        self.inputs = [each.clone() for each in inputs]
        graph = torch.cuda.CUDAGraph()
        # Another thread pins memory for the patches meanwhile, which the stricter mode forbids.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self.output = self.work(*self.inputs)
        return graph
