"""What the test pictures say of detectors, asked after a choice has been made.

`audit` is the one reader of test pictures. `benchmark` measures methods side by side,
`search_audit` the trials of a search that has ended.
"""

__all__ = ["audit", "benchmark", "search_audit"]
