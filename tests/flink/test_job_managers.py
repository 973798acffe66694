"""JobManagers that die, stand by, or are down while another cluster goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flink.cluster import HUB, MYSQL, POSTGRES, SOURCES, Rest, Stage, stage, wait_for_slots
from tests.flink.conftest import VERSION, needs
from tests.flink.watch import settle, watched
from tests.support.waiting import until

pytestmark = [pytest.mark.flink]
ZOOKEEPER = "org.apache.flink.runtime.zookeeper.FlinkZooKeeperQuorumPeer"
APPLICATION = "org.apache.flink.container.entrypoint.StandaloneApplicationClusterEntryPoint"


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Stage]:
    """A stage without a JobManager, with leaves for two TaskManagers."""
    needs(VERSION)
    with stage(tmp_path, VERSION) as made:
        for number in (1, 2):
            made.leaf(f"tm{number}", number, 2)
        yield made


def up(rest: Rest) -> None:
    until(rest.answers, "the JobManager answers", seconds=60)


def test_job_manager_that_comes_back_without_its_state(bare: Stage, place: Path) -> None:
    since, rest = time.time(), bare.rest()
    jm = bare.job_manager()
    up(rest)
    bare.task_manager("tm1", "10.200.1.2", 1)
    rest.upload()
    wait_for_slots(rest, 1)
    rest.submit("orders", SOURCES[0], MYSQL)
    with watched(bare, place) as seen:
        settle(bare, seen, jobs=2, since=since)
        jm.kill()
        time.sleep(6)
        bare.job_manager()
        up(rest)
        wait_for_slots(rest, 1)
        # The JobManager forgot how "orders" ended. Until a reading shows its slot free, "orders" stays a candidate.
        for _ in range(2):
            seen.read_again()
        again = time.time()
        fresh = bare.rest()
        fresh.submit("after", SOURCES[1], POSTGRES)
        found = settle(bare, seen, jobs=2, since=again)
        assert found.wrong == []
        assert {one.job for one in found.right} >= {"after"}


def test_one_of_two_clusters_is_down(bare: Stage, place: Path) -> None:
    rest = bare.rest()
    bare.job_manager()
    up(rest)
    bare.task_manager("tm1", "10.200.1.2", 1)
    wait_for_slots(rest, 1)
    urls = {"prod": "http://127.0.0.1:8081", "down": "http://127.0.0.1:8082"}
    with watched(bare, place, urls=urls) as seen:
        since = time.time()
        rest.submit("orders", SOURCES[0], MYSQL)
        found = settle(bare, seen, jobs=2, since=since)
        assert (found.wrong, len(found.right)) == ([], 2)
        stranger = bare.stranger("tm2")
        time.sleep(6)
        truth = [one for one in bare.truth() if one.job == ""]
        # Its address could be one of the cluster that does not answer.
        assert [seen.latest(one) for one in truth] != []
        assert {said.state for one in truth if (said := seen.latest(one))} == {"pending"}
        stranger.close()


def test_application_cluster_beside_a_session_cluster(bare: Stage, place: Path) -> None:
    rest = bare.rest()
    bare.job_manager()
    up(rest)
    bare.task_manager("tm1", "10.200.1.2", 1)
    wait_for_slots(rest, 1)
    ports = {"rest.port": "8082", "jobmanager.rpc.port": "6223", "blob.server.port": "6224"}
    words = ["--jars", str(bare.job_jar), "--job-classname", "FlowJob", "--name", "payments"]
    words += ["--source", SOURCES[1], "--sink", POSTGRES]
    bare.job_manager("app", entry=APPLICATION, words=words, mode=False, settings=ports)
    until(bare.rest(8082).answers, "the application's JobManager answers", seconds=60)
    urls = {"session": "http://127.0.0.1:8081", "payments-app": "http://127.0.0.1:8082"}
    with watched(bare, place, urls=urls) as seen:
        since = time.time()
        bare.task_manager("tm2", "10.200.2.2", 1, settings={"jobmanager.rpc.port": "6223"})
        rest.submit("orders", SOURCES[0], MYSQL)
        found = settle(bare, seen, jobs=4, since=since)
        assert (found.wrong, found.shared) == ([], [])
        assert {one.job for one in found.right} == {"orders", "payments"}


@pytest.mark.parametrize("ports", [pytest.param((8081, 8082), id="both"), pytest.param((8082,), id="standby")])
def test_leader_that_dies_with_high_availability(bare: Stage, place: Path, ports: tuple[int, ...]) -> None:
    """The standby answers for the leader, and leads after it."""
    (bare.directory / "conf" / "zoo.cfg").write_text(
        f"tickTime=2000\ninitLimit=10\nsyncLimit=5\nclientPort=2181\ndataDir={bare.directory}/zk\n"
        "admin.enableServer=false\nserver.1=10.200.0.1:2888:3888\n"
    )
    bare.java("zookeeper", ZOOKEEPER, ["--zkConfigFile", str(bare.directory / "conf" / "zoo.cfg"), "--peerId", "1"])
    ha = {
        "high-availability.type": "zookeeper",
        "high-availability.zookeeper.quorum": f"{HUB}:2181",
        "high-availability.storageDir": f"file://{bare.directory}/ha",
    }
    random = {**ha, "jobmanager.rpc.port": "0", "blob.server.port": "0"}
    leader = bare.job_manager("leader", settings=random)
    rest = bare.rest()
    up(rest)
    bare.job_manager("standby", settings={**random, "rest.port": "8082", "rest.bind-port": "8082"})
    up(bare.rest(8082))
    bare.task_manager("tm1", "10.200.1.2", 1, settings=ha)
    wait_for_slots(rest, 1)
    since = time.time()
    rest.submit("orders", SOURCES[0], MYSQL)
    with watched(bare, place, urls={"prod": ",".join(f"http://127.0.0.1:{port}" for port in ports)}) as seen:
        settle(bare, seen, jobs=2, since=since)

        def own() -> set[str]:
            """The states of the connections that exist now: those to a dead leader left while it was undecided."""
            listed = seen.daemon.json(f"/api/v1/flows?client=10.200.1.2&peer={HUB}&limit=1000")["flows"]
            return {flow["state"] for flow in listed if flow["endedAt"] is None}

        # The standby does not tell the random ports of the leader: then no job has these connections either.
        first = {"internal"} if 8081 in ports else {"internal", "unknown"}
        until(lambda: own() == first, "RPC, blob and ZooKeeper connections are no job's")
        killed = time.time()
        leader.kill()
        found = settle(bare, seen, jobs=4, since=killed)
        assert found.wrong == []
        until(lambda: own() == {"internal"}, "and so are those to the new leader")
