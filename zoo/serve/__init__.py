"""The service: detectors over HTTP, the page for inspectors, the journal of what they answered.

`app` builds the web application that `zoo serve` runs; `ray_app` runs the same routes on a cluster.
Nothing heavy is imported before a module here is.
"""

__all__ = ["answers", "app", "client", "journal", "journal_export", "keys", "server", "settings"]
