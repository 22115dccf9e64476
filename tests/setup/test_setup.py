"""The set-up script on machines that lack things: it stops with the exact remedy before it changes anything."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).resolve().parents[2]
# What the script itself is made of; everything that it looks for stays out.
_BASICS = ("bash", "env", "dirname", "mkdir", "flock", "grep", "sha256sum", "tail", "rm", "cat")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with nothing but what the set-up reads."""
    (tmp_path / "checkout/.ci").mkdir(parents=True)
    shutil.copy(_CHECKOUT / ".ci/setup", tmp_path / "checkout/.ci/setup")
    shutil.copy(_CHECKOUT / "pyproject.toml", tmp_path / "checkout/pyproject.toml")
    return tmp_path / "checkout"


@pytest.fixture
def bin_dir(tmp_path: Path) -> Path:
    """The only folder on PATH."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in _BASICS:
        (directory / name).symlink_to(shutil.which(name) or pytest.fail(f"{name} is not on this machine"))
    return directory


def _command(bin_dir: Path, name: str, text: str) -> None:
    (bin_dir / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    (bin_dir / name).chmod(0o755)


def _set_up(checkout: Path, bin_dir: Path, purpose: str) -> subprocess.CompletedProcess[str]:
    command = [str(bin_dir / "bash"), ".ci/setup", purpose]
    return subprocess.run(
        command, cwd=checkout, env={"PATH": str(bin_dir)}, capture_output=True, text=True, check=False, timeout=60
    )


def test_python_too_old(checkout: Path, bin_dir: Path) -> None:
    _command(bin_dir, "python3", 'case "$1" in --version) echo Python 3.9.2;; esac')
    done = _set_up(checkout, bin_dir, "demo")
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed; python3 on PATH is: Python 3.9.2" in done.stderr
    assert not (checkout / ".venv").exists()


def test_newer_python_beside_an_old_python3(checkout: Path, bin_dir: Path) -> None:
    _command(bin_dir, "python3", "exit 0")
    _command(bin_dir, "python3.11", f'exec "{sys.executable}" "$@"')
    done = _set_up(checkout, bin_dir, "demo")
    assert "Python 3.11 or newer" not in done.stderr
    assert "there is no apt-get here" in done.stderr


def test_without_apt_the_packages_are_named(checkout: Path, bin_dir: Path) -> None:
    _command(bin_dir, "python3", f'exec "{sys.executable}" "$@"')
    done = _set_up(checkout, bin_dir, "test")
    assert done.returncode != 0
    for package in ("gcc", "cmake", "pkgconf", "libcoap3-dev", "autoconf", "automake", "libcoap3-bin", "tshark"):
        assert f" {package}" in done.stderr
    assert not (checkout / ".venv").exists()


def test_demo_does_not_ask_for_the_tools_of_the_tests(checkout: Path, bin_dir: Path) -> None:
    _command(bin_dir, "python3", f'exec "{sys.executable}" "$@"')
    done = _set_up(checkout, bin_dir, "demo")
    assert "libcoap3-dev" in done.stderr
    assert "tshark" not in done.stderr


def test_only_what_is_missing_is_asked_of_apt(checkout: Path, bin_dir: Path) -> None:
    """apt-get here only writes down how it was called, and sudo lets everybody through."""
    _command(bin_dir, "python3", f'exec "{sys.executable}" "$@"')
    for name in ("gcc", "cmake", "pkg-config", "aclocal"):
        _command(bin_dir, name, "exit 0")
    _command(bin_dir, "sudo", 'shift; exec "$@"')
    (bin_dir / "true").symlink_to("/bin/true")
    _command(bin_dir, "apt-get", 'echo "$DEBIAN_FRONTEND $*" >>calls')
    done = _set_up(checkout, bin_dir, "demo")
    update, install = (checkout / "calls").read_text(encoding="utf-8").splitlines()
    assert update == "noninteractive update"
    assert install.startswith("noninteractive install -y --no-install-recommends ")
    assert install.split()[-1] == "autoconf"
    assert "gcc" not in install.split()
    assert done.returncode != 0
    assert "still missing after the installation: autoconf" in done.stderr


def test_purpose_is_checked(checkout: Path, bin_dir: Path) -> None:
    done = _set_up(checkout, bin_dir, "everything")
    assert done.returncode != 0
    assert "usage: .ci/setup demo|test" in done.stderr
