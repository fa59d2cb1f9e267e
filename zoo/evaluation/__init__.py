"""Measures detectors on the test pictures, after a choice has been made.

`audit` is the only module that reads test pictures. `benchmark` compares methods. `search_audit`
measures the trials of a search that has ended. `audit_log` keeps what a detector says of each test
picture.
"""

__all__ = ["audit", "audit_log", "benchmark", "search_audit"]
