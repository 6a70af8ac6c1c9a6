"""``python -m export precision``: a bundle in fp32 to one in fp16, bf16 or int8, behind gates."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from export.bundle import CARD, MANIFEST, WEIGHTS, copy_kept, install
from export.bundle_json import file_entry
from export.compare import judged, pytorch_pictures
from export.diffusion import Stage2
from export.onnx_files import halve, move_weights
from export.precision import COMPONENTS, DEFAULT_COMPONENTS
from export.precision.card import precision_section
from export.precision.gates import (
    audit_gate,
    engines_for,
    lint_gate,
    parity_gate,
    stream_gate,
)
from export.precision.graphs import stored_names, widened
from export.precision.measure import OutputError, errors_of
from export.precision.recipe import Recipe, recipe_for
from export.streams import Conditions, bundle_pictures, diffusion_of, recorded
from gas_rt.engine import Bundle, Engine, open_bundle
from gas_rt.engine.precision import METADATA_KEY, RECIPE_KEY, exported_precision

__all__ = ["Source", "convert"]

# Of each kind of graph: what int8 takes its ranges from, layers are chosen on, outputs compared on.
CALIBRATION, CHOICE, PARITY = 16, 3, 4
Arrays = dict[str, NDArray[Any]]
Tell = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Source:
    """What is converted, and what it is measured by.

    Attributes
    ----------
    bundle : in fp32.
    stage, torch : its PyTorch models as trained, and an engine of them with weights as stored.
    recording : streams' conditions whose inputs graphs are calibrated, chosen and compared on.
    judged : those of the stream whose pictures are judged.
    people : of whom the conditions are, for bundle.json.
    """

    bundle: Bundle
    stage: Stage2
    torch: Engine
    recording: Sequence[Conditions]
    judged: Conditions
    people: Mapping[str, Any]
    threads: int = 2


def convert(
    source: Source,
    precision: str,
    *,
    out: Path,
    components: Collection[str] = DEFAULT_COMPONENTS,
    budget: float | None = None,
    steps: int | None = None,
    progress: Tell = lambda text: None,
) -> dict[str, Any]:
    """Write `source` in `precision` into the folder `out`; returns its bundle.json.

    Raises GateError where a gate is not passed and ValueError where the source does not suit;
    either leaves `out` as it was.
    """
    families = _families(source.bundle, components if precision != "fp32" else ())
    _check_source(source.bundle, out)
    progress("recording what graphs are given in streams")
    samples = _samples(source)
    graphs: dict[str, onnx.ModelProto] = {}
    recipes: dict[str, Recipe] = {}
    for primary, members in families.items():
        progress(f"{primary}: choosing layers for {precision}")
        recipe = _recipe(source, primary, precision, samples=samples[primary], budget=budget)
        for name in members:
            recipes[name] = recipe
            graphs[name] = _narrow(source.bundle.graph(name).path, recipe)
    for name, spec in source.bundle.graphs.items():
        if name not in graphs:
            graphs[name] = onnx.load(spec.path)
            _note(graphs[name], "fp32", precision)
    progress("gate lint")
    lint_gate(graphs)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
        folder = Path(temporary) / out.name
        _fill(source.bundle, graphs, folder)
        opened = _described(source.bundle, folder, name=out.name, report={})
        report = _gates(source, opened, precision, recipes, samples, steps=steps, tell=progress)
        recipe_of = {primary: recipes[primary].as_dict() for primary in families}
        report |= {"recipes": recipe_of, "people": dict(source.people)}
        written = _described(source.bundle, folder, name=out.name, report=report)
        install(folder, out)
    return dict(written.manifest)


def _families(bundle: Bundle, components: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Graph by which a component's layers are chosen → all graphs that follow it."""
    if unknown := sorted(set(components) - set(COMPONENTS)):
        raise ValueError(f"components: no {unknown[0]!r}; choose of {', '.join(COMPONENTS)}")
    diffusion_of(bundle)
    assert bundle.denoiser is not None
    first = bundle.denoiser.name
    denoisers = [name for name in bundle.graphs if name.startswith("denoiser")]
    members = {
        "denoiser": (first, *(name for name in denoisers if name != first)),
        "decoder": ("vae_decoder",),
        "conditioner": ("conditioner",),
        "encoders": ("vae_encoder", "image_encoder"),
    }
    families: dict[str, tuple[str, ...]] = {}
    for component in COMPONENTS:
        if component == "encoders" and component in components:
            families |= {name: (name,) for name in members[component]}
        elif component in components:
            families[members[component][0]] = members[component]
    return families


def _check_source(bundle: Bundle, out: Path) -> None:
    for spec in bundle.graphs.values():
        if (found := exported_precision(spec)) != "fp32":
            raise ValueError(
                f"bundle {bundle.label}: {spec.path.name} computes in {found} already; convert "
                "the bundle in fp32 that it was made from"
            )
    if out.resolve() == bundle.folder.resolve():
        raise ValueError(f"{out}: is the bundle that is converted; write to another folder")


