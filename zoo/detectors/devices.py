"""Checks the device to compute on."""

from __future__ import annotations

import torch

from zoo.errors import ConfigError


def available(device: str | torch.device) -> torch.device:
    """Return the device if it exists on this machine.

    Raises:
        ConfigError: There is no such device here.
    """
    try:
        torch.empty(1, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"There is no device '{device}' here. Use 'cpu'"
            + (", or 'cuda'." if torch.cuda.is_available() else ".")
        ) from error
