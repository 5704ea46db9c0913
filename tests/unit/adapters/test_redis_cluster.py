"""The same promises on a cluster, where every view lies on one node."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack, contextmanager, suppress

import pytest

from assay.errors import ConfigurationError, Unavailable
from assay.testing.online_store import OnlineStoreTests, stored_row
from assay.testing.redis_server import RedisServer, free_port

redis = pytest.importorskip("redis")

from assay.adapters.redis import AsyncRedisStore, RedisStore  # noqa: E402

SLOTS = 16_384
OPTIONS = ("--cluster-enabled", "yes", "--cluster-node-timeout", "3000")


def own_port():
    """A free port, with the one ten thousand above it, where nodes talk to each other."""
    while True:
        port = free_port()
        with socket.socket() as probe, suppress(OSError, OverflowError):
            probe.bind(("127.0.0.1", port + 10_000))
            return port


@contextmanager
def cluster(executable, size):
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(RedisServer(executable, OPTIONS, port=own_port()))
            for _ in range(size)
        ]
        clients = [stack.enter_context(client_of(node)) for node in nodes]
        for number, client in enumerate(clients):
            share = range(SLOTS * number // size, SLOTS * (number + 1) // size)
            client.execute_command("CLUSTER ADDSLOTS", *share)
            if number:
                client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port)
        limit = time.monotonic() + 30
        while not all(is_ready(client, size) for client in clients):
            assert time.monotonic() < limit, "the cluster did not form"
            time.sleep(0.02)
        yield nodes


def client_of(node):
    return redis.Redis(port=node.port, protocol=2)


def is_ready(client, size):
    state = client.execute_command("CLUSTER INFO")
    return state["cluster_state"] == "ok" and int(state["cluster_known_nodes"]) == size


@pytest.fixture(scope="module")
def one_node(redis_executable):
    with cluster(redis_executable, 1) as nodes:
        yield nodes


@pytest.fixture(scope="module")
def three_nodes(redis_executable):
    with cluster(redis_executable, 3) as nodes:
        yield nodes


def emptied(nodes):
    for node in nodes:
        with client_of(node) as client:
            client.flushall()
    return nodes


class TestRedisStoreOnACluster(OnlineStoreTests):
    durable, one_state = True, False

    @pytest.fixture
    def open_store(self, one_node):
        (node,) = emptied(one_node)
        return lambda **options: RedisStore(node.url, **options)


@pytest.mark.long
class TestRedisStoreOnThreeNodes(OnlineStoreTests):
    durable, one_state = True, False

    @pytest.fixture
    def open_store(self, three_nodes):
        nodes = emptied(three_nodes)
        opened = []

        def open_store(**options):
            # By one node after another: any of them leads to the others.
            opened.append(options)
            return RedisStore(nodes[len(opened) % 3].url, **options)

        return open_store


@pytest.mark.long
def test_views_spread_over_the_nodes_and_each_lies_on_one(three_nodes):
    nodes = emptied(three_nodes)
    store = RedisStore(nodes[0].url)
    names = [f"view{number}" for number in range(30)]
    for name in names:
        store.write(name, [stored_row(entity) for entity in "ABC"])
        store.write(name, [stored_row("A", 2)])
    assert store.views() == tuple(sorted(names))
    where = []
    for node in nodes:
        with client_of(node) as client:
            where.append({key.split(b"}")[0] for key in client.keys("*}newest:*")})
            assert all(client.exists(tag + b"}view") for tag in where[-1])
    assert sum(map(len, where)) == 30
    assert all(where)
    for as_of, newest in ((None, 2), (1, 1)):
        answer = [stored_row("B"), stored_row("A", newest)]
        found = store.read_views({name: ["B", "A"] for name in names}, as_of)
        assert list(found) == names
        assert all(rows == answer for rows in found.values())
    assert store.entities("view7") == ["A", "B", "C"]
    assert store.drop("view7") == 3
    assert store.views() == tuple(sorted(set(names) - {"view7"}))
    store.forget()
    assert store.views() == ()
    for node in nodes:
        with client_of(node) as client:
            assert client.dbsize() == 0
    store.close()


def test_a_cluster_has_only_database_zero(one_node):
    with pytest.raises(ConfigurationError, match="database"):
        RedisStore(one_node[0].url.replace("/0", "/1"))


def test_several_views_on_a_cluster_whose_nodes_forgot_the_scripts(one_node):
    (node,) = emptied(one_node)
    rows = {view: [stored_row("A", time) for time in (1, 5)] for view in ("fx", "news", "macro")}
    store = RedisStore(node.url)
    for view, written in rows.items():
        store.write(view, written)
    asked = {view: ["A", "B"] for view in rows}

    async def awaited():
        other = await AsyncRedisStore.open(node.url)
        found = await other.read_views(asked, 4)
        await other.close()
        return found

    for read in (lambda: store.read_views(asked, 4), lambda: asyncio.run(awaited())):
        with client_of(node) as client:
            client.script_flush()
        assert read() == {view: [written[0], None] for view, written in rows.items()}
    store.close()


def test_an_awaited_store_works_on_a_cluster(one_node):
    async def work():
        store = await AsyncRedisStore.open(one_node[0].url, namespace="awaited")
        assert await store.write("fx", [stored_row("A", 5), stored_row("B"), stored_row("A")]) == 3
        assert await store.read("fx", ["A", "B"], 2) == [stored_row("A"), stored_row("B")]
        assert await store.views() == ("fx",)
        await store.close()

    asyncio.run(work())


@pytest.mark.long
def test_a_view_whose_node_is_gone_is_unavailable_and_the_others_answer(redis_executable):
    with cluster(redis_executable, 3) as nodes:
        store = RedisStore(nodes[0].url, timeout=1.0)
        names = [f"view{number}" for number in range(12)]
        for name in names:
            store.write(name, [stored_row()])
        nodes[2].kill()
        answers = []
        for name in names:
            try:
                answers.append(store.read(name, ["A"]) == [stored_row()])
            except Unavailable:
                answers.append(None)
        assert None in answers
        assert False not in answers
        store.close()
