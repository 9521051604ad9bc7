"""AWS, by the service models that botocore ships."""

import base64
import json
import re
from datetime import datetime
from urllib.parse import parse_qsl
from xml.etree import ElementTree

from botocore.exceptions import UnknownServiceError
from botocore.loaders import Loader
from botocore.model import OperationNotFoundError, ServiceModel

# What a signature calls them, where the model has another name.
NAMES = {"monitoring": "cloudwatch"}

# The errors that every service may answer: "Common Errors" of each API reference, with the codes
# of JSON services beside those of the older ones.
COMMON_ERRORS = {
    "AccessDenied",
    "AccessDeniedException",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InternalFailure",
    "InternalServerError",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "RequestExpired",
    "ServiceUnavailable",
    "SignatureDoesNotMatch",
    "Throttling",
    "ThrottlingException",
    "UnrecognizedClientException",
    "ValidationException",
}


# What DynamoDB answers though no model knows of it; dynoxide does as it does.
UNMODELLED = {"TableThroughputModeSummary"}


class Aws:
    def __init__(self):
        self.loader = Loader()
        self.models = {}

    def judge(self, exchange):
        service = exchange["service"]
        name = f"{service} {exchange['action']}"
        try:
            if service not in self.models:
                model = self.loader.load_service_model(NAMES.get(service, service), "service-2")
                self.models[service] = ServiceModel(model)
            operation = self.models[service].operation_model(exchange["action"])
        except (UnknownServiceError, OperationNotFoundError) as error:
            return name, [f"no such operation: {error}"]
        wrong = []
        if exchange["method"] != "POST" or exchange["path"] != "/":
            wrong.append(f"it is not POST /: {exchange['method']} {exchange['path']}")
        kind = exchange["content_type"].partition(";")[0]
        metadata = self.models[service].metadata
        protocols = metadata.get("protocols", [metadata["protocol"]])
        if kind == f"application/x-amz-json-{metadata.get('jsonVersion')}" and "json" in protocols:
            judge_json(exchange, operation, metadata, wrong)
        elif kind == "application/x-www-form-urlencoded" and {"query", "ec2"} & set(protocols):
            protocol = "ec2" if "ec2" in protocols else "query"
            judge_query(exchange, operation, metadata, protocol, wrong)
        else:
            wrong.append(f"{kind!r} is none of its protocols {protocols}")
        return name, wrong


def judge_json(exchange, operation, metadata, wrong):
    target = f"{metadata['targetPrefix']}.{operation.name}"
    if exchange["target"] != target:
        wrong.append(f"the target is {exchange['target']!r}, not {target!r}")
    request = json.loads(exchange["body"])
    check(operation.input_shape, request, "request", wrong, text=False)
    if exchange["status"] == 0:
        return
    answer = json.loads(exchange["answer"] or "{}")
    if exchange["status"] == 200:
        if operation.output_shape is not None:
            check(operation.output_shape, answer, "answer", wrong, text=False)
        return
    code = answer.get("__type", "").rpartition("#")[2]
    known = {shape.name for shape in operation.error_shapes} | COMMON_ERRORS
    if code not in known:
        wrong.append(f"answer: it has no error {code!r}")


def judge_query(exchange, operation, metadata, protocol, wrong):
    pairs = parse_qsl(exchange["body"], keep_blank_values=True, strict_parsing=True)
    fields = dict(pairs)
    if len(fields) < len(pairs):
        wrong.append("request: a parameter comes twice")
    if fields.pop("Action") != operation.name:
        wrong.append("request: another action than the one that was played")
    version = fields.pop("Version", None)
    if version != metadata["apiVersion"]:
        wrong.append(f"request: version {version}, not {metadata['apiVersion']}")
    used = set()
    request = from_form(operation.input_shape, fields, "", protocol, used)
    # What belongs to no member of the model.
    for name in sorted(fields.keys() - used):
        wrong.append(f"request: no parameter {re.sub('[0-9]+', 'N', name)}")
    check(operation.input_shape, request, "request", wrong, text=True)
    if exchange["status"] == 0:
        return
    root = ElementTree.fromstring(exchange["answer"])
    if exchange["status"] != 200:
        if not any(local(element) == "Code" and element.text for element in root.iter()):
            wrong.append("answer: an error without a code")
        return
    if local(root) != f"{operation.name}Response":
        wrong.append(f"answer: its root is {local(root)}")
    children = [child for child in root if local(child) not in ("requestId", "ResponseMetadata")]
    shape = operation.output_shape
    if shape is None:
        return
    if protocol == "query":
        wrapper = shape.serialization.get("resultWrapper")
        if [local(child) for child in children] != [wrapper]:
            wrong.append(f"answer: there is no {wrapper} alone")
            return
        children = list(children[0])
    answer = from_xml_structure(shape, children, "answer", wrong)
    check(shape, answer, "answer", wrong, text=True)


