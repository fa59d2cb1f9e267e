"""Pictures of results: anomaly maps over images, plots, and the HTML reports.

`search_page` and `detector_page` say what is on a report, as plain values, and make the page of it;
`page` writes it. `tiles`, `charts` and `pictures` are what pages consist of. `windows` keeps
validation windows beside a search. Nothing here reads MLflow or test pictures.
"""

__all__ = [
    "charts",
    "detector_page",
    "overlays",
    "page",
    "pictures",
    "plots",
    "search_page",
    "tiles",
    "windows",
]
