from __future__ import annotations

import dataclasses
import errno
import json

import numpy as np
import pytest
import zarr

from genrl.data import layout
from genrl.data.store import EmbeddingInfo, EmbeddingWriter, Store, StoreWriter, open_stores
from genrl.infra.errors import UserError
from tests.data_store.counting import SPEC, assert_counts, counting_episode, write_counting

INFO = EmbeddingInfo("mini", 4, 8, "weights-1")


def test_every_row_comes_back_where_it_was_written(tmp_path) -> None:
    store = Store.open(write_counting(tmp_path / "store", [10, 100, 1, 64, 31]))
    assert store.num_frames == 206 and store.spec == SPEC and store.sources == ["counter"]
    assert store.episodes.length.tolist() == [10, 100, 1, 64, 31]
    assert_counts(store)
    episode = store.episode(3)
    expected = counting_episode(64, first=111)
    for name in ("frames", "action", "reward", "is_terminal", "state"):
        assert np.array_equal(getattr(episode, name), getattr(expected, name)), name


def test_opening_again_appends(tmp_path) -> None:
    for lengths in ([30], [50, 20], [64]):
        write_counting(tmp_path / "store", lengths)
    store = Store.open(tmp_path / "store")
    assert store.episodes.length.tolist() == [30, 50, 20, 64]
    assert_counts(store)


def test_a_full_shard_commits_without_flush_and_the_rest_waits(tmp_path) -> None:
    writer = StoreWriter.open(tmp_path / "store", SPEC, shard_frames=64)
    writer.add(counting_episode(40, 0), "a")
    assert Store.open(tmp_path / "store").num_frames == 0
    writer.add(counting_episode(40, 40), "b")
    assert Store.open(tmp_path / "store").num_frames == 80
    writer.add(counting_episode(10, 80), "a")
    assert (writer.num_frames, writer.num_episodes) == (90, 3)
    assert (writer.frames_of("a"), writer.frames_of("b"), writer.frames_of("c")) == (50, 40, 0)
    assert Store.open(tmp_path / "store").num_frames == 80
    writer.close()
    assert_counts(Store.open(tmp_path / "store"))


