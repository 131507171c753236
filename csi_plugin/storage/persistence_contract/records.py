"""What a RecordStore promises."""

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings, stateful
from hypothesis import strategies as st

from csi_plugin.persistence.base import (
    RecordExists,
    RecordNotFound,
    RecordStore,
    RevisionConflict,
)
from csi_plugin.persistence.records import (
    RECORD_TYPES,
    ConnectionRecord,
    GroupRecord,
    GroupSnapshotRecord,
    KeyValueRecord,
    NodeRecord,
    Record,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.storage.persistence_contract.plugins import Plugin, PluginContract, open_store
from csi_plugin.storage.persistence_contract.samples import MOMENT, an_intent, new_id, samples

THREADS = 32


def _without_sightings(record: Any) -> Any:
    """A record without when a node was heard of, which a store may tell by what it has seen since it was opened."""
    return replace(record, updated_at=None) if isinstance(record, NodeRecord) else record


class RecordContract(PluginContract):
    """What RecordStore promises."""

    persistent = False
    """Whether records outlive the plugin object; then they are looked for after it was opened again."""

    @pytest.fixture
    def store(self, make_plugin: Callable[[], Plugin], library: Any) -> Iterator[RecordStore]:
        store = open_store(make_plugin())
        yield store
        store.close()

    def test_every_field_of_every_kind_is_kept(self, store: RecordStore) -> None:
        created = [store.create(record) for record in samples()]
        assert {type(record) for record in created} == set(RECORD_TYPES)
        for record in created:
            assert store.get(type(record), record.id) == record
            assert store.find(type(record)) == [record]

    def test_defaults_are_kept(self, store: RecordStore) -> None:
        group, volume, group_snapshot, *_ = samples()
        for record in (
            GroupRecord(id=group.id),
            VolumeRecord(id=volume.id),
            GroupSnapshotRecord(id=group_snapshot.id, group_id=group.id),
            SnapshotRecord(id=new_id(), volume_id=volume.id),
            ConnectionRecord(id=new_id(), volume_id=volume.id),
            KeyValueRecord(id="key"),
            NodeRecord(id="node"),
        ):
            created = store.create(record)
            assert created == replace(record, revision=1, created_at=created.created_at)
            assert store.get(type(record), record.id) == created

    def test_create_sets_revision_and_time(self, store: RecordStore) -> None:
        before = datetime.now(UTC)
        created = store.create(VolumeRecord(id=new_id(), revision=9))
        assert created.revision == 1
        assert created.created_at is not None
        assert before <= created.created_at <= datetime.now(UTC)
        assert store.create(VolumeRecord(id=new_id(), created_at=MOMENT)).created_at == MOMENT

    def test_create_of_an_existing_one_is_refused(self, store: RecordStore) -> None:
        for record in samples():
            first = store.create(record)
            with pytest.raises(RecordExists):
                store.create(record)
            assert store.get(type(record), record.id) == first

    def test_update_replaces_all_fields(self, store: RecordStore) -> None:
        created = [store.create(record) for record in samples()]
        emptied: dict[type[Record], dict[str, Any]] = {
            VolumeRecord: {"metadata": {}, "extra_specs": {}, "qos_specs": {}, "volume_type_id": None, "intent": None},
            SnapshotRecord: {"metadata": {"other": "value"}, "status": "error", "intent": an_intent("other")},
            ConnectionRecord: {"connection_info": None, "attach_status": "error_detaching", "node_id": None},
            KeyValueRecord: {"value": "other"},
            GroupRecord: {"group_specs": {}, "status": "deleting"},
            GroupSnapshotRecord: {"intent": None, "status": "error"},
            NodeRecord: {"topology": {}, "public_key": "b3RoZXI="},
        }
        for record in created:
            updated = store.update(replace(record, **emptied[type(record)]))
            assert updated.revision == 2
            assert updated.updated_at is not None
            assert updated == replace(record, **emptied[type(record)], revision=2, updated_at=updated.updated_at)
            assert store.get(type(record), record.id) == updated

    def test_specs_can_be_given_later_and_changed(self, store: RecordStore) -> None:
        volume = store.create(VolumeRecord(id=new_id()))
        for specs in ({"a": "1"}, {"a": "2", "b": "3"}, {"b": "3"}):
            volume = store.update(replace(volume, volume_type_id=volume.id, extra_specs=specs, qos_specs=specs))
            assert store.get(VolumeRecord, volume.id) == volume
            assert volume.extra_specs == volume.qos_specs == specs

    def test_update_of_a_stale_revision_changes_nothing(self, store: RecordStore) -> None:
        for record in samples():
            first = store.create(record)
            second = store.update(first)
            with pytest.raises(RevisionConflict):
                store.update(first)
            with pytest.raises(RevisionConflict):
                store.update(replace(second, revision=3))
            assert store.get(type(record), record.id) == second

    def test_update_of_an_absent_one_is_refused(self, store: RecordStore) -> None:
        volume = store.create(VolumeRecord(id=new_id()))
        store.delete(volume)
        for record in (volume, KeyValueRecord(id="absent", revision=1), NodeRecord(id="absent", revision=1)):
            with pytest.raises(RecordNotFound):
                store.update(record)
            assert store.get(type(record), record.id) is None

    def test_delete(self, store: RecordStore) -> None:
        created = [store.create(record) for record in samples()]
        for record in reversed(created):
            store.delete(replace(record, revision=77))
            assert store.get(type(record), record.id) is None
            assert store.find(type(record)) == []
            store.delete(record)
        for record in created:
            assert store.create(record).revision == 1

    def test_get_of_an_absent_one(self, store: RecordStore) -> None:
        for kind in RECORD_TYPES:
            assert store.get(kind, new_id()) is None
            assert store.find(kind) == []

    def test_records_are_copies(self, store: RecordStore) -> None:
        given = VolumeRecord(id=new_id(), metadata={"a": "1"}, intent=an_intent("name"))
        created = store.create(given)
        for record in (given, created, store.get(VolumeRecord, given.id), store.find(VolumeRecord)[0]):
            assert record is not None
            assert record.intent is not None
            record.metadata["a"] = "changed"
            record.intent.request["parameters"]["type"] = "changed"
        found = store.get(VolumeRecord, given.id)
        assert found is not None
        assert found.metadata == {"a": "1"}
        assert found.intent == an_intent("name")

    def test_find_by_each_key(self, store: RecordStore) -> None:
        created = [store.create(record) for record in samples()]
        store.create(VolumeRecord(id=new_id(), host="host@other#pool", display_name="größe 7"))
        for record in created:
            for name in record.KEYS:
                value = getattr(record, name)
                assert value
                assert store.find(type(record), **{name: value}) == [record], name
                other: dict[str, Any] = {name: f"{value}x"}
                assert store.find(type(record), **other) == [], name
            everything: dict[str, Any] = {name: getattr(record, name) for name in record.KEYS}
            assert store.find(type(record), **everything) == [record]

    def test_find_ignores_keys_that_are_none_and_refuses_unknown_ones(self, store: RecordStore) -> None:
        volume = store.create(VolumeRecord(id=new_id(), display_name="name"))
        assert store.find(VolumeRecord, display_name=None, backend=None) == [volume]
        with pytest.raises(ValueError, match="size"):
            store.find(VolumeRecord, size="1")

    def test_find_any_of_many_values(self, store: RecordStore) -> None:
        volumes = [store.create(VolumeRecord(id=new_id())) for _ in range(4)]
        connections = [
            store.create(ConnectionRecord(id=new_id(), volume_id=volume.id, node_id=f"node-{number}"))
            for volume in volumes
            for number in range(2)
        ]
        wanted = [volumes[0].id, volumes[2].id, volumes[2].id, new_id(), *(new_id() for _ in range(600))]
        found = store.find_any(ConnectionRecord, "volume_id", wanted)
        assert sorted(record.id for record in found) == sorted(
            record.id for record in connections if record.volume_id in wanted
        )
        assert store.find_any(ConnectionRecord, "volume_id", []) == []
        with pytest.raises(ValueError, match="size"):
            store.find_any(VolumeRecord, "size", ["1"])

    def test_find_follows_updates(self, store: RecordStore) -> None:
        volume = store.create(VolumeRecord(id=new_id(), display_name="old", host="h@a#p", intent=an_intent("one")))
        volume = store.update(replace(volume, display_name="new", host="h@b#p", intent=an_intent("two")))
        assert store.find(VolumeRecord, display_name="old") == []
        assert store.find(VolumeRecord, backend="a") == []
        assert store.find(VolumeRecord, csi_name="one") == []
        assert store.find(VolumeRecord, display_name="new", backend="b", csi_name="two") == [volume]

    def test_nodes_are_found_by_their_names_on_the_storage_network(self, store: RecordStore) -> None:
        one, other = "iqn.2026-11.org.example:one", "iqn.2026-11.org.example:other"
        store.create(NodeRecord(id="a", connector={"initiator": one, "ip": "192.0.2.1"}))
        b = store.create(NodeRecord(id="b", connector={"wwpns": ["50014380186B3F64"], "ip": "192.0.2.2"}))
        c = store.create(NodeRecord(id="c", connector={"initiator": one.upper()}))

        def found(*names: str) -> list[str]:
            return [node.id for node in store.nodes_named(names)]

        assert (found(one), found("50014380186b3f64", "192.0.2.1"), found(other), found()) == (
            ["a", "c"],
            ["a", "b"],
            [],
            [],
        )
        b.connector = {"initiator": other}
        store.update(b)
        store.delete(c)
        assert (found(one), found("50014380186b3f64"), found(other)) == (["a"], [], ["b"])

    def test_nodes_are_found_that_were_not_written_for_long(self, store: RecordStore) -> None:
        for name in "ba":
            store.create(NodeRecord(id=name))
        store.update(store.create(NodeRecord(id="updated")))

        def found(after: timedelta) -> list[str]:
            return [node.id for node in store.nodes_silent_since(datetime.now(UTC) + after)]

        assert found(timedelta(hours=-1)) == []
        assert found(timedelta(seconds=2)) == ["a", "b", "updated"]

    def test_recorded_gib_follows_writes(self, store: RecordStore) -> None:
        first = store.create(VolumeRecord(id=new_id(), host="h@a#p", size=3))
        second = store.create(VolumeRecord(id=new_id(), host="h@a#p", size=4))
        store.create(VolumeRecord(id=new_id(), host="h@a#q", size=5))
        store.create(VolumeRecord(id=new_id(), host="h@a", size=6))
        store.create(VolumeRecord(id=new_id(), host="h@b#p", size=7))
        assert store.recorded_gib(backend="a") == {"p": 7, "q": 5, "": 6}
        store.update(replace(first, size=13))
        store.update(replace(second, host="h@b#p"))
        assert store.recorded_gib(backend="a") == {"p": 13, "q": 5, "": 6}
        assert store.recorded_gib(backend="b") == {"p": 11}
        store.delete(first)
        assert store.recorded_gib(backend="a") == {"q": 5, "": 6}
        assert store.recorded_gib(backend="c") == {}

    @pytest.mark.parametrize("keys", [{}, {"backend": "a"}, {"display_name": "same"}, {"csi_name": "name"}])
    def test_pages(self, store: RecordStore, keys: dict[str, Any]) -> None:
        for number in range(23):
            mine = number % 3 != 0
            store.create(
                VolumeRecord(
                    id=new_id(),
                    host="h@a#p" if mine else "h@b#p",
                    display_name="same" if mine else "other",
                    metadata={"number": str(number)},
                    intent=an_intent("name" if mine else "other"),
                )
            )
        everything = store.find(VolumeRecord, **keys)
        assert len(everything) == (15 if keys else 23)
        assert [record.id for record in everything] == sorted(record.id for record in everything)
        pages: list[VolumeRecord] = []
        while page := store.find(VolumeRecord, after=pages[-1].id if pages else None, limit=4, **keys):
            assert len(page) <= 4
            pages += page
        assert pages == everything
        assert store.find(VolumeRecord, limit=0) == []

    def test_one_of_many_creators_wins(self, store: RecordStore) -> None:
        record = VolumeRecord(id=new_id())

        def create(number: int) -> int | None:
            try:
                store.create(replace(record, display_name=str(number)))
            except RecordExists:
                return None
            return number

        winners = [number for number in self.at_once(create) if number is not None]
        assert len(winners) == 1
        found = store.get(VolumeRecord, record.id)
        assert found is not None
        assert found.display_name == str(winners[0])

    def test_no_update_is_lost(self, store: RecordStore) -> None:
        store.create(KeyValueRecord(id="counter", value="0"))

        def increment(_: int) -> None:
            for _ in range(3):
                for attempt in itertools.count(1):
                    counter = store.get(KeyValueRecord, "counter")
                    assert counter is not None
                    try:
                        store.update(replace(counter, value=str(int(counter.value or "") + 1)))
                        break
                    except RevisionConflict:
                        # Else most of the work is that of the losers.
                        time.sleep(random.uniform(0, min(0.02 * attempt, 0.6)))

        self.at_once(increment)
        counter = store.get(KeyValueRecord, "counter")
        assert counter is not None
        assert counter.value == str(3 * THREADS)
        assert counter.revision == 3 * THREADS + 1

    def test_many_writers_of_different_records(self, store: RecordStore) -> None:
        def write(number: int) -> None:
            for _ in range(3):
                volume = store.create(VolumeRecord(id=new_id(), display_name=str(number), metadata={"a": "b"}))
                volume = store.update(replace(volume, status="available"))
                assert store.get(VolumeRecord, volume.id) == volume
                assert volume in store.find(VolumeRecord, display_name=str(number))
            store.delete(volume)

        self.at_once(write)
        assert len(store.find(VolumeRecord)) == 2 * THREADS

    def test_records_outlive_the_plugin(self, make_plugin: Callable[[], Plugin], library: Any) -> None:
        store = open_store(make_plugin())
        created = [store.create(record) for record in samples()]
        created = [store.update(record) for record in created]
        store.close()
        if self.persistent:
            again = open_store(make_plugin())
            kept = [again.get(type(record), record.id) for record in created]
            assert list(map(_without_sightings, kept)) == list(map(_without_sightings, created))
            again.close()

    def test_health_and_close(self, store: RecordStore) -> None:
        store.health()
        store.close()
        store.close()

    def test_lease(self, store: RecordStore) -> None:
        if not store.ATOMIC_ACROSS_PROCESSES:
            with pytest.raises(NotImplementedError):
                store.acquire_lease("leader", holder="a", seconds=60)
            return
        leader = new_id()
        assert store.acquire_lease(leader, holder="a", seconds=60)
        assert not store.acquire_lease(leader, holder="b", seconds=60)
        assert store.acquire_lease(f"other than {leader}", holder="b", seconds=60)
        store.release_lease(leader, holder="b")
        assert store.acquire_lease(leader, holder="a", seconds=-1)  # over as soon as it is given
        taken = self.at_once(lambda number: store.acquire_lease(leader, holder=str(number), seconds=60))
        assert sum(taken) == 1
        store.release_lease(leader, holder=str(taken.index(True)))
        assert store.acquire_lease(leader, holder="b", seconds=60)

    def test_any_sequence_of_calls_behaves_as_a_dict(self, store: RecordStore) -> None:
        stateful.run_state_machine_as_test(
            type("Model", (_Model,), {"store": store}),
            settings=settings(
                max_examples=15,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            ),
        )

    @staticmethod
    def at_once(work: Callable[[int], Any]) -> list[Any]:
        """Run work in many threads that start at the same moment; its results."""
        barrier = threading.Barrier(THREADS)

        def run(number: int) -> Any:
            barrier.wait()
            return work(number)

        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(run, range(THREADS)))


