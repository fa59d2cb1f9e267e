"""Make the README's picture of a report from what `make demo` left.

Run `python docs/make_report_picture.py` where `make demo` ran: it needs the detector on the shelf,
and the Chromium of the system.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from zoo.cli import main as zoo

WIDTH, HEIGHT = 1120, 1330  # pixels: the verdict, the curves and the first pictures
BROWSERS = ("chromium", "google-chrome")


def main() -> None:
    """Make the report of the detector, and a picture of its top."""
    browser = next(filter(None, map(shutil.which, BROWSERS)))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        report = Path(folder) / "brick.html"
        zoo(["report", "brick", "--out", str(report)])
        with playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"]) as opened:
            page = opened.new_page(
                viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light"
            )
            page.goto(report.as_uri())
            page.screenshot(path="docs/report.png")


if __name__ == "__main__":
    main()