def test_rows_beyond_the_commit_are_overwritten(tmp_path, monkeypatch) -> None:
    write_counting(tmp_path / "store", [20])
    writer = StoreWriter.open(tmp_path / "store", SPEC)
    with monkeypatch.context() as patch:
        patch.setattr(layout, "commit_table", lambda path, table: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            writer.add(counting_episode(200, 5000), "wrong")
    writer._lock.release()
    assert_counts(Store.open(tmp_path / "store"))
    write_counting(tmp_path / "store", [30, 70])
    store = Store.open(tmp_path / "store")
    assert store.num_frames == 120
    assert_counts(store)


def test_a_half_written_file_of_a_killed_writer_does_no_harm(tmp_path) -> None:
    path = write_counting(tmp_path / "store", [20])
    # TensorStore writes here before it renames, and does not cut what it finds.
    (path / "reward" / "c" / "0.__lock").write_bytes(b"x" * 5000)
    write_counting(path, [20])
    assert_counts(Store.open(path))


def test_what_a_killed_writer_wrote_aside_is_removed_in_every_group_of_the_store(tmp_path) -> None:
    path = write_counting(tmp_path / "store", [20])
    (path / "embedding").mkdir()
    leftovers = [group / ".zarr.tmp-12345.json" for group in (path, path / "embedding")]
    for leftover in leftovers:
        leftover.write_text("{")
    write_counting(path, [20])
    assert not [leftover for leftover in leftovers if leftover.exists()]


def test_an_open_reader_keeps_its_rows_while_the_store_grows(tmp_path) -> None:
    store = Store.open(write_counting(tmp_path / "store", [20, 20]))
    store.read("frames", 0, 1)  # the shard's index is now in the reader's cache
    write_counting(tmp_path / "store", [20, 200])
    assert store.num_frames == 40
    assert_counts(store)


def test_any_zarr_reader_finds_the_arrays(tmp_path) -> None:
    write_counting(tmp_path / "store", [10, 100])
    group = zarr.open_group(tmp_path / "store", mode="r")
    assert group["frames"].shape == (110, 8, 8, 3)
    assert np.array_equal(group["reward"][:], np.arange(110))


@pytest.mark.parametrize(
    ("change", "named"),
    [({"domain": "stickman"}, "domain"), ({"action_dim": 7}, "action_dim"), ({"look": "paper"}, "look")],
)
def test_another_kind_of_data_is_refused_by_name(tmp_path, change, named) -> None:
    write_counting(tmp_path / "store", [10])
    with pytest.raises(UserError, match=f"{named}.*another store"):
        StoreWriter.open(tmp_path / "store", dataclasses.replace(SPEC, **change))
    write_counting(tmp_path / "store", [10])  # the lock was given back


def test_an_episode_of_another_shape_is_refused(tmp_path) -> None:
    episode = counting_episode(10)
    wrong = [
        dataclasses.replace(episode, action=np.zeros((10, 3), np.float32)),
        dataclasses.replace(episode, frames=np.zeros((10, 9, 9, 3), np.uint8)),
        dataclasses.replace(episode, frames=np.zeros((10, 8, 8, 3), np.float32)),
        dataclasses.replace(episode, reward=np.zeros(9, np.float32)),
        dataclasses.replace(episode, state=None),
        counting_episode(0),
    ]
    with StoreWriter.open(tmp_path / "store", SPEC) as writer:
        for other in wrong:
            with pytest.raises(UserError):
                writer.add(other, "a")
        writer.add(episode, "a")
    assert_counts(Store.open(tmp_path / "store"))


def test_a_second_writer_is_refused_until_the_first_is_done(tmp_path) -> None:
    with StoreWriter.open(tmp_path / "store", SPEC) as writer:
        writer.add(counting_episode(10), "a")
        with pytest.raises(UserError, match="another process"):
            StoreWriter.open(tmp_path / "store", SPEC)
        with pytest.raises(UserError, match="another process"):
            EmbeddingWriter(tmp_path / "store", INFO)
    StoreWriter.open(tmp_path / "store", SPEC).close()


@pytest.mark.parametrize("where", ["array", "table"])
def test_a_full_disk_is_said_and_loses_nothing(tmp_path, monkeypatch, where) -> None:
    write_counting(tmp_path / "store", [20])
    writer = StoreWriter.open(tmp_path / "store", SPEC)
    writer.add(counting_episode(30, 20), "counter")
    with monkeypatch.context() as patch:
        if where == "array":
            # TensorStore's words for it, as seen on a full file system.
            error: Exception = ValueError("RESOURCE_EXHAUSTED: Failed to write 9 bytes: No space left on device")
            patch.setattr(layout, "write_rows", lambda *_: (_ for _ in ()).throw(error))
        else:
            error = OSError(errno.ENOSPC, "No space left on device")
            patch.setattr(layout, "atomic_write", lambda *_: (_ for _ in ()).throw(error))
        with pytest.raises(UserError, match="disk is full"):
            writer.flush()
    assert Store.open(tmp_path / "store").num_frames == 20
    writer.close()  # there is space again: the episode was still waiting
    store = Store.open(tmp_path / "store")
    assert store.num_frames == 50
    assert_counts(store)


@pytest.mark.parametrize("file", ["mine.txt", "frames/0.png", ".hidden"])
def test_a_directory_of_something_else_is_not_taken_for_a_store(tmp_path, file) -> None:
    (tmp_path / "notes" / file).parent.mkdir(parents=True)
    (tmp_path / "notes" / file).write_text("keep")
    with pytest.raises(UserError, match="name an empty or new directory"):
        StoreWriter.open(tmp_path / "notes", SPEC)
    with pytest.raises(UserError, match="not an episode store"):
        Store.open(tmp_path / "notes")
    assert (tmp_path / "notes" / file).read_text() == "keep"
    with pytest.raises(UserError, match="is a file"):
        StoreWriter.open(tmp_path / "notes" / file, SPEC)


def test_a_store_whose_making_was_killed_is_made_again(tmp_path) -> None:
    path = tmp_path / "store"
    path.mkdir()
    (path / ".zarr.tmp-1.json").write_text("{")
    StoreWriter.open(path, SPEC).close()
    path = tmp_path / "other"
    layout.create_group(path)
    layout.create_array(path, "frames", "uint8", (99, 99, 3), 16)
    write_counting(path, [20])
    assert_counts(Store.open(path))


def test_a_damaged_shard_or_table_is_named(tmp_path) -> None:
    path = write_counting(tmp_path / "store", [64, 64])
    shard = path / "reward" / "c" / "1"
    shard.write_bytes(shard.read_bytes()[:-20])
    store = Store.open(path)
    assert store.read("reward", 0, 64).tolist() == list(range(64))
    with pytest.raises(UserError, match="reward cannot be read"):
        store.read("reward", 0, 128)
    table = json.loads((path / "store.json").read_text())
    (path / "store.json").write_text(json.dumps(table | {"schema_version": 99}))
    with pytest.raises(UserError, match="newer"):
        Store.open(path)
    (path / "store.json").write_text('{"schema_version": 1')
    with pytest.raises(UserError, match="store.json is damaged"):
        Store.open(path)


def test_embeddings_resume_where_the_last_write_ended(tmp_path) -> None:
    path = write_counting(tmp_path / "store", [64, 50])
    rows = np.arange(114 * 4).reshape(114, 4)
    with EmbeddingWriter(path, INFO) as writer:
        assert (writer.done_rows, writer.num_rows) == (0, 114)
        writer.write(0, rows[:64])
    assert Store.open(path).embedded_rows("mini") == 64
    assert Store.open(path).episode(1).embeddings == {}
    with EmbeddingWriter(path, INFO) as writer:
        assert writer.done_rows == 64
        writer.write(64, rows[64:])
    store = Store.open(path)
    assert store.embedding_info("mini") == INFO and store.embeddings == ["mini"]
    assert np.array_equal(store.read("embedding/mini", 0, 114), rows.astype(np.float16))
    assert np.array_equal(store.episode(1).embeddings["mini"], rows[64:].astype(np.float16))
    assert_counts(store)


def test_embeddings_of_other_weights_are_refused_unless_fresh(tmp_path) -> None:
    path = write_counting(tmp_path / "store", [20])
    with EmbeddingWriter(path, INFO) as writer:
        writer.write(0, np.ones((20, 4)))
    other = dataclasses.replace(INFO, checksum="weights-2", dim=6)
    with pytest.raises(UserError, match="--fresh"):
        EmbeddingWriter(path, other)
    with EmbeddingWriter(path, other, fresh=True) as writer:
        assert writer.done_rows == 0
        writer.write(0, np.full((20, 6), 2.0))
    store = Store.open(path)
    assert store.embedding_info("mini") == other
    assert (store.read("embedding/mini", 0, 20) == 2.0).all()


def test_a_column_remembers_where_its_weights_are_and_older_ones_do_not_say(tmp_path) -> None:
    path = write_counting(tmp_path / "store", [20])
    for source in ("clip=here", "clip=there", ""):
        with EmbeddingWriter(path, dataclasses.replace(INFO, source=source)) as writer:
            if not writer.done_rows:
                writer.write(0, np.ones((20, 4), np.float32))
    store = Store.open(path)
    assert store.embedding_info("mini").source == "clip=there" and store.embedded_rows("mini") == 20
    table = json.loads((path / layout.TABLE_FILE).read_text())
    del table["embeddings"]["mini"]["info"]["source"]
    (path / layout.TABLE_FILE).write_text(json.dumps(table))
    assert Store.open(path).embedding_info("mini") == INFO and Store.open(path).embedding_info("mini").source == ""


def test_episodes_added_after_embedding_leave_the_column_unfinished(tmp_path) -> None:
    path = write_counting(tmp_path / "store", [20])
    with EmbeddingWriter(path, INFO) as writer:
        writer.write(0, np.ones((20, 4)))
    write_counting(path, [30])
    assert Store.open(path).embedded_rows("mini") == 20
    with EmbeddingWriter(path, INFO) as writer:
        assert (writer.done_rows, writer.num_rows) == (20, 50)


def test_a_declared_embedding_is_zero_for_episodes_that_bring_none(tmp_path) -> None:
    path = write_counting(tmp_path / "store", [20])
    with StoreWriter.open(path, SPEC) as writer:
        writer.declare_embedding(INFO)
        writer.add(counting_episode(20, 20, "mini"), "counter")
        writer.add(counting_episode(20, 40), "counter")
        with pytest.raises(UserError, match="embedding mini"):
            writer.add(counting_episode(20, 60, "mini", dim=5), "counter")
    store = Store.open(path)
    column = store.read("embedding/mini", 0, 60)
    assert store.embedded_rows("mini") == 60
    assert np.flatnonzero(column.any(axis=1)).tolist() == list(range(27, 40))
    assert column[30, 0] == 31
    assert_counts(store)


def test_which_rows_have_an_embedding_is_noted_and_read_from_older_stores(tmp_path, monkeypatch) -> None:
    path = write_counting(tmp_path / "store", [64, 50])
    rows = np.random.default_rng(0).normal(size=(114, 4))
    rows[[0, 1, 5, 30, 63, 64, 100, 113]] = 0  # among them both sides of where one write ends
    with EmbeddingWriter(path, INFO) as writer:
        for start, stop in ((0, 40), (40, 64), (64, 114)):
            writer.write(start, rows[start:stop])
    with StoreWriter.open(path, SPEC) as writer:
        writer.declare_embedding(INFO)
        writer.add(counting_episode(20, 114, "mini"), "counter")
        writer.add(counting_episode(20, 134), "counter")
    expected = Store.open(path).read("embedding/mini", 0, 154).any(axis=1)
    assert expected[:114].tolist() == rows.any(axis=1).tolist()
    assert expected[114:].tolist() == [False] * 7 + [True] * 13 + [False] * 20
    table = json.loads((path / layout.TABLE_FILE).read_text())
    assert table["embeddings"]["mini"]["present"] == [[2, 3], [6, 24], [31, 32], [65, 35], [101, 12], [121, 13]]
    del table["embeddings"]["mini"]["present"]
    older = Store.open(path)
    with monkeypatch.context() as patched:
        patched.setattr(Store, "read", None)
        assert older.present_rows("mini").tolist() == expected.tolist()
    (path / layout.TABLE_FILE).write_text(json.dumps(table))
    assert Store.open(path).present_rows("mini").tolist() == expected.tolist()
    write_counting(path, [30])  # which have no embeddings yet
    assert Store.open(path).present_rows("mini").tolist() == [*expected.tolist(), *[False] * 30]
    with pytest.raises(UserError, match="genrl embed"):
        Store.open(path).present_rows("other")


def test_a_column_of_very_many_holes_is_not_noted(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(layout, "MAX_RUNS", 10)
    path = write_counting(tmp_path / "store", [40])
    rows = np.ones((40, 4)) * (np.arange(40) % 2)[:, None]
    with EmbeddingWriter(path, INFO) as writer:
        writer.write(0, rows[:20])
        assert writer._table.embeddings["mini"].present is not None
        writer.write(20, rows[20:])
        assert writer._table.embeddings["mini"].present is None
    assert Store.open(path).present_rows("mini").tolist() == [False, True] * 20


def test_rows_that_begin_an_episode_are_known_without_reading(tmp_path) -> None:
    store = Store.open(write_counting(tmp_path / "store", [10, 1, 7]))
    rows = np.arange(18).reshape(3, 6)
    assert store.is_first(rows).ravel().tolist() == store.read("is_first", 0, 18).tolist()
    assert np.flatnonzero(store.is_first(rows)).tolist() == [0, 10, 11]


def test_a_data_set_is_stores_or_directories_of_stores(tmp_path) -> None:
    for name in ("run", "walk"):
        write_counting(tmp_path / "walker" / name, [20])
    stores = open_stores([tmp_path / "walker", tmp_path / "walker" / "run"])
    assert [store.path.name for store in stores] == ["run", "walk"]
    with pytest.raises(UserError, match="neither"):
        open_stores([tmp_path])
    with pytest.raises(UserError, match="does not exist"):
        open_stores([tmp_path / "nowhere"])
    with StoreWriter.open(tmp_path / "walker" / "other", dataclasses.replace(SPEC, look="paper")):
        pass
    with pytest.raises(UserError, match="look 'paper'"):
        open_stores([tmp_path / "walker"])
