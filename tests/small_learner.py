"""A learner's real server around a small policy, and calls to it as raw as the wire permits."""

import uuid

import grpc
from lerobot.transport import services_pb2, services_pb2_grpc
from small_data import FPS
from small_policy import small_agent, small_config

from lerobot_serl.online.server import EpisodeReceipt, LearnerServer
from lerobot_serl.online.weights import WeightPublisher
from lerobot_serl.replay.episode_message import decode_episode, encode_episode, largest_message_bytes
from lerobot_serl.secure_channel import open_channel
from lerobot_serl.transport import ACTOR_KEY, PROTOCOL, PROTOCOL_KEY, SESSION_KEY, split


class SmallLearner:
    """Episodes land in ``received``, unless ``failure`` is set: then receiving raises it."""

    def __init__(self, **settings):
        self.config = small_config()
        self.agent = small_agent(self.config)
        self.publisher = WeightPublisher(self.agent, self.config, fps=FPS)
        self.publisher.publish("collect", 0, 0)
        self.received = []
        self.failure = None
        limit = largest_message_bytes(self.config.input_features, self.agent.action_dim)
        self.server = LearnerServer(
            "127.0.0.1", 0, self.publisher, self.receive, lambda: None, **{"largest_message_bytes": limit, **settings}
        )
        self.address = self.server.address

    def receive(self, data):
        episode, recording = decode_episode(data, self.config.input_features, self.agent.action_dim)
        if self.failure is not None:
            raise self.failure
        is_new = episode not in self.received
        if is_new:
            self.received.append(episode)
        return EpisodeReceipt(episode, len(recording), is_new)

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.stop()


class RawActor:
    """One connection, and the identity of one actor process."""

    def __init__(self, address, name="arm", token=None, certificate=None, **metadata):
        self.channel = open_channel(address, token, certificate)
        self.stub = services_pb2_grpc.LearnerServiceStub(self.channel)
        self.calls = []
        self.metadata = tuple(({PROTOCOL_KEY: str(PROTOCOL), ACTOR_KEY: name, SESSION_KEY: uuid.uuid4().hex} | metadata).items())

    def ready(self, timeout_s=20):
        self.stub.Ready(services_pb2.Empty(), metadata=self.metadata, timeout=timeout_s)

    def weights(self, timeout_s=20):
        return list(self.stub.StreamParameters(services_pb2.Empty(), metadata=self.metadata, timeout=timeout_s))

    def send(self, data, timeout_s=20, throttle=False):
        metadata = (*self.metadata, ("serl-throttle", "1")) if throttle else self.metadata
        self.stub.SendTransitions(split(data, services_pb2.Transition), metadata=metadata, timeout=timeout_s)

    def send_recording(self, recording, episode=None, **settings):
        """Returns the episode's UUID."""
        episode = episode or uuid.uuid4().hex
        self.send(encode_episode(recording, episode), **settings)
        return episode

    def stream(self, parts):
        """A call in the background, with these parts. (gRPC cancels a call that nobody holds.)"""
        self.calls.append(self.stub.SendTransitions.future(parts, metadata=self.metadata))
        return self.calls[-1]

    def status_of(self, call):
        """Name of the status, and details, of a call that fails."""
        try:
            call()
        except grpc.RpcError as error:
            return error.code().name, error.details()
        return "OK", ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()
