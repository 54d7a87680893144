"""A client of pileway that knows nothing but its address: no generated code, no .proto file.

Everything comes from the reflection service. Usage: client.py ADDRESS, with the piles' names as JSON on standard
input (what each pile does is up to whoever starts them). Exits with 0 if every answer was as it should be.
"""

import json
import sys
import uuid

import grpc
from google.protobuf import descriptor_pool, message_factory
# Well-known messages of errors, from Google's own package: they are no part of pileway.
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

PATIENCE = 30


class Api:
    """Every method of every service, found by reflection."""

    def __init__(self, channel):
        self.channel = channel
        self.database = ProtoReflectionDescriptorDatabase(channel)
        self.pool = descriptor_pool.DescriptorPool(self.database)

    def services(self):
        return list(self.database.get_services())

    def call(self, name, timeout=PATIENCE, **fields):
        service, method = name.split(".")
        method = self.pool.FindServiceByName(f"pileway.v1.{service}").FindMethodByName(method)
        request = message_factory.GetMessageClass(method.input_type)(**fields)
        answer = message_factory.GetMessageClass(method.output_type)
        kind = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        stub = kind(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        return stub(request, timeout=timeout)

    def number(self, enum, name):
        return self.pool.FindEnumTypeByName(f"pileway.v1.{enum}").values_by_name[name].number


def refused(code, reason, call):
    """Calls, and takes the error apart: its code, `google.rpc.ErrorInfo`, and every other detail."""
    try:
        answer = call()
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)
        assert status is not None, f"{reason}: no google.rpc.Status with {error}"
        assert error.code() == code, f"{reason}: {error}"
        found = {}
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            for detail in status.details:
                if detail.Is(kind.DESCRIPTOR):
                    message = kind()
                    detail.Unpack(message)
                    found[kind.DESCRIPTOR.name] = message
        info = found["ErrorInfo"]
        assert (info.reason, info.domain) == (reason, "pileway"), info
        print("refused as it should be:", code.name, reason, dict(info.metadata))
        return found
    raise AssertionError(f"{reason}: not refused but {answer}")


def start(api, pile, timeout=PATIENCE, gun=1, **more):
    fields = {"request_id": str(uuid.uuid4()), "balance": {"currency_code": "CNY", "units": 50}, **more}
    return api.call("ChargingService.StartCharging", timeout=timeout, pile=pile, gun=gun, **fields)


def stop(api, pile, serial):
    return api.call("ChargingService.StopCharging", pile=pile, serial=serial)


def main():
    piles = json.load(sys.stdin)
    with grpc.insecure_channel(sys.argv[1]) as channel:
        api = Api(channel)
        services = api.services()
        for service in ("PileService", "ChargingService", "TelemetryService"):
            assert f"pileway.v1.{service}" in services, services
        assert "grpc.health.v1.Health" in services, services
        assert not [name for name in services if name.startswith("pileway.store")], services

        charge(api, piles["good"])
        rejections(api, piles)
        bad_arguments(api)
    print("all as it should be")


def charge(api, pile):
    state = lambda name: api.number("OrderState", f"ORDER_STATE_{name}")
    changes = api.call("ChargingService.WatchOrders", timeout=4 * PATIENCE, piles=[pile])
    assert next(changes).WhichOneof("update") == "snapshot_end"

    found = api.call("PileService.GetPile", pile=pile).pile
    assert found.pile == pile and found.gun_count >= 1, found
    assert found.presence == api.number("PilePresence", "PILE_PRESENCE_ONLINE"), found
    order = start(api, pile, order_id="from python", attributes={"tenant": "nord"}).order
    assert order.state == state("STARTING"), order
    busy = refused(grpc.StatusCode.FAILED_PRECONDITION, "GUN_BUSY", lambda: start(api, pile))
    assert busy["ErrorInfo"].metadata["serial"] == order.serial, busy

    wait_for(api, changes, "CHARGING")
    stopped = stop(api, pile, order.serial)
    assert stopped.confirmed_by != api.number("StopProof", "STOP_PROOF_UNSPECIFIED"), stopped
    wait_for(api, changes, "SETTLED")
    settled = api.call("ChargingService.GetOrder", pile=pile, serial=order.serial).order
    assert settled.state == state("SETTLED") and settled.order_id == "from python", settled
    assert dict(settled.attributes) == {"tenant": "nord"}, settled
    steps = lambda money: money.units * 10_000 + money.nanos // 100_000
    bill = settled.bill
    assert sum(steps(period.amount) for period in bill.periods) == steps(bill.total_amount), bill
    assert bill.meter_end_mwh - bill.meter_start_mwh == bill.total_energy_mwh, bill
    refused(grpc.StatusCode.FAILED_PRECONDITION, "ORDER_NOT_ACTIVE", lambda: stop(api, pile, order.serial))
    listed = api.call("ChargingService.ListOrders", pile=pile).orders
    assert [order.serial for order in listed] == [order.serial], listed
    changes.cancel()
    print("charged and settled:", order.serial, bill.total_energy_mwh, "mWh")


def wait_for(api, changes, name):
    wanted = api.number("OrderChange", f"ORDER_CHANGE_{name}")
    for message in changes:
        assert message.WhichOneof("update") == "event", message
        if message.event.change == wanted:
            return
    raise AssertionError(f"the watch ended before {name}")


def rejections(api, piles):
    refused(grpc.StatusCode.NOT_FOUND, "PILE_UNKNOWN", lambda: start(api, "99999999999999"))
    offline = refused(grpc.StatusCode.UNAVAILABLE, "PILE_OFFLINE", lambda: start(api, piles["offline"]))
    assert offline["ErrorInfo"].metadata["last_seen"] and "RetryInfo" in offline, offline

    rejected = refused(grpc.StatusCode.FAILED_PRECONDITION, "PILE_REJECTED", lambda: start(api, piles["refuses"]))
    assert rejected["ErrorInfo"].metadata["code"] == "3", rejected
    assert rejected["ErrorInfo"].metadata["name"] == "equipment fault", rejected
    assert "RetryInfo" not in rejected, rejected

    # A twentieth of it is the margin in which the answer must be here.
    unknown = refused(
        grpc.StatusCode.DEADLINE_EXCEEDED, "OUTCOME_UNKNOWN", lambda: start(api, piles["ignores"], timeout=6)
    )
    assert "RetryInfo" not in unknown, unknown
    serial = unknown["ErrorInfo"].metadata["serial"]
    order = api.call("ChargingService.GetOrder", pile=piles["ignores"], serial=serial).order
    assert order.state == api.number("OrderState", "ORDER_STATE_REQUESTED"), order
    refused(grpc.StatusCode.NOT_FOUND, "GUN_UNKNOWN", lambda: start(api, piles["ignores"], gun=9))


def bad_arguments(api):
    call = lambda: start(api, "123", gun=0, request_id="again", balance={"currency_code": "EUR", "units": 1})
    bad = refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", call)
    fields = [violation.field for violation in bad["BadRequest"].field_violations]
    assert fields == ["pile", "gun", "request_id", "balance"], fields


if __name__ == "__main__":
    main()
