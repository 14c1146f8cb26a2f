"""What is in the gallery, and what one implementation of it looks like.

python -m backproof.plugins.gallery                 every implementation with its cause
python -m backproof.plugins.gallery WORD            those whose name or cause has this word
python -m backproof.plugins.gallery NAME            all that is known of one, and its code
"""

from __future__ import annotations

import inspect
import sys

from backproof.plugins.gallery import EQUIVALENTS, FAULTS, Fault


def described(fault: Fault) -> str:
    """All that is known of a fault, and its code."""
    facts = {
        "layer": fault.layer,
        "cause": fault.cause,
        "only where": fault.trigger.words,
        "fails": ", ".join(fault.caught_by),
        "smallest": "not known" if fault.smallest is None else ", ".join(f"{k}={v}" for k, v in fault.smallest.items()),
        "modelled on": fault.source,
        "see it fail": f"pytest --impl={fault.spec}",
    }
    *every_layer, _ = fault.adapter.__bases__  # a mistake that is written once, before the right implementation
    code = "\n\n".join(map(inspect.getsource, (fault.adapter, *every_layer)))
    return "\n".join(f"{name:12} {fact}" for name, fact in facts.items()) + f"\n\n{code}"


def main(words: list[str]) -> int:
    """Prints what the words ask for; 1 if nothing in the gallery fits."""
    for fault in FAULTS:
        if [fault.name] == words:
            print(described(fault))
            return 0
    lines = [(f.layer, f.name, f.cause) for f in FAULTS] + [("right", e.name, e.why) for e in EQUIVALENTS]
    fitting = [line for line in lines if all(word in f"{line[1]} {line[2]}" for word in words)]
    for layer, name, cause in fitting:
        print(f"{layer:9} {name}\n          {cause}")
    if not fitting:
        print(f"The gallery has nothing with {' and '.join(words)} in its name or cause.", file=sys.stderr)
    return 0 if fitting else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