class _Model(stateful.RuleBasedStateMachine):
    """Volume records of a few ids in the store under test and in a dict, compared after every call."""

    IDS = tuple(f"{number}0000000-0000-4000-8000-000000000000" for number in range(5))
    NAMES = ("", "a", "A", "b ", "ß", "%", None)

    store: RecordStore

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, VolumeRecord] = {}
        for record in self.store.find(VolumeRecord):
            self.store.delete(record)

    @stateful.rule(
        id_=st.sampled_from(IDS),
        name=st.sampled_from(NAMES),
        metadata=st.dictionaries(st.sampled_from("xy"), st.sampled_from("12")),
    )
    def create(self, id_: str, name: str | None, metadata: dict[str, str]) -> None:
        record = VolumeRecord(id=id_, display_name=name, metadata=metadata)
        if id_ in self.model:
            with pytest.raises(RecordExists):
                self.store.create(record)
        else:
            self.model[id_] = self.store.create(record)
            assert self.model[id_].metadata == metadata

    @stateful.rule(
        id_=st.sampled_from(IDS),
        name=st.sampled_from(NAMES),
        metadata=st.dictionaries(st.sampled_from("xy"), st.sampled_from("12")),
        stale=st.booleans(),
    )
    def update(self, id_: str, name: str | None, metadata: dict[str, str], stale: bool) -> None:
        current = self.model.get(id_)
        if current is None:
            with pytest.raises(RecordNotFound):
                self.store.update(VolumeRecord(id=id_, revision=1))
        elif stale:
            with pytest.raises(RevisionConflict):
                self.store.update(replace(current, revision=current.revision - 1))
        else:
            self.model[id_] = self.store.update(replace(current, display_name=name, metadata=metadata))
            assert self.model[id_].revision == current.revision + 1

    @stateful.rule(id_=st.sampled_from(IDS))
    def delete(self, id_: str) -> None:
        self.store.delete(VolumeRecord(id=id_))
        self.model.pop(id_, None)

    @stateful.rule(
        name=st.sampled_from(NAMES), after=st.sampled_from((None, *IDS)), limit=st.sampled_from((None, 0, 1, 2))
    )
    def find(self, name: str | None, after: str | None, limit: int | None) -> None:
        expected = [
            record
            for id_, record in sorted(self.model.items())
            if (after is None or id_ > after) and (name is None or record.display_name == name)
        ]
        assert self.store.find(VolumeRecord, after=after, limit=limit, display_name=name) == expected[:limit]

    @stateful.invariant()
    def same_records(self) -> None:
        assert self.store.find(VolumeRecord) == [record for _, record in sorted(self.model.items())]
