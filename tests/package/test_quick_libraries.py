"""What tests have in place of a library's own gives the same."""

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import quick_libraries
import torch
from lerobot.datasets.feature_utils import get_hf_features_from_features

FILES = {
    "numbers": [{"a": [1, 2], "b": [[0.5, 1.5], [2.5, 3.5]]}, {"a": [3], "b": [[4.5, 5.5]]}],
    "words": [{"task": ["pick", "place"], "long": [["x"], []]}],
    "other columns": [{"a": [1]}, {"b": [1]}],
    "another type": [{"a": [1]}, {"a": [1.5]}],
    "words in place of numbers": [{"a": [1]}, {"a": ["one"]}],
    "no rows": [{"a": pa.array([], pa.int64())}],
}


@pytest.fixture
def opened(tmp_path):
    """What either function makes of these files: rows, columns and their types; or the type of error."""

    def both(tables, **settings):
        paths = [str(tmp_path / f"{number}.parquet") for number in range(len(tables))]
        for path, table in zip(paths, tables, strict=True):
            pq.write_table(pa.table(table), path)
        found = []
        for function in (quick_libraries.OWN_FROM_PARQUET, quick_libraries.from_parquet):
            try:
                dataset = function(paths, **settings)
            except Exception as error:
                found.append(type(error))
            else:
                found.append((dataset.to_list(), dataset.features, dataset.data.schema.remove_metadata(), str(dataset.split)))
        return found

    return both


@pytest.mark.parametrize("files", FILES.values(), ids=FILES)
def test_a_dataset_is_what_the_library_makes_of_its_files(opened, files):
    own, quick = opened(files)
    assert quick == own


def test_it_has_the_types_that_are_asked_for(opened):
    features = datasets.Features({"a": datasets.Value("float32"), "b": datasets.Sequence(datasets.Value("float32"), length=2)})
    own, quick = opened(FILES["numbers"], features=features)
    assert quick == own
    assert quick[1] == features


def test_rows_are_chosen_by_the_library(opened):
    own, quick = opened(FILES["numbers"], filters=pa.dataset.field("a") > 1)
    assert quick == own
    assert len(own[0]) == 2


def test_a_damaged_file_is_the_librarys_error(tmp_path):
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(b"PAR1 no more than that PAR1")
    for paths in ([str(damaged)], [str(tmp_path / "missing.parquet")]):
        with pytest.raises(Exception) as own:  # noqa: PT011
            quick_libraries.OWN_FROM_PARQUET(paths)
        with pytest.raises(type(own.value)):
            quick_libraries.from_parquet(paths)


def test_lerobots_data_are_the_same(demonstrations):
    paths = [str(path) for path in sorted((demonstrations.root / "data").glob("*/*.parquet"))]
    features = get_hf_features_from_features(demonstrations.meta.features)
    own, quick = (function(paths, features=features).with_format("torch")[:] for function in
                  (quick_libraries.OWN_FROM_PARQUET, quick_libraries.from_parquet))  # fmt: skip
    assert own.keys() == quick.keys()
    for name, value in own.items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(quick[name])), name
