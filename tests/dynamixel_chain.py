"""Dynamixel motors that answer protocol 2.0 on a pseudo terminal, for the real SDK and LeRobot's real bus."""

import fcntl
import os
import pty
import select
import struct
import threading
import time
import tty

PRESENT_POSITION, OPERATING_MODE, TORQUE_ENABLE = 132, 11, 64
PING, READ, WRITE, SYNC_READ, STATUS = 0x01, 0x02, 0x03, 0x82, 0x55
HEADER = b"\xff\xff\xfd\x00"
MODEL_NUMBERS = {"xl330-m288": 1200, "xl330-m077": 1190}


class DynamixelChain:
    """Motors behind one port.

    Args:
        models: model name of each motor id.

    Attributes:
        port: of the chain, to be opened as a serial port.
        dead: ids of motors that do not answer.
        late_s: the next question to all motors is answered so much later.
    """

    def __init__(self, models):
        self._models = models
        self._registers = {motor_id: bytearray(256) for motor_id in models}
        self.dead = set()
        self.late_s = 0.0
        self._answering = threading.Lock()
        # High numbers: what an earlier test left behind may still read a low one, and would take a part of the questions.
        self._master, self._slave = (_moved_up(descriptor) for descriptor in pty.openpty())
        tty.setraw(self._master)
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def turn_to(self, counts_by_id):
        """Put motors at signed counts, after what has been asked so far was answered."""
        while True:
            with self._answering:
                if not select.select([self._master], [], [], 0)[0]:
                    for motor_id, counts in counts_by_id.items():
                        struct.pack_into("<i", self._registers[motor_id], PRESENT_POSITION, int(counts))
                    return
            time.sleep(0.001)

    def register(self, motor_id, address):
        """One byte of a motor's control table."""
        return self._registers[motor_id][address]

    def set_register(self, motor_id, address, value):
        self._registers[motor_id][address] = value

    def close(self):
        self._is_closing.set()
        self._thread.join()
        os.close(self._master)
        os.close(self._slave)

    def _serve(self):
        received = bytearray()
        while not self._is_closing.is_set():
            is_asked = select.select([self._master], [], [], 0.02)[0]
            with self._answering:
                if is_asked:
                    received += os.read(self._master, 4096)
                while (packet := self._take_packet(received)) is not None:
                    self._answer(packet)

    def _take_packet(self, received):
        start = received.find(HEADER)
        if start < 0 or len(received) < start + 7:
            return None
        end = start + 7 + struct.unpack_from("<H", received, start + 5)[0]
        if len(received) < end:
            return None
        packet = bytes(received[start:end])
        del received[:end]
        assert crc(packet[:-2]) == struct.unpack("<H", packet[-2:])[0]
        return packet

    def _answer(self, packet):
        motor_id, instruction, parameters = packet[4], packet[7], packet[8:-2]
        if instruction == SYNC_READ:
            late_s, self.late_s = self.late_s, 0.0
            time.sleep(late_s)
            address, length = struct.unpack_from("<HH", parameters)
            for each in parameters[4:]:
                self._send(each, self._registers[each][address : address + length])
        elif instruction == PING:
            self._send(motor_id, struct.pack("<HB", MODEL_NUMBERS[self._models[motor_id]], 1) if motor_id in self._models else b"")
        elif instruction == READ:
            address, length = struct.unpack("<HH", parameters)
            self._send(motor_id, self._registers[motor_id][address : address + length])
        elif instruction == WRITE:
            (address,) = struct.unpack_from("<H", parameters)
            self._registers[motor_id][address : address + len(parameters) - 2] = parameters[2:]
            self._send(motor_id, b"")

    def _send(self, motor_id, data):
        if motor_id in self.dead or motor_id not in self._models:
            return
        body = HEADER + struct.pack("<BHBB", motor_id, len(data) + 4, STATUS, 0) + bytes(data)
        os.write(self._master, body + struct.pack("<H", crc(body)))


def _moved_up(descriptor):
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 500)
    os.close(descriptor)
    return moved


def crc(data):
    """Dynamixel's CRC-16 (polynomial 0x8005)."""
    value = 0
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ 0x8005 if value & 0x8000 else value << 1) & 0xFFFF
    return value
