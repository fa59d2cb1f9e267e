"""Make the README's pictures of the page: `python -m docs.make_page_picture`.

Run where `make demo` ran: it needs the demo's pictures, the detector on the shelf and a Chromium.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.serve.serving import FLAGS, browser_path, running
from zoo.serve.app import build
from zoo.serve.settings import Settings

PICTURES = ("crack/001", "good/003", "smear/002", "stain/004", "good/000", "crack/003")
PLACES = {"page-desktop": (1360, 940, 1.5), "page-phone": (390, 844, 2.0)}


def main() -> None:
    """Show six test pictures of the demo, mark the defect of the first one, and take pictures."""
    with tempfile.TemporaryDirectory() as journal, sync_playwright() as started:
        settings = Settings(names=("brick",), journal=Path(journal))
        browser = started.chromium.launch(executable_path=browser_path(), args=list(FLAGS))
        with running(build(settings)) as address:
            for name in PLACES:
                take(browser, address, name, "light")
            take(browser, address, "page-desktop", "dark")
        browser.close()


def take(browser: Browser, address: str, name: str, scheme: Literal["light", "dark"]) -> None:
    """Write one picture of the page to docs/."""
    width, height, density = PLACES[name]
    page = browser.new_page(
        viewport={"width": width, "height": height},
        device_scale_factor=density,
        color_scheme=scheme,
        reduced_motion="reduce",
    )
    page.goto(address)
    expect(page.locator("#detector")).to_be_enabled(timeout=60_000)
    choose(page)
    if name == "page-phone":
        page.locator("#result").scroll_into_view_if_needed()
        page.evaluate("document.getElementById('banner').scrollIntoView()")
    ending = "-dark" if scheme == "dark" else ""
    page.screenshot(path=f"docs/{name}{ending}.png")
    page.close()


def choose(page: Page) -> None:
    """Give the page the pictures, and wait until the first one is drawn."""
    root = Path("demo-data/brick/test")
    page.set_input_files("#files", [root / f"{name}.png" for name in PICTURES])
    expect(page.locator("#summary")).to_contain_text("6 pictures", timeout=60_000)
    expect(page.locator("#summary")).not_to_contain_text("to come", timeout=60_000)
    expect(page.locator("#regions tbody tr").first).to_be_visible()


if __name__ == "__main__":
    main()
