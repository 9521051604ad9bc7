"""GitHub's REST API, by the OpenAPI description that GitHub publishes."""

import json
import re
from datetime import datetime
from urllib.parse import parse_qsl, urlsplit

from jsonschema import Draft4Validator, FormatChecker, ValidationError, validators

METHODS = {"get", "post", "put", "patch", "delete"}
# A server of one's own has the API below this.
PREFIX = "/api/v3"


class GitHub:
    def __init__(self, openapi):
        with open(openapi) as file:
            self.description = json.load(file)

        def refer(validator, reference, instance, schema):
            yield from validator.descend(instance, self.resolve(schema))

        self.validator = validators.extend(Validator, {"$ref": refer})
        self.paths = [
            (re.compile(re.sub(r"\\{[^/]+\\}", "[^/]+", re.escape(path)) + "$"), path)
            for path in self.description["paths"]
        ]

    def judge(self, exchange):
        method = exchange["method"].lower()
        url = urlsplit(exchange["path"])
        path = url.path.removeprefix(PREFIX)
        # The template with the fewest variables is the one that is meant.
        matching = [template for pattern, template in self.paths if pattern.match(path)]
        template = min(matching, key=lambda template: template.count("{"), default=path)
        name = f"{exchange['method']} {template}"
        item = self.description["paths"].get(template, {})
        if method not in METHODS or method not in item:
            return name, ["no such operation"]
        operation = item[method]
        wrong = []
        self.judge_request(exchange, operation, template, path, url.query, wrong)
        self.judge_answer(exchange, operation, wrong)
        return name, wrong

    def judge_request(self, exchange, operation, template, path, query, wrong):
        if not exchange["user_agent"]:
            wrong.append("request: no user agent, which GitHub refuses")
        values = dict(zip(re.findall(r"\{([^/]+)\}", template), variables(template, path)))
        parameters = [self.resolve(parameter) for parameter in operation.get("parameters", [])]
        given = dict(parse_qsl(query, keep_blank_values=True))
        for parameter in parameters:
            where = values if parameter["in"] == "path" else given
            name = parameter["name"]
            if name in where:
                value = typed(where[name], self.resolve(parameter["schema"]))
                self.check(parameter["schema"], value, f"request: {name}", wrong)
            elif parameter.get("required"):
                wrong.append(f"request: no {name}")
        for name in given.keys() - {parameter["name"] for parameter in parameters}:
            wrong.append(f"request: no parameter {name}")
        body = self.resolve(operation.get("requestBody", {}))
        if not exchange["body"]:
            if body.get("required"):
                wrong.append("request: no body")
        elif not body:
            wrong.append("request: a body that nobody asked for")
        else:
            schema = body["content"]["application/json"]["schema"]
            self.check(schema, json.loads(exchange["body"]), "request", wrong)

    def judge_answer(self, exchange, operation, wrong):
        status = str(exchange["status"])
        # A server that breaks down promises nothing.
        if exchange["status"] >= 500:
            return
        answer = self.resolve(operation["responses"].get(status, {}))
        # What every call may answer is not described for each.
        if not answer and exchange["status"] >= 400:
            answer = {"content": self.errors()}
        if not answer:
            wrong.append(f"answer: it has no status {status}")
            return
        content = answer.get("content", {})
        if "application/json" not in content:
            if exchange["answer"]:
                wrong.append(f"answer: {status} has no body")
            return
        if exchange["answer_type"].partition(";")[0] != "application/json":
            wrong.append(f"answer: {exchange['answer_type']!r} is no JSON")
            return
        schema = content["application/json"]["schema"]
        self.check(schema, json.loads(exchange["answer"]), "answer", wrong)

    def errors(self):
        return {"application/json": {"schema": {"$ref": "#/components/schemas/basic-error"}}}

    def resolve(self, part):
        while "$ref" in part:
            found = self.description
            for step in part["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            part = found
        return part

    def check(self, schema, value, what, wrong):
        for error in self.validator(schema, format_checker=FORMATS).iter_errors(value):
            where = "".join(f"[{step!r}]" for step in error.absolute_path)
            # A long list of indices says nothing more than the first.
            wrong.append(f"{what}{re.sub(r'[0-9]+', 'N', where)}: {error.message[:300]}")


def variables(template, path):
    pairs = zip(template.split("/"), path.split("/"))
    return [value for name, value in pairs if name.startswith("{")]


def typed(text, schema):
    """A parameter as the value that it stands for."""
    try:
        return int(text) if schema.get("type") == "integer" else text
    except ValueError:
        return text


def nullable(keyword):
    """OpenAPI 3.0's `nullable`, which JSON Schema does not have."""
    original = Draft4Validator.VALIDATORS[keyword]

    def check(validator, value, instance, schema):
        if not (instance is None and schema.get("nullable")):
            yield from original(validator, value, instance, schema)

    return check


def closed(validator, properties, instance, schema):
    """What the description does not name is nothing that GitHub answers."""
    yield from Draft4Validator.VALIDATORS["properties"](validator, properties, instance, schema)
    if isinstance(instance, dict) and "additionalProperties" not in schema:
        for name in instance.keys() - properties.keys():
            yield ValidationError(f"it has no property {name!r}")


FORMATS = FormatChecker(formats=())


@FORMATS.checks("date-time", raises=ValueError)
def is_time(value):
    if not isinstance(value, str):
        return True
    return "T" in value and datetime.fromisoformat(value.replace("Z", "+00:00")).tzinfo is not None


@FORMATS.checks("uri")
def is_uri(value):
    return not isinstance(value, str) or bool(urlsplit(value).scheme)


Validator = validators.extend(
    Draft4Validator,
    {"properties": closed}
    | {keyword: nullable(keyword) for keyword in ("type", "enum", "allOf", "anyOf", "oneOf")},
)
