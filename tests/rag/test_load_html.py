"""HTML: what a reader sees, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from madang.rag.load import html
from tests.rag import samples

TAGS = ("div", "p", "b", "span", "ul", "ol", "li", "table", "tr", "td", "th", "pre", "h1", "h3", "dl", "dt", "dd",
        "script", "style", "title", "template", "br", "details", "a", "body", "head", "svg", "select", "option")
PIECES = st.one_of(st.sampled_from([f"<{tag}>" for tag in TAGS] + [f"</{tag}>" for tag in TAGS]),
                   st.sampled_from(["word", " ", "\n", "&amp;", "&#0;", "&nbsp;", "<!-- c -->", "<p hidden>", "가나", "<"]),
                   st.text(max_size=5))


@given(st.lists(PIECES, max_size=40).map("".join))
def test_blocks_cover_any_markup(source: str) -> None:
    document = html.parse(source)
    samples.assert_whole(document)
    assert "\0" not in document.text


PAGE = """<!doctype html><html lang=ko><head><title>휴가 &amp; 규정</title><style>p{}</style></head><body>
<nav><a href="/">Home</a></nav><script>track()</script>
<h1>Vacation <a class=headerlink href="#v">¶</a></h1>
loose <b>bold</b> text<br>second&nbsp;line
<p>One paragraph
   over two lines</p>
<ul><li>one<ul><li>inner</ul><li><p>two</p><p>more</p></ul>
<ol start=3><li>three<li>four</ol>
<h2>Days</h2>
<table><caption>Per year</caption><tr><th>Name<th>Days<th>Note<tr><td>A<td><td><p>15</p><p>d</p></table>
<pre>
def f():
    return  1
</pre>
<dl><dt>carry-over</dt><dd>to March</dd></dl>
<p>x &lt; y</p>
<table><tr><td><h3>Side</h3><p>A layout table</td></tr></table>
</body></html>"""


def test_blocks() -> None:
    days = "Vacation > Days"
    document = html.parse(PAGE)
    assert document.title == "휴가 & 규정"
    assert samples.outline(document) == [
        ("paragraph", "", "Home"),
        ("heading", "Vacation", "Vacation"),
        ("paragraph", "Vacation", "loose bold text\nsecond line"),
        ("paragraph", "Vacation", "One paragraph over two lines"),
        ("list", "Vacation", "- one"), ("list", "Vacation", "- inner"), ("list", "Vacation", "- two"),
        ("list", "Vacation", "more"), ("list", "Vacation", "3. three"), ("list", "Vacation", "4. four"),
        ("heading", days, "Days"),
        ("table", days, "Per year\nName | Days | Note\nA |  | 15 d"),
        ("code", days, "def f():\n    return  1"),
        ("definition", f"{days} > carry-over", "carry-over"),
        ("paragraph", f"{days} > carry-over", "to March"),
        ("paragraph", days, "x < y"),
        ("heading", f"{days} > Side", "Side"),
        ("paragraph", f"{days} > Side", "A layout table"),
    ]


@pytest.mark.parametrize("unseen", [
    "<script>alert('no')</script>", "<style>no</style>", "<noscript>no</noscript>", "<template><p>no</template>",
    "<div hidden>no<p>no</div>", "<div style='color:red; display: none'><p>no</p></div>", "<!-- no -->",
    "<p style='visibility:hidden'>no</p>", "<svg><text>no</text></svg>", "<iframe>no</iframe>",
    "<img src=http://example.com/no.png alt=no>", "<select><option>no</select>", "<object>no</object>",
    "<dialog>no</dialog>", "<input value=no>", "<link rel=stylesheet href=http://example.com/no.css>",
])
def test_what_is_not_shown_is_not_read(unseen: str) -> None:
    assert html.parse(f"<p>before{unseen}<p>after").text == "before\n\nafter"


def test_no_depth_breaks_it() -> None:
    assert html.parse("<div>" * 3000 + "deep" + "<b>" * 3000 + "er").text == "deeper"


@pytest.mark.parametrize(("head", "encoding"), [
    ("<meta charset=euc-kr>", "cp949"), ("<meta charset='utf-8'>", "utf-8"), ("", "utf-8"), ("", "utf-16"),
    ('<meta http-equiv=Content-Type content="text/html; charset=ks_c_5601-1987">', "cp949"),
    ('<?xml version="1.0" encoding="euc-kr"?>', "cp949"), ("<meta charset=iso-8859-1>", "utf-8-sig"),
])
def test_charsets(head: str, encoding: str) -> None:
    page = f"{head}<title>똠방각하</title><p>휴가\r\n규정"
    document = html.read(page.encode(encoding), Path("a.html"))
    assert (document.title, document.text) == ("똠방각하", "휴가 규정")


def test_a_stray_byte_in_a_page_that_names_its_charset() -> None:
    data = b"<meta charset=utf-8><p>" + "가".encode() * 50 + b"\xff" + "나".encode() * 50
    assert html.read(data, Path("a.html")).text == "가" * 50 + "\ufffd" + "나" * 50


def test_the_first_heading_names_a_page_without_title() -> None:
    assert html.parse("<h2>b</h2><h1>a <i>c</i></h1><svg><title>no</title></svg>").title == "a c"
