"""A client of husk-agent for benchmarks: the frames of protocol/protocol.h over any way to reach the guest's vsock."""
import json
import socket
import struct
import threading

PROTOCOL_VERSION = 1


def frame_send(sock, message):
    body = json.dumps(message).encode()
    sock.sendall(struct.pack("<I", len(body)) + body)


def read_exactly(sock, count):
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise ConnectionError("the guest closed the connection")
        data += more
    return data


def frame_receive(sock):
    (length,) = struct.unpack("<I", read_exactly(sock, 4))
    message = json.loads(read_exactly(sock, length))
    if "error" in message:
        raise RuntimeError(message["error"]["text"])
    return message


class Agent:
    """connect() gives a new stream to the agent's port each time it is called."""

    def __init__(self, connect):
        self.connect = connect
        self.ids = 0
        self.control = self.open({"open": "control"})

    def open(self, what):
        sock = self.connect()
        frame_send(sock, {"husk": PROTOCOL_VERSION, **what})
        frame_receive(sock)
        return sock

    def call(self, method, **params):
        self.ids += 1
        frame_send(self.control, {"id": self.ids, "method": method, "params": params})
        while (answer := frame_receive(self.control)).get("id") != self.ids:
            pass
        return answer["result"]

    def run(self, spec, root, name):
        """Runs a container to its end; its stdout. Whatever it writes to stderr is an error, as is its failure."""
        self.call("container.create", container=name, spec=spec, root=root, terminal=False, owner=False)
        streams = {s: self.open({"open": "stream", "container": name, "process": "init", "stream": s})
                   for s in ("stdin", "stdout", "stderr")}
        streams["stdin"].shutdown(socket.SHUT_WR)
        output = {}

        def drain(which):
            output[which] = b"".join(iter(lambda: streams[which].recv(65536), b""))

        readers = [threading.Thread(target=drain, args=(s,)) for s in ("stdout", "stderr")]
        for reader in readers:
            reader.start()
        self.call("container.start", container=name)
        end = self.call("process.wait", container=name, process="init")
        for reader in readers:
            reader.join()
        for stream in streams.values():
            stream.close()
        self.call("container.delete", container=name, force=True)
        if end.get("status") != 0 or output["stderr"]:
            raise RuntimeError(f"{spec['process']['args']}: {end} {output['stderr'].decode(errors='replace')}")
        return output["stdout"].decode()
