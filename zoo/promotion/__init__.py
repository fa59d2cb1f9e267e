"""Promotion: a detector challenges the champion of its texture, and the winner is published.

The rules are those of `registry.gate`. This package measures the figures for them, asks for the
audit of a winner, and publishes it on the shelf and in MLflow.
"""

from zoo.promotion.promotion import Origin, check_promotion, check_test, promote
from zoo.promotion.publication import Promotion, Registry, roll_back
from zoo.promotion.recalibration import recalibrate

__all__ = [
    "Origin",
    "Promotion",
    "Registry",
    "check_promotion",
    "check_test",
    "promote",
    "recalibrate",
    "roll_back",
]
