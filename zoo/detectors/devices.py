"""Checks the device to compute on, and moves tensors there."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.errors import ConfigError


def available(device: str | torch.device) -> torch.device:
    """Return the device if it exists on this machine.

    Raises:
        ConfigError: There is no such device here, or a process made by fork cannot use it.
    """
    try:
        torch.empty(1, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError) as error:
        raise _hint_of_fork(device, error) or ConfigError(
            f"There is no device '{device}' here. Use 'cpu'"
            + (", or 'cuda'." if torch.cuda.is_available() else ".")
        ) from error


def moved(x: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device.

    Raises:
        ConfigError: The process was made by fork and cannot use the device.
    """
    try:
        return x.to(device)
    except RuntimeError as error:
        if hint := _hint_of_fork(device, error):
            raise hint from error
        raise


def _hint_of_fork(device: str | torch.device, error: Exception) -> ConfigError | None:
    """Return the error to raise if CUDA refuses because of a fork."""
    if "forked subprocess" not in str(error):
        return None
    return ConfigError(
        f"Cannot use the device '{device}': this process was made by fork from one that used CUDA. "
        "Start it with multiprocessing's 'spawn', or use 'cpu'."
    )
