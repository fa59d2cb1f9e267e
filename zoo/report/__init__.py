"""Pictures of results: anomaly maps over images, plots of benchmarks and of search audits."""

__all__ = ["overlays", "plots"]
