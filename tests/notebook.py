"""Runs a notebook's cells one after the other, and writes what they show into it when asked.

    python tests/notebook.py docs/first_look.ipynb

Jupyter is not needed: a cell's last expression is shown by its own HTML or text, and open matplotlib figures as PNG.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any


def sources(path: Path) -> list[str]:
    """The code of each code cell."""
    cells = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def run(cells: list[str]) -> list[list[dict[str, Any]]]:
    """Runs cells in one namespace; gives the outputs of each in the notebook's format."""
    import matplotlib

    matplotlib.use("Agg")
    space: dict[str, Any] = {"__name__": "__main__"}
    return [_outputs(source, number + 1, space) for number, source in enumerate(cells)]


def _outputs(source: str, count: int, space: dict[str, Any]) -> list[dict[str, Any]]:
    tree, text = ast.parse(source), io.StringIO()
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(text):
        exec(compile(tree, "cell", "exec"), space)  # the point of this file
        code = compile(ast.Expression(last.value), "cell", "eval") if isinstance(last, ast.Expr) else "None"
        shown = eval(code, space)
    outputs: list[dict[str, Any]] = []
    if text.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": _lines(text.getvalue())})
    outputs += [{"output_type": "display_data", "metadata": {}, "data": {"image/png": png}} for png in _figures()]
    if shown is not None and not outputs:
        data = {"text/plain": _lines(repr(shown))}
        if hasattr(shown, "_repr_html_") and (html := shown._repr_html_()):
            data["text/html"] = _lines(html)
        outputs.append({"output_type": "execute_result", "execution_count": count, "metadata": {}, "data": data})
    return outputs


def _figures() -> list[str]:
    from matplotlib import pyplot

    found = []
    for number in pyplot.get_fignums():
        file = io.BytesIO()
        pyplot.figure(number).savefig(file, format="png", dpi=90, bbox_inches="tight", metadata={"Software": None})
        found.append(base64.b64encode(file.getvalue()).decode())
    pyplot.close("all")
    return found


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main(path: Path) -> None:
    """Runs a notebook and writes its outputs."""
    book = json.loads(path.read_text())
    cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    for number, (cell, outputs) in enumerate(zip(cells, run(sources(path)), strict=True)):
        cell["outputs"], cell["execution_count"] = outputs, number + 1
    path.write_text(json.dumps(book, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
