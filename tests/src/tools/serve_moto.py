"""Serves moto on a port of the loopback interface, one request to DynamoDB at a time.

`moto_server` answers in threads without a lock: between the look at a condition and the write, another
request's write may come, and two claims of one record both win. DynamoDB promises that they do not.
"""

import contextlib
import sys
import threading

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import run_simple

moto = DomainDispatcherApplication(create_backend_app)
turn = threading.Lock()


def serve(environ, start_response):
    # SQS has its long polls, during which others have to be answered.
    of_dynamodb = environ.get("HTTP_X_AMZ_TARGET", "").startswith("DynamoDB_")
    with turn if of_dynamodb else contextlib.nullcontext():
        return list(moto(environ, start_response))


run_simple(
    "127.0.0.1",
    int(sys.argv[1]),
    serve,
    threaded=True,
    request_handler=MotoRequestHandler,
)