def from_form(shape, fields, prefix, protocol, used):
    """What parameters below a prefix say; None when there are none."""
    below = [name for name in fields if not prefix or name.startswith(f"{prefix}.")]
    if shape is None or not below and prefix not in fields:
        return {} if not prefix else None
    if shape.type_name == "structure":
        value = {}
        for name, member in shape.members.items():
            inner = f"{prefix}.{form_name(name, member, protocol)}".removeprefix(".")
            inside = from_form(member, fields, inner, protocol, used)
            if inside is not None:
                value[name] = inside
        return value
    if shape.type_name == "list":
        flat = protocol == "ec2" or shape.serialization.get("flattened")
        inner = prefix if flat else f"{prefix}.{shape.member.serialization.get('name', 'member')}"
        items = []
        # They are numbered from 1 without a gap; what comes after one is left over.
        while True:
            item = from_form(shape.member, fields, f"{inner}.{len(items) + 1}", protocol, used)
            if item is None:
                return items
            items.append(item)
    used.add(prefix)
    return fields.get(prefix)


def form_name(name, member, protocol):
    serialization = member.serialization
    if protocol == "query":
        return serialization.get("name", name)
    if "queryName" in serialization:
        return serialization["queryName"]
    name = serialization.get("name", name)
    return name[:1].upper() + name[1:]


def local(element):
    return element.tag.rpartition("}")[2]


def from_xml_structure(shape, children, path, wrong):
    members = {}
    for name, member in shape.members.items():
        flat = member.type_name == "list" and member.serialization.get("flattened")
        inner = member.member if flat else member
        default = inner.serialization.get("name", name) if flat else name
        members[member.serialization.get("name", default)] = (name, member, flat)
    value = {}
    for child in children:
        if local(child) not in members:
            wrong.append(f"{path}: it has no element {local(child)}")
            continue
        name, member, flat = members[local(child)]
        here = f"{path}.{name}"
        if flat:
            value.setdefault(name, []).append(from_xml(member.member, child, here, wrong))
        elif name in value:
            wrong.append(f"{here} is there twice")
        else:
            value[name] = from_xml(member, child, here, wrong)
    return value


def from_xml(shape, element, path, wrong):
    if shape.type_name == "structure":
        return from_xml_structure(shape, list(element), path, wrong)
    if shape.type_name == "list":
        tag = shape.member.serialization.get("name", "member")
        for child in element:
            if local(child) != tag:
                wrong.append(f"{path}: its items are {local(child)}, not {tag}")
        return [from_xml(shape.member, child, f"{path}[]", wrong) for child in element]
    return element.text or ""


def check(shape, value, path, wrong, text):
    """Adds what does not fit. With `text`, numbers and the like are still text."""

    def no(what):
        wrong.append(f"{path}: {what}")

    def within(size, unit=""):
        # AWS answers less itself: no unprocessed keys, where the model has at least 1.
        if size < limits.get("min", size) and path.startswith("request"):
            no(f"{size} {unit} is less than {limits['min']}")
        if size > limits.get("max", size):
            no(f"{size} {unit} is more than {limits['max']}")

    kind = shape.type_name if shape is not None else "structure"
    if kind == "structure":
        if not isinstance(value, dict):
            return no(f"{value!r} is no structure")
        members = shape.members if shape is not None else {}
        for name in shape.required_members if shape is not None else []:
            if name not in value:
                no(f"{name} is missing")
        if shape is not None and shape.is_tagged_union and len(value) != 1:
            no(f"not just one of its members: {sorted(value)}")
        for name, inner in value.items():
            if name in members:
                check(members[name], inner, f"{path}.{name}", wrong, text)
            elif name not in UNMODELLED:
                no(f"it has no member {name}")
        return
    limits = shape.metadata
    if kind == "list":
        if not isinstance(value, list):
            return no(f"{value!r} is no list")
        within(len(value), "entries")
        for inner in value:
            check(shape.member, inner, f"{path}[]", wrong, text)
    elif kind == "map":
        if not isinstance(value, dict):
            return no(f"{value!r} is no map")
        within(len(value), "entries")
        for key, inner in value.items():
            check(shape.key, key, f"{path} (key)", wrong, text)
            check(shape.value, inner, f"{path}{{}}", wrong, text)
    elif kind in ("string", "char"):
        if not isinstance(value, str):
            return no(f"{value!r} is no text")
        within(len(value), "characters")
        if shape.enum and value not in shape.enum:
            no(f"{value!r} is none of {shape.enum}")
        if "pattern" in limits and not re.search(limits["pattern"], value):
            no(f"{value!r} is not like {limits['pattern']}")
    elif kind == "blob":
        try:
            within(len(base64.b64decode(value, validate=True)), "bytes")
        except (ValueError, TypeError):
            no(f"{value!r} is not base64")
    elif kind == "boolean":
        if value not in ("true", "false") if text else not isinstance(value, bool):
            no(f"{value!r} is neither true nor false")
    elif kind in ("integer", "long", "float", "double"):
        number = as_number(value, kind, text)
        if number is None:
            return no(f"{value!r} is no {kind}")
        within(number)
    elif kind == "timestamp":
        try:
            datetime.fromisoformat(value.replace("Z", "+00:00")) if text else float(value)
        except (ValueError, TypeError, AttributeError):
            no(f"{value!r} is no time")
    else:
        no(f"shapes of type {kind} are unknown here")


def as_number(value, kind, text):
    whole = kind in ("integer", "long")
    if text:
        try:
            return int(value) if whole else float(value)
        except ValueError:
            return None
    fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    return value if fits else None
