"""What the terminal shows is what was said, whatever stands in it."""

import pytest

from evaluation import terminal

WORDS = "paid must be a number, got '[/b]'; a rate in [shop.rates] of shop.toml"


def test_words_of_the_data_are_never_markup(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.step("ingest") as step:
        step.say(WORDS)
    terminal.warn(WORDS)
    terminal.say_table("t", ["c"], [["[/b]"]])
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count("[shop.rates]") == 2
    assert shown.count("[/b]") == 3
