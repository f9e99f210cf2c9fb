import pytest

from neurodyn.__main__ import main


def test_simulate_prints_the_rate_and_draws(tmp_path, capsys):
    picture = tmp_path / "raster.png"
    arguments = ["simulate", "coba", "--scale", "0.1", "--duration", "50ms", "--out", str(picture)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "400 neurons" in printed
    assert "mean rate" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("arguments", [["simulate", "cats"], ["train", "--data", "cats"], []])
def test_wrong_words_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: neurodyn" in capsys.readouterr().err
