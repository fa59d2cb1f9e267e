"""Which detectors there are, which one is the champion of a texture, and since when.

A detector on disk is a bundle (`bundle`). A shelf (`shelf`, `folder_shelf`, `s3_shelf`,
`http_shelf`) holds bundles under the digest of their content and one pointer a texture (`pointer`):
aliases, versions and history. `publish` writes what a web server hands out as a read-only shelf.
`maintenance` checks a shelf and removes what no version needs. `gate` has the rules of promotion.
`signing` says who may publish. `runs` keeps searches and model versions in MLflow.

Nothing here imports torch. Only `runs` imports MLflow, and boto3 is imported for a shelf in S3.
"""

__all__ = [
    "bundle",
    "folder_shelf",
    "gate",
    "http_shelf",
    "maintenance",
    "names",
    "pointer",
    "publish",
    "runs",
    "s3_shelf",
    "shelf",
    "signing",
    "starters",
    "trials",
]
