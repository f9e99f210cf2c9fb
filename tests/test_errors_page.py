"""The tables of docs/errors.md are what docs/make_errors.py measures: the columns of long steps, which are cheap."""

import importlib.util
from pathlib import Path

import pytest

import neurodyn as nd

DOCS = Path(__file__).parents[1] / "docs"
spec = importlib.util.spec_from_file_location("make_errors", DOCS / "make_errors.py")
errors = importlib.util.module_from_spec(spec)
spec.loader.exec_module(errors)


def rows(title: str) -> dict[str, dict[str, str]]:
    """The table whose first cell is `title`: for each row the cells by the heads of their columns."""
    lines = (DOCS / "errors.md").read_text().split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {title} |"))
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines[start:]]
    end = next(i for i, line in enumerate(lines[start:]) if not line.startswith("|"))
    return {row[0]: dict(zip(cells[0][1:], row[1:], strict=True)) for row in cells[2:end]}


@pytest.mark.parametrize("cls", errors.NEURONS, ids=lambda cls: cls.__name__)
def test_potentials(cls):
    table = rows("largest error of V, mV")
    assert list(table) == [f"`{cls.__name__}`" for cls in errors.NEURONS]
    found = {dt: float(table[f"`{cls.__name__}`"][f"{dt:g} ms"]) for dt in (0.25, 0.5, 1.0)}
    for dt, value in found.items():
        assert errors.error_of(cls, dt) == pytest.approx(value, rel=0.5, abs=1e-8)  # one digit is shown


@pytest.mark.parametrize("kind", [nd.Expon, nd.Alpha, nd.DualExpon], ids=lambda kind: kind.__name__)
def test_charges(kind):
    table = rows("charge of a jump, %")
    for ratio in (0.2, 0.5, 1.0):
        for name, exact in ((f"`{kind.__name__}`", False), (f"`{kind.__name__}`, `exact=True`", True)):
            assert table[name][f"dt/tau = {ratio:g}"] == errors.percent(errors.charge_of(kind, ratio, exact))


def test_responses_and_spikes():
    table = rows("a response, %")
    for output in ("CUBA", "COBA"):
        for exact in (False, True):
            name = f"V behind `Expon{'(exact=True)' if exact else ''}`, `{output}`"
            assert table[name]["1 ms"] == errors.percent(errors.potential_of(output, 1.0, exact))
    for kind in (nd.AMPA, nd.GABAa, nd.NMDA):
        assert table[f"area of `{kind.__name__}`"]["1 ms"] == errors.percent(errors.area_of(kind, 1.0))
    for cls in (nd.HH, nd.Izhikevich):
        assert rows("spikes in 500 ms")[f"`{cls.__name__}`"]["1 ms"] == str(errors.spikes_of(cls, 1.0))
