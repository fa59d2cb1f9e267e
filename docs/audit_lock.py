"""Checks a lock against what the registry offers today: `python docs/audit_lock.py LOCK`.

pip is asked what it would install. It fails if a file of that hash is not offered any more, and
says which releases were withdrawn (yanked). pip-audit, where it is installed, asks the registry for
known weaknesses. What could not be asked is said; it is no success. The exit code is 1 if anything
was found.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

_YANKED = re.compile(
    r"yanked version: '(?P<name>[^']+)' candidate \(version (?P<version>\S+) .*"
    r"(?:\n *Reason for being yanked: (?P<reason>.*))?"
)
_PIN = re.compile(r"^([\w.-]+)==", re.MULTILINE)


def installable(lock: Path, options: Sequence[str]) -> list[str]:
    """Return why the lock should not be installed as it is: withdrawn or missing releases.

    Args:
        lock: The file.
        options: Further options of pip, such as an index.
    """
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--no-deps", "--require-hashes", "--disable-pip-version-check", *options]
    ended = subprocess.run([*command, "-r", str(lock)], capture_output=True, text=True, check=False)
    found = [
        f"{each['name']} {each['version']} was withdrawn: {each['reason'] or 'no reason is given'}"
        for each in _YANKED.finditer(ended.stderr)
    ]
    if ended.returncode:
        errors = [line for line in ended.stderr.splitlines() if line.startswith("ERROR: ")]
        found.append(f"pip would not install it: {' '.join(errors) or ended.stderr.strip()}")
    return found


def weaknesses(report: str) -> tuple[list[str], list[str]]:
    """Return the known weaknesses in a report of pip-audit, and the packages it could not ask for.

    Args:
        report: Its JSON.
    """
    packages = json.loads(report)["dependencies"]
    found = [
        f"{each['name']} {each['version']} has {weak['id']}, mended in "
        f"{', '.join(weak['fix_versions']) or 'no version yet'}"
        for each in packages
        for weak in each.get("vulns", ())
    ]
    return found, [each["name"] for each in packages if "skip_reason" in each]


def audited(lock: Path) -> tuple[list[str], list[str]]:
    """Return what pip-audit finds in a lock, as `weaknesses` does."""
    every = _PIN.findall(lock.read_text("utf-8"))
    if find_spec("pip_audit") is None:
        return [], every
    command = [sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip"]
    ended = subprocess.run(
        [*command, "--format", "json", "--progress-spinner", "off", "-r", str(lock)],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return weaknesses(ended.stdout)
    except (ValueError, KeyError):  # it ended before it had asked, without a network for example
        print(ended.stderr.strip(), file=sys.stderr)
        return [], every


def main(argv: Sequence[str] | None = None) -> None:
    """Check a lock, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lock", type=Path)
    args, options = parser.parse_known_args(argv)
    weak, unknown = audited(args.lock)
    found = installable(args.lock, options) + weak
    for line in found:
        print(line)
    count = len(_PIN.findall(args.lock.read_text("utf-8")))
    if unknown:
        print(
            f"The database of known weaknesses has no answer for {len(unknown)} of {count} "
            "packages, so these were only checked for hashes and withdrawn releases."
        )
    if found:
        sys.exit(1)
    print(f"{count} packages: each is offered with its hash, and none was withdrawn.")


if __name__ == "__main__":
    main()
