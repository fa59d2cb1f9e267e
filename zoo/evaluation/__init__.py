"""Measures detectors on the test pictures, after a choice has been made, and in production.

`audit` is the only module that reads test pictures. `benchmark` compares methods. `search_audit`
measures the trials of a search that has ended. `audit_log` keeps what a detector says of each test
picture. `drift` says whether pictures that are scored one after the other are still like those of
the calibration; `stream` reads their lines. `detector_report` gathers what the report of a detector
shows; `audit_pictures` keeps the test pictures that it needs.
"""

__all__ = [
    "audit",
    "audit_log",
    "audit_pictures",
    "benchmark",
    "detector_report",
    "drift",
    "search_audit",
    "stream",
]
