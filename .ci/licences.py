"""Holds the licence of every package that mixup_jax needs against a list of those that allow its use and passing on.

    python .ci/licences.py            # fails with a line for each package of this environment that does not fit
    python .ci/licences.py --list     # prints them all

What a package says of itself is taken: its licence expression, else its classifiers, else its licence field.
"""

from __future__ import annotations

import sys
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("tensorflow", "dev")

ALLOWED = {
    "0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CNRI-Python", "HPND", "ISC", "MIT",
    "MIT-0", "MIT-CMU", "MPL-2.0", "NCSA", "OFL-1.1", "PSF", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib",
    "Apache-2.0 WITH LLVM-exception",
}  # fmt: skip
"""SPDX identifiers; MPL-2.0 binds the files under it alone, which are passed on unchanged."""

SAID_OTHERWISE = {
    "apache": "Apache-2.0", "apache 2.0": "Apache-2.0", "apache software license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0", "apache license version 2.0": "Apache-2.0", "apache-2": "Apache-2.0",
    "apache license": "Apache-2.0", "apache 2.0 license": "Apache-2.0",
    "bsd license": "BSD", "3-clause bsd": "BSD-3-Clause", "bsd 3-clause": "BSD-3-Clause", "new bsd": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause", "isc license [iscl]": "ISC", "mit license": "MIT",
    "mozilla public license 2.0 [mpl 2.0]": "MPL-2.0", "python software foundation license": "PSF",
    "the unlicense [unlicense]": "Unlicense", "psf": "PSF",
    "3-clause bsd license": "BSD-3-Clause",
    "historical permission notice and disclaimer [hpnd]": "HPND",
}  # fmt: skip

KNOWN = {"matplotlib": "PSF", "cycler": "BSD-3-Clause", "kiwisolver": "BSD-3-Clause", "namex": "Apache-2.0"}
"""Packages whose own words are no identifier, with what their licence file says."""


def needed() -> dict[str, metadata.Distribution]:
    """Returns the installed distributions that mixup_jax with its extras needs, and what those need, by name."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [("mixup-jax", EXTRAS)]
    seen = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # of an extra that is not installed here
            continue
        found[name] = distribution
        for requirement in map(Requirement, distribution.requires or ()):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                waiting.append((canonicalize_name(requirement.name), tuple(sorted(requirement.extras))))
    return dict(sorted(found.items()))


def licences(name: str, distribution: metadata.Distribution) -> list[set[str]]:
    """Returns the SPDX identifiers of a distribution's licences, all of which hold; of each set one may be chosen."""
    facts = distribution.metadata
    classifiers = [text for text in facts.get_all("Classifier", ()) if text.startswith("License :: OSI Approved :: ")]
    classified = [text.rpartition(" :: ")[2] for text in classifiers]
    specific = [text for text in classified if text != "BSD License"] or classified
    short = (facts.get("License") or "no licence").strip().partition("\n")[0]
    said = facts.get("License-Expression") or KNOWN.get(name)
    if said is None:
        said = " AND ".join(text.replace("(", "[").replace(")", "]") for text in specific) or short
    every = [part.strip("() ").split(" OR ") for part in said.split(" AND ")]
    return [{SAID_OTHERWISE.get(text.lower().replace(",", ""), text) for text in map(str.strip, one)} for one in every]


def main() -> int:
    """Prints what does not fit; returns the number of such packages."""
    wrong = 0
    packages = needed()
    for name, distribution in packages.items():
        found = licences(name, distribution)
        fits = all(choice & ALLOWED for choice in found)
        wrong += not fits
        if not fits or "--list" in sys.argv:
            print(
                f"{name} {distribution.version}: {', '.join(' or '.join(sorted(choice)) for choice in found)}"
                + ("" if fits else " (not allowed)")
            )
    print(f"licences: {len(packages)} packages, {wrong} that are not on the list of .ci/licences.py")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
