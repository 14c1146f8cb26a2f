"""Lists the packages: conformance/, reference/ and plugins/ are imported as backproof.conformance, ..."""

from setuptools import find_packages, setup

PARTS = [f"{part}{suffix}" for part in ("conformance", "reference", "plugins") for suffix in ("", ".*")]
setup(packages=["backproof", *(f"backproof.{package}" for package in find_packages(include=PARTS))])
