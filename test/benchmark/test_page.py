"""The page: complete in itself, and what a real browser makes of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from test.benchmark.documents import cannot_run, document, row
from test.benchmark.test_bench_command import validate
from trt_perception.benchmark.against import compare_with
from trt_perception.benchmark.page import html_page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def page() -> str:
    figures = document(row("onnxruntime:cpu", 4.0), row("torchscript:cpu", 40.0), cannot_run("tensorrt:fp16"))
    validate(figures)
    figures["against"] = [compare_with(figures, document(row("onnxruntime:cpu", 8.0)), "earlier.json")]
    validate(figures)
    return html_page(figures)


class Elements(HTMLParser):
    """Every element with its attributes; complains of one that is not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))


def test_the_page_is_complete_in_itself(page: str) -> None:
    parser = Elements()
    parser.feed(page)
    assert parser.open == []
    tags = [tag for tag, _ in parser.found]
    assert not {"script", "img", "iframe", "object"} & set(tags)
    links = [value for _, a in parser.found for name, value in a.items() if name in ("href", "src")]
    assert links == ["data:,"]
    assert "url(" not in page and "@import" not in page


def test_what_comes_from_outside_is_escaped(page: str) -> None:
    assert "it &lt;cannot&gt;" in page
    assert "do this &amp; that" in page
    assert "a CPU &amp; &lt;more&gt;" in page


def test_bars_have_the_length_of_their_figures(page: str) -> None:
    stages = page[page.index("<h2>Stages") : page.index("<h2>Share")]
    fast, slow = ([float(w) for w in re.findall(r"width:([\d.]+)%", part)] for part in stages.split('class="row"')[1:])
    assert sum(slow) == pytest.approx(100, abs=0.01)
    assert fast[1] / slow[1] == pytest.approx(4.45 / 40.45, abs=0.001)  # inference
    shares = page[page.index("<h2>Share") : page.index("<h2>Latency")]
    widths = [float(w) for w in re.findall(r"width:([\d.]+)%", shares)]
    assert widths == [pytest.approx(100 * 4.891 / 40, abs=0.01), 100.0]  # two periods are the longest


def in_browser(html: str, file: Path, width: int) -> subprocess.CompletedProcess[str]:
    """Shows a page and returns what it has become."""
    file.write_text(html, encoding="utf-8")
    assert BROWSER is not None
    command = [
        *(BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={file.parent / 'profile'}"),
        *("--enable-logging=stderr", "--disable-background-networking", "--disable-component-update"),
        *(f"--window-size={width},900", "--dump-dom", file.as_uri()),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def seen_by(done: subprocess.CompletedProcess[str]) -> Any:
    """What a script has left in the page's data-seen."""
    found = re.search(r"data-seen=\"([^\"]+)\"", done.stdout)
    assert found is not None, done.stderr
    return json.loads(unescape(found.group(1)))


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_in_a_browser(page: str, tmp_path: Path) -> None:
    """No message on the console, nothing asked of the network, and charts with bars that have a size."""
    probe = """<script>
      const boxes = s => [...document.querySelectorAll(s)].map(e => e.getBoundingClientRect());
      const seen = s => boxes(s).filter(r => r.width > 0 && r.height > 0).length;
      document.documentElement.dataset.seen = JSON.stringify(
        {bars: seen('.bar'), columns: seen('rect'), page: document.documentElement.scrollWidth, view: innerWidth,
         requests: performance.getEntriesByType('resource').length});
    </script></body>"""
    for width in (1280, 500):
        assert "CONSOLE" not in in_browser(page, tmp_path / "page.html", width).stderr
        seen = seen_by(in_browser(page.replace("</body>", probe), tmp_path / "measured.html", width))
        assert seen["requests"] == 0
        assert seen["bars"] == 2 * 3 + 2
        assert seen["columns"] >= 4
        assert seen["page"] <= seen["view"]  # nothing sticks out to the side


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_on_a_phone_the_wide_table_scrolls_and_keeps_the_names(page: str, tmp_path: Path) -> None:
    # A headless window is at least 500 pixels wide; a frame may be narrower.
    phone = f"""<!DOCTYPE html><html><body><script>
      function look(frame) {{
        const page = frame.contentDocument, wide = page.querySelector('.wide');
        wide.scrollLeft = 150;
        const name = wide.querySelector('td').getBoundingClientRect(), view = wide.getBoundingClientRect();
        document.documentElement.dataset.seen = JSON.stringify(
          {{page: page.documentElement.scrollWidth, view: frame.contentWindow.innerWidth, table: wide.scrollWidth,
            room: wide.clientWidth, scrolled: wide.scrollLeft, name: name.left - view.left}});
      }}
    </script><iframe width="390" height="844" style="border: 0" onload="look(this)" srcdoc="{escape(page)}"></iframe>
    </body></html>"""
    seen = seen_by(in_browser(phone, tmp_path / "phone.html", 500))
    assert seen["view"] == 390
    assert seen["page"] <= 390
    assert seen["table"] > seen["room"] and seen["scrolled"] == 150
    assert seen["name"] == 0
