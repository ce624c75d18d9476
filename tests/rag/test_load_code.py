"""Source code: Python against `ast` as the oracle, other languages by example."""

from __future__ import annotations

import ast
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from madang.rag.load import code
from tests.rag import samples

LINES = st.sampled_from([
    "", "def f():", "async def g(x,", "class C:", "class D(B):", "    def m(self):", "    x = 1", "        return 2",
    "@deco", "    @deco", "# comment", "    # inner", '"""doc"""', "'''", '"""', "x = (", ")", "y = [1, 2]", "\\",
    "if x:", "    def inner():", "s = 'it\\'s'", 't = "# no"', "    '''doc", "import a", "\tpass", "\x0c", "{", "}",
    "// c", "function foo() {", "end", "한글 = 1",
])


@given(st.one_of(st.text(max_size=300), st.lists(LINES, max_size=25).map("\n".join)),
       st.sampled_from([".py", ".js", ".c", ".sql"]))
@example('x = """\\', ".py")
@example("'''a'''''", ".py")
def test_blocks_cover_any_source(source: str, suffix: str) -> None:
    document = code.parse(source, suffix)
    assert document.text == source
    samples.assert_whole(document)


def definitions(source: str) -> Iterator[tuple[str, int, int]]:
    """(path, first line, last line) of what ast finds: top-level definitions and those of their classes."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in ast.parse(source).body:
        if isinstance(node, kinds):
            yield f"m > {node.name}", _first_line(node), node.end_lineno or 0
            for inner in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(inner, kinds):
                    yield f"m > {node.name} > {inner.name}", _first_line(inner), inner.end_lineno or 0


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def assert_finds(source: str) -> None:
    document = code.parse(source, ".py", "m")
    samples.assert_whole(document)
    starts = [0]
    for line in source.split("\n"):
        starts.append(starts[-1] + len(line) + 1)
    for path, first, last in definitions(source):
        block = next(each for each in document.blocks if each.start <= starts[first - 1] < each.end)
        assert block.heading == path, f"line {first}"
        if path.count(">") == 2:  # a class goes on in its methods
            assert document.text.count("\n", 0, block.end) + 1 >= last, f"{path} ends early"


STDLIB = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))


@pytest.mark.parametrize("path", STDLIB[::6], ids=lambda path: path.name)
def test_the_standard_library_is_cut_where_ast_cuts_it(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_finds(path.read_text("utf-8"))


STATEMENTS = st.sampled_from([
    "x = 1\n", "# note\n", "@a\n@b(1,\n   2)\ndef d(): ...\n", 's = """\ndef no():\n  class N:\n"""\n',
    "y = [\n1,\n]\n",
    "if x:\n    def hidden():\n        pass\n", "z = 'a\\\ndef no():'\n", "\n", "t = f'{x}' # def no(): (\n",
])
FUNCTIONS = st.sampled_from([
    "def f():\n    pass\n", "async def g(a,\n    b=')',\n):\n    '''doc\nclass No:\n'''\n    return (\n1)\n",
    "def h(): return 1\n", "def k():\n    # inner\n\n# outer?\n    return 2\n", "@d\ndef e():\n    def inner():\n"
    "        pass\n    return inner\n",
])


@st.composite
def modules(draw: st.DrawFn) -> str:
    parts = []
    for _ in range(draw(st.integers(0, 5))):
        parts.append(draw(st.one_of(st.just(""), STATEMENTS)))
        if draw(st.booleans()):
            parts.append(draw(FUNCTIONS))
        else:
            body = "".join(draw(st.lists(st.one_of(STATEMENTS, FUNCTIONS), max_size=3)))
            parts.append("class C:\n    a: int\n" + indent(body, "    ").rstrip() + "\n")
    return "".join(parts)


@given(modules())
def test_generated_modules_are_cut_where_ast_cuts_them(source: str) -> None:
    assert_finds(source)


def test_paths_and_leftovers() -> None:
    source = ('#!/usr/bin/env python\n"""What it is."""\n\nimport os\nX = 1\n\n\n# free\n\n# about f\ndef f():\n    return X\n\n\n'
              "class C(object):\n    '''Doc.'''\n\n    a = 1\n\n    @property\n    def p(self):\n        return 2\n\n"
              "    b = 2\n\n    class D:\n        def q(self): ...\n\n\nif X:\n    f()\n")
    assert samples.outline(code.parse(source, ".py", "m")) == [
        ("paragraph", "m", '#!/usr/bin/env python\n"""What it is."""'),
        ("code", "m", "import os\nX = 1\n\n\n# free"),
        ("code", "m > f", "# about f\ndef f():\n    return X"),
        ("code", "m > C", "class C(object):\n    '''Doc.'''\n\n    a = 1"),
        ("code", "m > C > p", "    @property\n    def p(self):\n        return 2"),
        ("code", "m > C", "    b = 2"),
        ("code", "m > C > D", "    class D:\n        def q(self): ..."),
        ("code", "m", "if X:\n    f()"),
    ]


def test_a_syntax_error_costs_little() -> None:
    document = code.parse("x = (1,\n\ndef f():\n    retrun 1 +\n\nclass C:\n    def m(self:\n        pass\n", ".py", "m")
    assert [block.heading for block in document.blocks] == ["m", "m > f", "m > C", "m > C > m"]


def test_a_package_is_called_by_its_folder() -> None:
    assert code.read(b"def f(): ...", Path("src/madang/__init__.py")).blocks[0].heading == "madang > f"


@pytest.mark.parametrize(("line", "name"), [
    ("export default function foo(a) {", "foo"), ("pub async fn foo<T>(x: T) {", "foo"),
    ("func (s *S) Name(w W) {", "Name"), ("public class Foo extends Bar {", "Foo"), ("struct point {", "point"),
    ("CREATE TABLE IF NOT EXISTS users (", "users"), ("def foo", "foo"), ("impl Foo for Bar {", "Foo"),
    ("type X = string", "X"), ("int main(int argc, char **argv)", "main"), ("static void *foo(int a)", "foo"),
    ("const f = (x) => {", "f"), ("foo() {", "foo"), ("foo <- function(x) {", "foo"),
    ("std::vector<int> Foo::bar(int x) {", "Foo::bar"), ("// comment\nfn go() {}", "go"),
    ("fun main() {", "main"), ("template <typename T>\nclass Foo {", "Foo"), ("local function f()", "f"),
    ("@Component\nexport class App {", "App"),
    ("x = 3", ""), ("return foo(3)", ""), ("#include <stdio.h>", ""), ("import os from 'x'", ""), ("if (x) {", ""),
    ("export const a = 3", ""), ("console.log(foo(", ""),
])
def test_names_of_definitions(line: str, name: str) -> None:
    assert code.parse(line + "\n", ".js", "m").blocks[0].heading == (f"m > {name}" if name else "m")


def test_a_definition_goes_on_after_blank_lines() -> None:
    source = "#include <a.h>\n\nint f(int x)\n{\n  one();\n\n  two();\n}\n\nint y;\n\nint z;\n\nint g() {\n\n}\n"
    document = code.parse(source, ".c", "a")
    assert [(block.heading, block.level) for block in document.blocks] == [
        ("a", 1), ("a > f", 2), ("a > f", 0), ("a", 1), ("a", 0), ("a > g", 2), ("a > g", 0)]
    samples.assert_whole(document)
