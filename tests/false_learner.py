"""A learner that says whatever a test wants it to say, over real gRPC; and the genuine message that most lies begin with."""

import json
from concurrent import futures

import grpc
from lerobot.transport import services_pb2
from restartable_learner import DEMO_STATS
from small_data import FPS
from small_policy import small_agent, small_config

from lerobot_serl.message_header import HEADER_KEY, LENGTH_BYTES
from lerobot_serl.online.server import SERVICE
from lerobot_serl.online.weights import WeightPublisher
from lerobot_serl.policy.agent import Agent
from lerobot_serl.transport import RECEIPT_KEY, RUN_KEY, VERSION_KEY, decode, join, split


def genuine(demo_stats=None, agent=small_agent, updates=0, **changes):
    """Header and tensors of a policy that can act."""
    config = small_config(**changes)
    publisher = WeightPublisher(agent(config), config, fps=FPS, dataset=("test/one", "1" * 32), demo_stats=demo_stats)
    publisher.publish("actor", updates, 0)
    return decode(publisher.message(publisher.wait_for_newer(0, 5), whole_policy=True))


def genuine_of_robot(**changes):
    """For the robot of small_robots.py."""
    return genuine(DEMO_STATS, Agent, **changes)


def with_text(data, old, new):
    """A message whose header's JSON has another text somewhere: what no JSON writer would write."""
    size = int.from_bytes(data[:LENGTH_BYTES], "little")
    document = json.loads(data[LENGTH_BYTES : LENGTH_BYTES + size])
    inner = document["__metadata__"][HEADER_KEY]
    assert old in inner
    document["__metadata__"][HEADER_KEY] = inner.replace(old, new, 1)
    text = json.dumps(document).encode()
    return len(text).to_bytes(LENGTH_BYTES, "little") + text + data[LENGTH_BYTES + size :]


class FalseLearner:
    """Attributes:
    messages: what the calls for weights get, one each; the last again and again. None ends a call without a message.
    answer: of the version that a caller has; instead of ``messages``, if it is not None.
    run: said ahead of each.
    status: ends every call for weights, if it is not None: code and details.
    receipt: of the data of an episode.
    calls: for weights, so far.
    """

    def __init__(self):
        self.messages, self.answer, self.run, self.status, self.receipt, self.calls = [], None, "", None, lambda data: "", 0
        empty = services_pb2.Empty.SerializeToString
        handlers = {
            "Ready": grpc.unary_unary_rpc_method_handler(self._ready, services_pb2.Empty.FromString, empty),
            "StreamParameters": grpc.unary_stream_rpc_method_handler(
                self._weights, services_pb2.Empty.FromString, services_pb2.Parameters.SerializeToString
            ),
            "SendTransitions": grpc.stream_unary_rpc_method_handler(self._episode, services_pb2.Transition.FromString, empty),
        }
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{self.port}"

    def _ready(self, _, context):
        if self.status is not None:
            context.abort(*self.status)
        return services_pb2.Empty()

    def _weights(self, _, context):
        if not context.is_active():
            return  # of a client of an earlier test, which has gone: it must not take what is meant for the next one
        self.calls += 1
        context.send_initial_metadata(((RUN_KEY, self.run),))
        if self.answer is not None:
            message = self.answer(int(dict(context.invocation_metadata())[VERSION_KEY]))
        else:
            message = self.messages.pop(0) if len(self.messages) > 1 else self.messages[0]
        if message is not None:
            yield from split(message, services_pb2.Parameters)

    def _episode(self, parts, context):
        context.set_trailing_metadata(((RECEIPT_KEY, self.receipt(next(join(parts)))),))
        return services_pb2.Empty()

    def __enter__(self):
        self._server.start()
        return self

    def __exit__(self, *_):
        self._server.stop(grace=None).wait()
