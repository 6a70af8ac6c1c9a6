"""Documents of the evaluation as a table."""

from __future__ import annotations

import json

import pytest

from reference.evaluate import table
from reference.metrics import METRICS

OLD = ("psnr_db", "ssim", "haarpsi", "spectral_db", "sharpness_db")  # before there were more


def part(value: float, names=OLD) -> dict[str, float]:
    return {f"box_{name}": value for name in names} | dict.fromkeys(names, value)


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
    assert lines[0] == f"| {' | '.join(table.HEAD)} |"
    assert {line.count("|") for line in lines} == {len(table.HEAD) + 1}
    assert lines[2].startswith("| field, baked (openvino bf16) | 25.00 | 27.00 / 24.00 | – |")
    assert "| full, `diagonal`, 4 steps (openvino bf16) | 25.00 | 27.00 / 24.00 | 23.50" in lines[3]
    assert lines[3].endswith("| 25.00 / 23.50 | -0.12 | 13.0 |")


RUN = {"seeds": [1, 9], "views": 20, "motions": [8, 24]}
BACKEND = {"actual": "torch", "precision": "fp32"}


def run(shown_as: str, value: float, **more) -> dict:
    """A document of today's evaluation, every metric `value`."""
    names = [*METRICS, "lpips"]
    view = {side: part(value, names) for side in ("all", "seen", "hidden")}
    return {
        "stage": "full",
        "shown_as": shown_as,
        "policy": "parity",
        "steps": 4,
        "backend": BACKEND,
        "summary": {"view": view, "motion": part(2 * value, names)},
        "multiview": {"ratio": value},
        "flicker": {"surface": {"unexplained_ratio": value}, "box": {}},
        "fvd": {"motion": {"distance": 10 * value, "videos": 8}},
        "steady": {"change_db": -value, "since_third": {"box_psnr_db": -value / 2}},
        "fps": value,
        **RUN,
        **more,
    }


@pytest.fixture
def runs(tmp_path):
    """Writes documents; the names are the files'."""

    def write(**documents: dict) -> list[str]:
        for name, document in documents.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(document))
        return [str(tmp_path / f"{name}.json") for name in documents]

    return write


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_differences_are_from_the_named_row(runs, capsys):
    paths = runs(teacher=run("25 steps", 2.0), student=run("4 steps", 2.5))
    assert table.main([*paths, "--against", "teacher"]) == 0
    head, _, teacher, student = map(cells, capsys.readouterr().out.splitlines())
    assert "(" not in "".join(teacher[1:])
    found = dict(zip(head, student, strict=True))
    assert found["views, dB"] == "2.50 (+0.50)"
    assert found["seen / hidden, dB"] == "2.50 (+0.50) / 2.50 (+0.50)"
    assert found["HaarPSI"] == "2.500 (+0.500) / 5.000 (+1.000)"
    assert found["spectral error, dB"] == "2.50 (+25 %) / 5.00 (+25 %)"
    assert found["FVD"] == "25.0 (+5.0)"
    assert found["change over a stream, dB"] == "-2.50 (-0.50)"
    assert found["since its third round, dB"] == "-1.25 (-0.25)"
    assert len(head) == 1 + len(table.COLUMNS)
    assert found["shown by"] == "4 steps, `parity`, 4 steps (torch fp32)"
    by_name = teacher[0]
    assert table.main([*paths, "--against", by_name]) == 0
    assert cells(capsys.readouterr().out.splitlines()[3]) == student


def test_what_one_of_two_runs_lacks_has_no_difference(runs, capsys):
    short = run("short", 3.0)
    del short["summary"]["motion"], short["fvd"], short["steady"]["since_third"]
    paths = runs(long=run("long", 2.0), short=short)
    assert table.main([*paths, "--against", "long"]) == 0
    head, _, _, row = map(cells, capsys.readouterr().out.splitlines())
    found = dict(zip(head, row, strict=True))
    assert found["motions, dB"] == found["FVD"] == found["since its third round, dB"] == "–"
    assert found["SSIM"] == "3.000 (+1.000)"


@pytest.mark.parametrize(
    ("against", "changed", "message"),
    [
        ("nobody", {}, "names 0 of the rows; give one of a, b"),
        ("same, `parity`, 4 steps (torch fp32)", {}, "names 2 of the rows"),
        ("a", {"seeds": [2, 9]}, "its seeds is [2, 9], that of a [1, 9]"),
        ("a", {"kind": "video"}, "its kind is video, that of a scan"),
        ("a", {"motions": [8, 40]}, "compare runs on the same clips"),
    ],
)
def test_rows_that_do_not_compare_are_an_error(runs, capsys, against, changed, message):
    paths = runs(a=run("same", 2.0), b=run("same", 2.0, **changed))
    assert table.main([*paths, "--against", against]) == 1
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.startswith("error: ")
    assert not printed.out


def test_the_ceiling_and_ablations_are_called_what_they_are(runs, capsys):
    ceiling = {"stage": "ceiling", "backend": BACKEND, "summary": {}, **RUN}
    normals = run("normals only, as Animate Anyone and Champ condition", 2.0)
    assert table.main(runs(ceiling=ceiling, normals=normals)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| ceiling: the truth through the autoencoder (torch fp32) | – |")
    assert lines[3].startswith("| normals only, as Animate Anyone and Champ condition, `parity`")


@pytest.mark.parametrize("content", [None, "no json", "[]", "{}"])
def test_what_is_no_document_is_named(tmp_path, capsys, content):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    assert table.main([str(path)]) == 1
    assert f"error: {path}: not a document" in capsys.readouterr().err
