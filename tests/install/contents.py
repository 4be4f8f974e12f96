"""What the files in a folder of distributions hold: `python contents.py dist`."""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "unknot"
# All that a build from source, and its tests, read.
TOP = {
    "src", "tests", "fuzz", "examples", "CMakeLists.txt", "Makefile", "pyproject.toml", "constraints.txt",
    "PKG-INFO", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff",
    "CODE_OF_CONDUCT.md", "SECURITY.md",
}  # fmt: skip
TEXT = {".py", ".pyi", ".cpp", ".hpp", ".md", ".txt", ".toml", ".cff", ".typed", ".js", ".css", ".j2", ""}
MOST_BYTES = 1_000_000


def check_sdist(path: Path) -> str:
    with tarfile.open(path) as archive:
        names = [member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()]
    stray = sorted({name for name in names if name.partition("/")[0] not in TOP})
    assert not stray, f"{path.name} holds {stray[:5]}"
    data = [name for name in names if Path(name).suffix not in TEXT]
    assert not data, f"{path.name} holds {data[:5]}, which are no sources"
    assert {"src/native/engine.cpp", "src/unknot/__init__.pyi", "CMakeLists.txt", "LICENSE"} <= set(names)
    assert path.stat().st_size < MOST_BYTES, f"{path.name}: {path.stat().st_size:,} bytes"
    return f"{path.name}: {len(names)} files, {path.stat().st_size:,} bytes"


def check_wheel(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    package = {n for n in names if not re.match(r"unknot-[^/]+\.(dist-info|libs)/|unknot\.libs/", n)}
    native = {name for name in package if re.fullmatch(r"unknot/_native\.[\w.-]*(so|pyd)", name)}
    assert len(native) == 1, f"{path.name} holds {native or 'no extension'}"
    # .abi3.so, and on Windows plain .pyd.
    if "-abi3-" in path.name:
        assert re.fullmatch(r"unknot/_native\.(abi3\.so|pyd)", *native), native
    files = {f.relative_to(SOURCE.parent).as_posix() for f in SOURCE.rglob("*") if f.is_file()}
    expected = {
        name for name in files if "__pycache__" not in name and not name.endswith((".so", ".pyd"))
    }
    assert package - native == expected, f"{path.name}: {sorted((package - native) ^ expected)[:5]}"
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    return f"{path.name}: {len(names)} files, {path.stat().st_size:,} bytes"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    sdists, wheels = sorted(folder.glob("*.tar.gz")), sorted(folder.glob("*.whl"))
    assert sdists or wheels, f"nothing in {folder}"
    print(*[check_sdist(path) for path in sdists], *[check_wheel(path) for path in wheels], sep="\n")
