"""Markdown: offsets into the raw file, and blocks as CommonMark sees them."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from madang.rag.load import markdown
from tests.rag import samples

LINES = st.sampled_from([
    "", "# Title", "## Part *two*", "Setext", "===", "---", "text", "  text", "- item", "  - inner", "1. one", "> quote",
    "```", "~~~", "    code", "| a | b |", "|---|---|", "| 1 | 2 |", "<div>", "</div>", "<!-- note", "-->", "***",
    "[ref]: http://example.com", "[^1]: note", "title: x", "\t", "한글 문단이다.", "\x0c", "\u2028x", "+++",
])


@given(st.one_of(st.text(max_size=300), st.lists(LINES, max_size=25).map("\n".join)))
@example("\r\r0\0\n# x\r\n")
def test_blocks_cover_any_markdown(source: str) -> None:
    document = markdown.parse(source)
    assert document.text == source
    samples.assert_whole(document)


SOURCE = """\
---
title: "휴가 안내: 2024"
tags: [a]
---

Before.

# Hand*book* of `x` & [links](http://example.com)

First
paragraph.

Setext 제목
-----------

- one
- two
  1. inner
  2. inner

     more
- three

```python
def f():

    return 1  # kept whole
```

| a | b |
|---|---|
| 1 | 2 |

> quoted
> text

### A > B

<details>
<b>html</b>
</details>

[ref]: http://example.com

    indented code
"""


def test_blocks() -> None:
    book, part = "Handbook of x & links", "Handbook of x & links > Setext 제목"
    deep = part + " > A › B"
    assert samples.outline(markdown.parse(SOURCE)) == [
        ("metadata", "", '---\ntitle: "휴가 안내: 2024"\ntags: [a]\n---'),
        ("paragraph", "", "Before."),
        ("heading", book, "# Hand*book* of `x` & [links](http://example.com)"),
        ("paragraph", book, "First\nparagraph."),
        ("heading", part, "Setext 제목\n-----------"),
        ("list", part, "- one"),
        ("list", part, "- two\n  1. inner\n  2. inner\n\n     more"),
        ("list", part, "- three"),
        ("code", part, "```python\ndef f():\n\n    return 1  # kept whole\n```"),
        ("table", part, "| a | b |\n|---|---|\n| 1 | 2 |"),
        ("paragraph", part, "> quoted\n> text"),
        ("heading", deep, "### A > B"),
        ("paragraph", deep, "<details>\n<b>html</b>\n</details>"),
        ("paragraph", deep, "[ref]: http://example.com"),
        ("code", deep, "    indented code"),
    ]


def test_title() -> None:
    assert markdown.parse(SOURCE).title == "휴가 안내: 2024"
    assert markdown.parse("---\ntitle: plain title # comment\n---\n# Other\n").title == "plain title"
    assert markdown.parse("## Second\n\n# First\n\n# Third\n").title == "First"
    assert markdown.parse("text\n\n---\ntitle: no front matter\n---\n").title == ""
    assert markdown.parse("---\nnot closed\n").blocks[0].kind != "metadata"


def test_a_hash_in_code_is_no_heading() -> None:
    document = markdown.parse("```sh\n# comment\n```\n\n    # also none\n\n- # in an item\n\n#none\n")
    assert [block.kind for block in document.blocks] == ["code", "code", "list", "paragraph"]
