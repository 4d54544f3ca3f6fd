"""The official Python client, unmodified, against a running service: python_svix.py <url> <token>."""

import queue
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import standardwebhooks
from svix import webhooks
from svix.api import (
    AppPortalAccessIn,
    ApplicationIn,
    ApplicationListOptions,
    ApplicationPatch,
    EndpointGetStatsOptions,
    EndpointHeadersIn,
    EndpointHeadersPatchIn,
    EndpointIn,
    EndpointListOptions,
    EndpointPatch,
    EndpointSecretRotateIn,
    EndpointUpsertIn,
    EventExampleIn,
    EventTypeDeleteOptions,
    EventTypeIn,
    EventTypeListOptions,
    EventTypePatch,
    EventTypeUpsertIn,
    MessageAttemptListByEndpointOptions,
    MessageAttemptListByMsgOptions,
    MessageCreateOptions,
    MessageGetOptions,
    MessageIn,
    MessageListOptions,
    RecoverIn,
    Svix,
    SvixOptions,
)
from svix.exceptions import HttpError

# Resources of the client that the open-source server has; every method of them is called but for these, which it has not.
ABSENT = {
    "application": set(),
    "authentication": {
        "expire_all",
        "get_stream_poller_token",
        "rotate_stream_poller_token",
        "stream_expire_all",
        "stream_logout",
        "stream_portal_access",
    },
    "endpoint": {"bulk_replay", "get_attempt_stats", "replay_missing", "transformation", "transformation_partial_update"},
    "event_type": {"import_openapi"},
    "health": set(),
    "message": {"bulk_expunge_content", "expunge_all_contents", "poller", "precheck"},
    "message_attempt": set(),
}
WAIT_S = 30


class Recorded:
    """A resource of the client that remembers which of its methods were called."""

    def __init__(self, resource):
        self.resource = resource
        self.called = set()

    def __getattr__(self, name):
        self.called.add(name)
        return getattr(self.resource, name)

    def missing(self):
        return {name for name in dir(self.resource) if not name.startswith("_")} - self.called


class Client:
    def __init__(self, url, token):
        svix = Svix(token, SvixOptions(server_url=url, retry_schedule=[]))
        for name in ABSENT:
            setattr(self, name, Recorded(getattr(svix, name)))


class Receiver(BaseHTTPRequestHandler):
    arrived = queue.Queue()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(500 if self.path == "/broken" else 200)
        self.end_headers()
        self.wfile.write(b"heard")
        if self.path != "/broken":
            Receiver.arrived.put(({key.lower(): value for key, value in self.headers.items()}, body))

    def log_message(self, *_):
        pass


def refused(status, call):
    try:
        call()
    except HttpError as error:
        assert error.status_code == status, f"{error.status_code} in place of {status}"
        return
    raise AssertionError(f"not refused with {status}")


def eventually(read, is_so):
    end = time.monotonic() + WAIT_S
    while True:
        value = read()
        if is_so(value):
            return value
        assert time.monotonic() < end, f"not within {WAIT_S} s; last seen: {value}"
        time.sleep(0.02)


def since():
    return datetime.now(timezone.utc) - timedelta(hours=1)


def applications(svix):
    created = svix.application.create(ApplicationIn(name="A", uid="py-a", metadata={"k": "v"}, throttle_rate=5))
    assert (created.uid, created.metadata, created.throttle_rate) == ("py-a", {"k": "v"}, 5)
    assert svix.application.get("py-a") == created
    assert svix.application.get_or_create(ApplicationIn(name="Other", uid="py-a")) == created
    refused(409, lambda: svix.application.create(ApplicationIn(name="Other", uid="py-a")))
    page = svix.application.list(ApplicationListOptions(limit=1, order="descending"))
    assert (page.data, page.iterator, page.done) == ([created], created.id, True)
    assert svix.application.upsert("py-a", ApplicationIn(name="B", uid="py-a")).metadata == {}
    assert svix.application.patch("py-a", ApplicationPatch(name="C")).name == "C"
    svix.application.delete("py-a")
    refused(404, lambda: svix.application.get("py-a"))


