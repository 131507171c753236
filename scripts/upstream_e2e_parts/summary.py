"""Prints what of a JUnit report failed, how long the others took, and the counts: summary.py REPORT...

Its last line is the one by which continuous integration counts tests.
"""

import sys
import xml.etree.ElementTree as ElementTree


def main(*reports: str) -> None:
    specs = [one for report in reports for one in ElementTree.parse(report).iter("testcase")]
    # The suite also reports its own steps, such as [SynchronizedBeforeSuite].
    specs = [one for one in specs if one.get("name", "").startswith("[It]")]
    skipped = [one for one in specs if one.find("skipped") is not None]
    failed = [one for one in specs if any(one.find(kind) is not None for kind in ("failure", "error"))]
    passed = [one for one in specs if one not in skipped and one not in failed]
    for one in sorted(passed, key=lambda spec: float(spec.get("time", 0))):
        print(f"{float(one.get('time', 0)):6.0f} s  {one.get('name')}")
    for one in failed:
        print(f"FAILED    {one.get('name')}")
    print(f"{len(passed)} passed, {len(failed)} failed")


if __name__ == "__main__":
    main(*sys.argv[1:])
