"""The package as others get it: sdist and wheel, the wheel installed and used away from the checkout."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.launch
pytest.importorskip("build")
pytest.importorskip("hatch_vcs")

ROOT = Path(__file__).parents[2]


def said(*command: str | Path, folder: Path, **environment: str) -> str:
    """What a command answers; it must end well."""
    told = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    told.pop("PYTHONPATH", None)
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, env=told, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    said(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, folder=ROOT)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    """A virtual environment with the wheel, which finds torch and the others where this one has them."""
    folder = tmp_path_factory.mktemp("installed")
    said(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder)
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    said(*pip, "--python", python, "install", "--no-deps", "--no-index", built[1], folder=folder)
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(said(python, "-c", asked, folder=folder).strip())
    (own / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def version_of(built: tuple[Path, Path]) -> str:
    return built[1].name.split("-")[1]


def test_the_wheel_holds_the_package_and_what_it_reads(built):
    names = set(zipfile.ZipFile(built[1]).namelist())
    assert {"sngd/py.typed", "sngd/problems/best.json", "sngd/slurm/common.sh"} <= names
    for folder, pattern, inside in (
        ("configs", "*", "sngd/configs"),
        ("slurm", "*", "sngd/slurm"),
        ("sngd", "**/*", "sngd"),
    ):
        kept = {p for p in (ROOT / folder).glob(pattern) if p.is_file() and "__pycache__" not in p.parts}
        wanted = {f"{inside}/{p.relative_to(ROOT / folder).as_posix()}" for p in kept}
        assert wanted <= names, sorted(wanted - names)
    tops = {name.split("/")[0] for name in names}
    assert tops == {"sngd", f"sngd-{version_of(built)}.dist-info"}, "tests, benchmarks, launch stay outside"


def test_the_sdist_holds_the_tests_and_no_machinery(built):
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "tests/conftest.py"} <= names
    assert not [name for name in names if name.startswith((".ci/", ".venv", "runs/"))]


def test_core_dependencies_are_few(built):
    metadata = next(n for n in zipfile.ZipFile(built[1]).namelist() if n.endswith("/METADATA"))
    text = zipfile.ZipFile(built[1]).read(metadata).decode()
    needed = [
        line for line in re.findall(r"^Requires-Dist: (.*)$", text, re.MULTILINE) if "extra" not in line
    ]
    assert {re.split(r"[^a-z0-9]", line)[0] for line in needed} == {
        "torch",
        "numpy",
        "scipy",
        "matplotlib",
        "rich",
        "jinja2",
        "tyro",
    }


def test_it_runs_away_from_the_checkout(built, installed, tmp_path):
    sngd, python = installed / "sngd", installed / "python"
    assert said(sngd, "--version", folder=tmp_path) == f"sngd {version_of(built)}\n"
    where = said(python, "-c", "import sngd; print(sngd.__file__, sngd.__version__)", folder=tmp_path).split()
    assert Path(where[0]).is_relative_to(installed.parent)
    assert where[1] == version_of(built)
    assert "allen_cahn" in said(sngd, "problems", folder=tmp_path)
    said(sngd, "init", "x.py", folder=tmp_path)
    said(sngd, "train", "x.py", "--max-steps", "2", "--run-dir", "run", "--quiet", folder=tmp_path)
    assert (tmp_path / "run/solution.png").is_file()
    found = json.loads((tmp_path / "run/config.json").read_text())["versions"]
    assert (found["sngd"], found["commit"]) == (version_of(built), None)
    script = said(sngd, "submit", "x.py", "--dry-run", folder=tmp_path)
    assert script.startswith("#!")
    assert f"{python}" in script


@pytest.mark.parametrize("git", ["tags", "no tags", "shallow", "absent", "no program"])
def test_versions_by_what_git_knows(git, tmp_path):
    """A tree is built as it is found; a version is always there, and one that pip understands."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    tree, path = tmp_path / "tree", os.environ["PATH"]
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for folder in ("slurm", "configs"):
        shutil.copytree(ROOT / folder, tree / folder)
    (tree / "sngd").mkdir()
    (tree / "sngd/__init__.py").touch()
    author = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    if git != "absent":
        said("git", "init", "-q", folder=tree)
        for text in ("one", "two"):
            (tree / "sngd/__init__.py").write_text(f"# {text}\n")
            said("git", "add", "-A", folder=tree)
            said("git", *author, "commit", "-qm", text, folder=tree)
        if git == "tags":
            said("git", *author, "tag", "-a", "v0.3.1", "-m", "x", folder=tree)
        if git == "shallow":
            said("git", "clone", "-q", "--depth", "1", f"file://{tree}", "shallow", folder=tmp_path)
            tree = tmp_path / "shallow"
        if git == "no program":
            path = str(tmp_path)
    build = (sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path / "dist")
    said(*build, folder=tree, PATH=path)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    version = wheel.name.split("-")[1]
    expected = {"tags": r"0\.3\.1", "absent": r"0\.1\.dev0", "no program": r"0\.1\.dev0"}
    assert re.fullmatch(expected.get(git, r"0\.1\.dev[12]\+g[0-9a-f]{7,}"), version), version