def event_types(svix):
    schemas = {"1": {"type": "object", "properties": {"id": {"type": "string"}}}}
    created = svix.event_type.create(EventTypeIn(name="py.made", description="Made", schemas=schemas, feature_flags=["beta"]))
    assert (created.name, created.schemas, created.archived, created.feature_flags) == ("py.made", schemas, False, ["beta"])
    assert svix.event_type.get("py.made").schemas == schemas
    assert svix.event_type.list(EventTypeListOptions(with_content=True, order="ascending")).data[0].schemas == schemas
    assert svix.event_type.list(EventTypeListOptions(with_content=False)).data[0].schemas is None
    assert svix.event_type.upsert("py.made", EventTypeUpsertIn(description="Anew")).schemas is None
    assert svix.event_type.patch("py.made", EventTypePatch(description="Patched")).description == "Patched"
    svix.event_type.delete("py.made")
    assert svix.event_type.list(EventTypeListOptions(include_archived=True)).data[0].archived
    svix.event_type.delete("py.made", EventTypeDeleteOptions(expunge=True))
    refused(404, lambda: svix.event_type.get("py.made"))


def endpoints(svix, target):
    app = svix.application.create(ApplicationIn(name="Endpoints")).id
    svix.event_type.create(EventTypeIn(name="endpoint.type", description=""))
    created = svix.endpoint.create(
        app,
        EndpointIn(url=f"{target}/x", uid="e", event_types=["endpoint.type"], channels=["one"], headers={"X-A": "1"}, metadata={"k": "v"}),
    )
    assert (created.uid, created.event_types, created.channels, created.metadata) == ("e", ["endpoint.type"], ["one"], {"k": "v"})
    assert svix.endpoint.get(app, "e") == created
    assert svix.endpoint.list(app, EndpointListOptions(limit=5, order="ascending")).data == [created]
    assert svix.endpoint.upsert(app, "e", EndpointUpsertIn(url=f"{target}/y", uid="e")).event_types is None
    assert svix.endpoint.patch(app, "e", EndpointPatch(disabled=True)).disabled
    svix.endpoint.patch_headers(app, "e", EndpointHeadersPatchIn(headers={"Authorization": "Bearer x"}))
    shown = svix.endpoint.get_headers(app, "e")
    assert (shown.headers, shown.sensitive) == ({"X-A": "1"}, ["Authorization"])
    svix.endpoint.set_headers(app, "e", EndpointHeadersIn(headers={"X-B": "2"}))
    assert svix.endpoint.get_headers(app, "e").headers == {"X-B": "2"}
    key = svix.endpoint.get_secret(app, "e").key
    svix.endpoint.rotate_secret(app, "e", EndpointSecretRotateIn(grace_period_seconds=60))
    assert svix.endpoint.get_secret(app, "e").key != key
    stats = svix.endpoint.get_stats(app, "e", EndpointGetStatsOptions(since=since()))
    assert (stats.success, stats.fail, stats.pending, stats.sending) == (0, 0, 0, 0)
    svix.endpoint.delete(app, "e")
    refused(404, lambda: svix.endpoint.get(app, "e"))


def verify(key, headers, body):
    payload = standardwebhooks.Webhook(key).verify(body, headers)
    webhooks.Webhook(key).verify(body, headers)
    for library in (standardwebhooks, webhooks):
        try:
            library.Webhook(key).verify(body + b" ", headers)
        except library.WebhookVerificationError:
            continue
        raise AssertionError("a changed body was taken")
    return payload


