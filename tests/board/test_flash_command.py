"""``rig flash``."""

import json
import re

from rig.cli.main import main


def test_the_command_tells_each_part_and_writes_nothing_twice(virtual_board, images, capsys):
    bench = str(virtual_board.bench_file(images))
    assert main(["flash", "--bench", bench]) == 0
    told = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"light1: {virtual_board.mac}, esp32c3, coaps_server \S+: \d+\.\d\d s", told[0])
    assert [line.split()[0] for line in told[1:]] == ["bootloader", "partition-table", "app", "creds"]
    assert all(re.search(r"bytes  \d+ of \d+ bytes written, MD5 [0-9a-f]{32} verified$", line) for line in told[1:])
    assert main(["flash", "--bench", bench, "--board", "light1"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert all(re.search(r"in flash already, MD5 [0-9a-f]{32} verified$", line) for line in told[1:])
    assert main(["flash", "--bench", bench, "--mode", "always", "--json"]) == 0
    (board,) = json.loads(capsys.readouterr().out)["boards"]
    assert board["mac"] == virtual_board.mac
    assert all(part["written_bytes"] == part["size"] for part in board["parts"])


def test_a_board_that_does_not_store_is_exit_code_1(virtual_boards, images, capsys):
    virtual = virtual_boards("dut", stuck_at=images.app.offset)
    assert main(["flash", "--bench", str(virtual.bench_file(images))]) == 1
    assert "light1: port" in capsys.readouterr().err


def test_what_the_bench_gets_wrong_is_exit_code_2(virtual_board, images, capsys):
    bench = virtual_board.bench_file(images)
    assert main(["flash", "--bench", str(bench), "--board", "light9"]) == 2
    assert "no board called 'light9'" in capsys.readouterr().err
    bench.write_text(bench.read_text().replace(virtual_board.mac, "02:99:00:00:00:00"))
    assert main(["flash", "--bench", str(bench)]) == 2
    assert "nothing was written" in capsys.readouterr().err
    assert virtual_board.erased_sectors() == []
