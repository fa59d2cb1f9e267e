"""Measures detectors on the test pictures, after a choice has been made.

`audit` is the only module that reads test pictures. `benchmark` compares methods. `search_audit`
measures the trials of a search that has ended.
"""

__all__ = ["audit", "benchmark", "search_audit"]
