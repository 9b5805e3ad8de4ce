"""What is printed where there is no terminal: whole, however wide."""

from potstill.cli.screen import show_table


def test_a_table_that_goes_to_a_file_is_not_cut(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows = [[f"column {n} with a long name" for n in range(9)], [f"cell {n}" for n in range(9)]]

    show_table(rows)

    printed = capsys.readouterr().out
    assert all(cell in printed for row in rows for cell in row)
    assert "…" not in printed