def _samples(source: Source) -> dict[str, list[Arrays]]:
    """By graph, inputs of all streams, one stream after another."""
    engine = engines_for("fp32", threads=source.threads)["openvino"]
    found: dict[str, list[Arrays]] = {}
    for conditions in source.recording:
        for name, given in recorded(source.bundle, conditions, engine=engine).items():
            found.setdefault(name, []).extend(given)
    engine.close()
    return found


def spread(values: Sequence[Arrays], count: int) -> list[Arrays]:
    """`count` of them at even distances, or all; from the middle of each stretch."""
    if len(values) <= count:
        return list(values)
    at = (np.arange(count) + 0.5) * len(values) / count
    return [values[int(k)] for k in at]


def _recipe(
    source: Source,
    name: str,
    precision: str,
    *,
    samples: Sequence[Arrays],
    budget: float | None,
) -> Recipe:
    spec = source.bundle.graph(name)
    torch = source.torch.load(spec)
    chosen = spread(samples, CHOICE)
    return recipe_for(
        widened(spec.path),
        precision,
        samples=chosen,
        wanted=[torch.run(sample) for sample in chosen],
        calibration=spread(samples, CALIBRATION),
        budget=budget,
        threads=source.threads,
    )


def _narrow(path: Path, recipe: Recipe) -> onnx.ModelProto:
    """A graph in the recipe's precision, its weights in fp16 wherever layers stay wide."""
    wide = widened(path)
    graph = recipe.apply(wide)
    halve(graph, stored_names(wide))
    _note(graph, recipe.precision if recipe.choice.narrow else "fp32", recipe.precision)
    return graph


def _note(graph: onnx.ModelProto, precision: str, recipe: str) -> None:
    onnx.helper.set_model_props(graph, {METADATA_KEY: precision, RECIPE_KEY: recipe})


def _fill(bundle: Bundle, graphs: dict[str, onnx.ModelProto], folder: Path) -> None:
    copy_kept(bundle.folder, folder)
    move_weights(graphs, folder, weights=WEIGHTS)
    shutil.copyfile(bundle.path(bundle.body), folder / bundle.body)


def _described(bundle: Bundle, folder: Path, *, name: str, report: Mapping[str, Any]) -> Bundle:
    """bundle.json and the card of what is in `folder`, opened and so checked."""
    card = bundle.folder / CARD
    text = card.read_text() if card.is_file() else ""
    text = re.sub(r"\A# \S+", f"# {name}", text)
    (folder / CARD).write_text(text + (precision_section(report) if report else ""))
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    provenance = {**bundle.manifest["provenance"], "from": bundle.sha256}
    manifest = {
        **bundle.manifest,
        "name": name,
        "files": {p.relative_to(folder).as_posix(): file_entry(p) for p in files},
        "provenance": provenance,
        "precision": dict(report),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    return open_bundle(folder)


def _gates(
    source: Source,
    bundle: Bundle,
    precision: str,
    recipes: Mapping[str, Recipe],
    samples: Mapping[str, Sequence[Arrays]],
    *,
    steps: int | None,
    tell: Tell,
) -> dict[str, Any]:
    """Parity, the stream and the layers' types; what was measured, for bundle.json."""
    engines = engines_for(precision, threads=source.threads)
    kinds = {name: exported_precision(spec) for name, spec in bundle.graphs.items()}
    errors: dict[str, dict[str, dict[str, OutputError]]] = {}
    run_in: dict[str, dict[str, str]] = {}
    for name in (name for name in bundle.graphs if name in samples):
        tell(f"gate parity: {name}")
        given = spread(samples[name], PARITY)
        torch = source.torch.load(source.bundle.graph(name))
        wanted = [torch.run(sample) for sample in given]
        loaded = {engine: opened.load(bundle.graph(name)) for engine, opened in engines.items()}
        run_in[name] = {engine: graph.report.precision for engine, graph in loaded.items()}
        errors[name] = {engine: errors_of(graph, given, wanted) for engine, graph in loaded.items()}
    parity_gate(errors, run_in)
    diffusion = diffusion_of(bundle)
    schedule = diffusion.schedule("parity", steps=steps or diffusion.usual_steps("parity"))
    wanted_pictures = pytorch_pictures(source.stage, source.judged, schedule=schedule)
    reports = {}
    for engine, opened in engines.items():
        tell(f"gate stream: {len(wanted_pictures)} frames in {engine}")
        found = bundle_pictures(bundle, source.judged, schedule=schedule, engine=opened)
        reports[engine] = judged(found, wanted_pictures, source.judged, precision=precision)
        opened.close()
    stream_gate(reports)
    tell("gate layer types")
    layers = {}
    for name, spec in bundle.graphs.items():
        recipe = recipes.get(name)
        narrow = recipe.choice.narrow if recipe else ()
        layers[name] = audit_gate(spec.path, narrow, precision, threads=source.threads)
    return {
        "name": precision,
        "graphs": kinds,
        "layers": layers,
        "parity": {
            graph: {
                engine: {output: error.as_dict() for output, error in outputs.items()}
                for engine, outputs in by_engine.items()
            }
            for graph, by_engine in errors.items()
        },
        "stream": {"steps": schedule.window.steps, **reports},
    }
