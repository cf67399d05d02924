"""The containers of docker-compose.cluster.yml under fault: single nodes are killed, cut off and brought back.

Knows nothing of tasks.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence

from tests.faults.compose_target import ComposeTarget, docker
from tests.faults.target import WORKERS
from tests.support.waiting import wait_until

BROKERS = ("rabbitmq", "rabbitmq-2", "rabbitmq-3")
REDISES = ("redis", "redis-2", "redis-3")
SENTINELS = ("sentinel-1", "sentinel-2", "sentinel-3")
_HOST_NUMBER = {name: 11 + n for n, name in enumerate(BROKERS)} | {name: 21 + n for n, name in enumerate(REDISES)}
_WHOLE_WITHIN_S = 180.0


class ClusterTarget(ComposeTarget):
    """Programs go by their names in the two compose files."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        super().__init__(environ)
        self._network = f"{environ['COMPOSE_PROJECT_NAME']}_default"
        self._subnet = environ["CLUSTER_SUBNET"]
        self._cut_off: set[str] = set()

    def kill_for_good(self, program: str) -> None:
        """SIGKILL, and nobody starts it again; `start` does."""
        docker("kill", self._container(program))

    def cut_off(self, program: str) -> None:
        """Its network is gone, it itself goes on."""
        docker("network", "disconnect", self._network, self._container(program))
        self._cut_off.add(program)

    def reconnect(self, program: str) -> None:
        address = f"{self._subnet}.{_HOST_NUMBER[program]}"
        docker("network", "connect", "--ip", address, "--alias", program, self._network, self._container(program))
        self._cut_off.discard(program)

    def busiest_broker(self) -> str:
        """The RabbitMQ node with most queue leaders."""
        queues = json.loads(self._ask_broker("rabbitmqctl", "-q", "list_queues", "name", "leader", "--formatter=json"))
        leaders = Counter(str(queue["leader"]).removeprefix("rabbit@") for queue in queues)
        return leaders.most_common(1)[0][0]

    def redis_primary(self) -> str:
        """As the Sentinels that answer say."""
        for sentinel in SENTINELS:
            try:
                said = self._ask_sentinel(sentinel, "get-master-addr-by-name", "mymaster")
            except subprocess.CalledProcessError:
                continue
            number = int(said.split()[0].rpartition(".")[2])
            return next(name for name in REDISES if _HOST_NUMBER[name] == number)
        raise RuntimeError("no Sentinel answers")

    def role(self, redis: str) -> str:
        return self._execute(redis, "redis-cli", "role").split()[0]

    def wait_until_whole(self) -> None:
        """Every queue has its three members in step, and two replicas follow the primary."""
        wait_until(self.are_brokers_whole, _WHOLE_WITHIN_S, "three RabbitMQ nodes, every queue on all of them")
        wait_until(self.are_redises_whole, _WHOLE_WITHIN_S, "two replicas follow the primary the Sentinels name")

    def are_brokers_whole(self) -> bool:
        columns = ("name", "type", "members", "online")
        try:
            answers = [
                json.loads(self._execute(node, "rabbitmqctl", "-q", "list_queues", *columns, "--formatter=json"))
                for node in BROKERS
            ]
        except (subprocess.CalledProcessError, json.JSONDecodeError):
            return False
        quorum = [queue for queues in answers for queue in queues if queue["type"] in ("quorum", "rabbit_quorum_queue")]
        return bool(quorum) and all(len(queue["members"]) == len(queue["online"]) == 3 for queue in quorum)

    def are_redises_whole(self) -> bool:
        try:
            states = [self._execute(name, "redis-cli", "info", "replication") for name in REDISES]
            flags = [self._flags(sentinel) for sentinel in SENTINELS]
        except subprocess.CalledProcessError:
            return False
        in_step = sum("role:slave" in state and "master_link_status:up" in state for state in states)
        return in_step == 2 and flags == ["master"] * 3

    def heal(self) -> None:
        self.fail_point.unlink(missing_ok=True)
        for program in tuple(self._cut_off):
            self.reconnect(program)
        self.start(*SENTINELS, *BROKERS, *REDISES, *WORKERS, "web")
        self.wait_until_whole()

    def _flags(self, sentinel: str) -> str:
        """What it says of the primary: `master` alone when all is well."""
        lines = self._ask_sentinel(sentinel, "master", "mymaster").splitlines()
        return lines[lines.index("flags") + 1]

    def _ask_sentinel(self, sentinel: str, *question: str) -> str:
        return self._execute(sentinel, "redis-cli", "-p", "26379", "sentinel", *question)

    def _ask_broker(self, *command: str, among: Sequence[str] = BROKERS) -> str:
        for node in among:
            try:
                return self._execute(node, *command)
            except subprocess.CalledProcessError:
                continue
        raise RuntimeError("no RabbitMQ node answers")