def messages(svix, target):
    app = svix.application.create(ApplicationIn(name="Messages")).id
    svix.event_type.create(EventTypeIn(name="order.paid", description="", schemas={"1": {"example": {"order": 7}}}))
    good = svix.endpoint.create(app, EndpointIn(url=f"{target}/good"))
    broken = svix.endpoint.create(app, EndpointIn(url=f"{target}/broken"))
    key = svix.endpoint.get_secret(app, good.id).key
    order = MessageIn(event_type="order.paid", payload={"order": 1}, event_id="order-1", channels=["shop"])
    created = svix.message.create(app, order, MessageCreateOptions(with_content=True, idempotency_key="py-order-1"))
    assert (created.payload, created.event_id, created.channels) == ({"order": 1}, "order-1", ["shop"])
    assert svix.message.create(app, order, MessageCreateOptions(with_content=True, idempotency_key="py-order-1")) == created
    refused(409, lambda: svix.message.create(app, order))
    headers, body = Receiver.arrived.get(timeout=WAIT_S)
    assert verify(key, headers, body) == {"order": 1} and headers["webhook-id"] == created.id
    listed = eventually(
        lambda: svix.message_attempt.list_by_msg(app, "order-1", MessageAttemptListByMsgOptions(with_content=True)).data,
        lambda data: {one.endpoint_id for one in data} == {good.id, broken.id},
    )
    attempt = next(one for one in listed if one.endpoint_id == good.id)
    assert (attempt.status, attempt.response, attempt.response_status_code) == (0, "heard", 200)
    assert svix.message_attempt.get(app, created.id, attempt.id).url == f"{target}/good"
    options = MessageAttemptListByEndpointOptions(status=0, status_code_class=200, event_types=["order.paid"], after=since(), limit=5)
    assert [one.id for one in svix.message_attempt.list_by_endpoint(app, good.id, options).data] == [attempt.id]
    assert svix.message_attempt.list_attempted_messages(app, broken.id).data[0].id == created.id
    assert len(svix.message_attempt.list_attempted_destinations(app, created.id).data) == 2
    svix.message_attempt.expunge_content(app, created.id, attempt.id)
    assert svix.message_attempt.get(app, created.id, attempt.id).response == "EXPUNGED"
    svix.message_attempt.resend(app, created.id, good.id)
    assert Receiver.arrived.get(timeout=WAIT_S)[0]["webhook-id"] == created.id
    task = svix.endpoint.recover(app, broken.id, RecoverIn(since=since()))
    assert (task.status, task.task) == ("running", "endpoint.recover")
    example = svix.endpoint.send_example(app, good.id, EventExampleIn(event_type="order.paid"))
    headers, body = Receiver.arrived.get(timeout=WAIT_S)
    assert verify(key, headers, body) == {"order": 7} and headers["webhook-id"] == example.id
    assert svix.message.get(app, "order-1", MessageGetOptions(with_content=True)).payload == {"order": 1}
    assert svix.message.list(app, MessageListOptions(channel="shop", event_types=["order.paid"], after=since())).data[0].id == created.id
    svix.message.expunge_content(app, created.id)
    assert svix.message.get(app, created.id, MessageGetOptions(with_content=True)).payload == {"expired": True}


def portal(svix, url):
    app = svix.application.create(ApplicationIn(name="Portal")).id
    access = svix.authentication.app_portal_access(app, AppPortalAccessIn(feature_flags=["beta"]))
    customer = Client(url, access.token)
    assert customer.application.get(app).id == app
    refused(403, customer.application.list)
    refused(501, svix.authentication.logout)


def main(url, token):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    target = f"http://127.0.0.1:{server.server_port}"
    svix = Client(url, token)
    svix.health.get()
    applications(svix)
    event_types(svix)
    endpoints(svix, target)
    messages(svix, target)
    portal(svix, url)
    for name, absent in ABSENT.items():
        missing = getattr(svix, name).missing()
        assert missing == absent, f"{name}: {sorted(missing ^ absent)}"
    print("every operation was called")


main(*sys.argv[1:])
