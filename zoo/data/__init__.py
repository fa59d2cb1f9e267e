"""Pictures on disk to arrays: reading, textures, splits, preprocessing, patches, painted defects.

Only the audit reads `testset`. `defects` and `demo` import OpenCV and scikit-image; the other
modules import neither.
"""

__all__ = [
    "defects",
    "demo",
    "fetch",
    "images",
    "layouts",
    "patches",
    "preprocessing",
    "relatives",
    "splits",
    "statistics",
    "survey",
    "testset",
    "textures",
    "variation",
]
