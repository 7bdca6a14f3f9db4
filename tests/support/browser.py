"""A page in headless Chromium, as somebody would use it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


class Page:
    """An opened page: what is asked of it in JavaScript, and what its console says."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path, size: Sequence[int] = (1280, 900), scheme: str = "light") -> None:
        """Show a file in a window of this size, by a system with this colour scheme."""
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        wanted = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wanted.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get(path.absolute().as_uri())

    def js(self, code: str) -> Any:
        """The value of an expression."""
        return self.driver.execute_script(f"return {code}")

    def all(self, selector: str) -> list[Any]:
        """The elements that a CSS selector finds."""
        return self.driver.find_elements("css selector", selector)

    def text(self, selector: str) -> str:
        """The text of the first of them."""
        return self.all(selector)[0].text

    def until(self, code: str) -> None:
        """Wait until an expression is true; at most half a minute."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, 30, 0.05).until(lambda _: self.js(code), code)

    def complaints(self) -> list[str]:
        """What the console has said since this was last asked."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


@contextmanager
def browser() -> Iterator[Page]:
    """A browser without a window."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip("no chromium and chromedriver: Debian's packages chromium, chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs[1]))
    try:
        yield Page(driver)
    finally:
        driver.quit()
