"""Documents of the evaluation as a table."""

from __future__ import annotations

import json

import pytest

from reference.evaluate import table
from reference.metrics import METRICS


def part(value: float) -> dict[str, float]:
    return {f"box_{name}": value for name in METRICS} | dict.fromkeys(METRICS, value)


@pytest.fixture
def documents(tmp_path):
    backend = {"actual": "openvino", "precision": "bf16"}
    field = {
        "stage": "field",
        "renderer": "baked",
        "backend": backend,
        "summary": {"view": {"all": part(25.0), "seen": part(27.0), "hidden": part(24.0)}},
        "fps": 98.04,
    }
    full = {
        "stage": "full",
        "policy": "diagonal",
        "steps": 4,
        "backend": backend,
        "summary": field["summary"] | {"motion": part(23.5)},
        "steady": {"change_db": -0.123},
        "fps": 13.0,
    }
    paths = [tmp_path / "field.json", tmp_path / "full.json"]
    for path, document in zip(paths, (field, full), strict=True):
        path.write_text(json.dumps(document))
    return [str(path) for path in paths]


def test_a_row_per_document(documents, capsys):
    assert table.main(documents) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {len(table.HEAD) + 1}
    assert lines[2].startswith("| field, baked (openvino bf16) | 25.00 | 27.00 / 24.00 | – |")
    assert "| full, `diagonal`, 4 steps (openvino bf16) | 25.00 | 27.00 / 24.00 | 23.50" in lines[3]
    assert lines[3].endswith("| 25.00 / 23.50 | -0.12 | 13.0 |")


@pytest.mark.parametrize("content", [None, "no json", "[]", "{}"])
def test_what_is_no_document_is_named(tmp_path, capsys, content):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    assert table.main([str(path)]) == 1
    assert f"error: {path}: not a document" in capsys.readouterr().err
