"""Holds recorded HTTP exchanges against what AWS and GitHub publish of their interfaces.

judge.py OPENAPI < exchanges (a JSON object a line) > verdict (a JSON object)
"""

import json
import sys

from aws import Aws
from github import GitHub


def main(openapi):
    judges = {"aws": Aws(), "github": GitHub(openapi)}
    operations, wrong = {}, {}
    for line in sys.stdin:
        exchange = json.loads(line)
        operation, faults = judges[exchange["host"]].judge(exchange)
        operations[operation] = operations.get(operation, 0) + 1
        for fault in faults:
            # One example of each will do.
            wrong.setdefault((operation, fault), line.strip())
    wrong = [
        {"operation": operation, "what": what, "exchange": line}
        for (operation, what), line in wrong.items()
    ]
    json.dump({"operations": operations, "wrong": wrong}, sys.stdout)


main(*sys.argv[1:])
