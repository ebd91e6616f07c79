"""moto's S3 with checked signatures, and a switch in front of it that makes it fail or slow.

Prints one line of JSON when it serves, then answers each line on stdin with one line of JSON:
  ok | refuse N | slow SECONDS    what becomes of requests from now on: N of them get 503; each takes longer
  counts                          requests since the last command, and how many of them were refused
  objects                         names and sizes in the bucket
  flip NAME | delete NAME         damage to an object
Ends with stdin.
"""

import json
import os
import sys
import threading
import time
from urllib.parse import quote, unquote

# Creating the user, its rights and its key; from the fourth request on every signature is checked.
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "3"
os.environ.update(AWS_ACCESS_KEY_ID="nobody", AWS_SECRET_ACCESS_KEY="nothing", AWS_DEFAULT_REGION="us-east-1")

import boto3  # noqa: E402
from moto.iam import access_control  # noqa: E402
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app  # noqa: E402
from werkzeug.serving import make_server  # noqa: E402

BUCKET = "history"


def signed_path(path):
    """moto decodes the query before it signs it, so that a list with a "/" in it never matches, boto3's neither."""
    path, _, query = path.partition("?")
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    query = "&".join(f"{quote(unquote(name), safe='-_.~')}={quote(unquote(value), safe='-_.~')}" for name, _, value in pairs)
    return f"{path}?{query}" if query else path


class Request(access_control.S3IAMRequest):
    def _calculate_signature(self):
        self._path = signed_path(self._path)
        return super()._calculate_signature()


access_control.S3IAMRequest = Request


class Switch:
    """Hands requests on, unless it was told not to. Those of this program itself pass."""

    def __init__(self, behind):
        self.behind, self.lock = behind, threading.Lock()
        self.set()

    def set(self, refuse=0, slow=0.0):
        with self.lock:
            self.refuse, self.slow, self.requests, self.refused = refuse, slow, [], 0

    def __call__(self, environ, start_response):
        if "boto" not in environ.get("HTTP_USER_AGENT", "").lower():
            with self.lock:
                self.requests.append(environ["REQUEST_METHOD"])
                refused = self.refuse > 0
                self.refuse -= refused
                self.refused += refused
                slow = self.slow
            time.sleep(slow)
            if refused:
                body = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>"
                start_response("503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
                return [body]
        return self.behind(environ, start_response)


switch = Switch(DomainDispatcherApplication(create_backend_app))
server = make_server("127.0.0.1", 0, switch, threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
endpoint = f"http://127.0.0.1:{server.server_port}"

iam = boto3.client("iam", endpoint_url=endpoint)
iam.create_user(UserName="headwater")
allowed = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
iam.put_user_policy(UserName="headwater", PolicyName="all", PolicyDocument=json.dumps(allowed))
key = iam.create_access_key(UserName="headwater")["AccessKey"]
own = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
s3 = boto3.client("s3", endpoint_url=endpoint, **own)
s3.create_bucket(Bucket=BUCKET)


def objects():
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return {found["Key"]: found["Size"] for page in pages for found in page.get("Contents", [])}


def flip(name):
    body = bytearray(s3.get_object(Bucket=BUCKET, Key=name)["Body"].read())
    body[len(body) // 2] ^= 1
    s3.put_object(Bucket=BUCKET, Key=name, Body=bytes(body))


def answer(command, arguments):
    match command:
        case "ok":
            switch.set()
        case "refuse":
            switch.set(refuse=int(arguments[0]))
        case "slow":
            switch.set(slow=float(arguments[0]))
        case "counts":
            return {"requests": switch.requests, "refused": switch.refused}
        case "objects":
            return objects()
        case "flip":
            flip(arguments[0])
        case "delete":
            s3.delete_object(Bucket=BUCKET, Key=arguments[0])
        case _:
            raise ValueError(command)
    return {}


def say(what):
    print(json.dumps(what), flush=True)


say({"endpoint": endpoint, "bucket": BUCKET, "key": key["AccessKeyId"], "secret": key["SecretAccessKey"]})
for line in sys.stdin:
    command, *arguments = line.split()
    say(answer(command, arguments))
