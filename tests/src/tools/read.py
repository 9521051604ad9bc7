"""Prints a YAML, HCL or CloudFormation file as JSON."""

import json
import sys

path = sys.argv[1]
if path.endswith(".hcl") or path.endswith(".tf"):
    import hcl2

    with open(path) as file:
        value = hcl2.load(file)
elif "cloudformation" in path:
    from cfnlint.decode import decode

    value, problems = decode(path)
    if problems:
        sys.exit("\n".join(map(str, problems)))
else:
    import yaml

    # BaseLoader: `on` is a word here, not true.
    with open(path) as file:
        value = yaml.load(file, yaml.BaseLoader)
json.dump(value, sys.stdout)
