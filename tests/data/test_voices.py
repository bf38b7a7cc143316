import pytest
import torch

from utils.data import load_voices, voices


def test_nine_speakers_have_as_many_recordings_as_their_authors_say():
    train, test = load_voices()
    assert train.tensors[1].bincount().tolist() == [30] * 9
    assert test.tensors[1].bincount().tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]


def test_a_recording_is_12_coefficients_in_7_to_29_frames_and_then_zeros():
    for part in load_voices():
        recordings = part.tensors[0]
        assert recordings.dtype == torch.float32
        assert recordings.shape[1:] == (12, 29)
        there = (recordings != 0).any(dim=1)
        lengths = there.sum(dim=1)
        assert (lengths.min(), lengths.max()) == (7, 29 if len(part) == 370 else 26)
        assert torch.equal(there, torch.arange(29) < lengths[:, None])  # no gap within


def test_the_first_recording_is_the_first_line_of_the_file():
    recording, speaker = load_voices()[0][0]
    assert speaker == 0
    assert recording[0, :3].tolist() == pytest.approx([1.860936, 1.891651, 1.939205])
    assert recording[1, 0].item() == pytest.approx(-0.207383)
    assert (recording != 0).any(dim=0).sum() == 20


def read(tmp_path, text: str):
    path = tmp_path / "some.ts"
    path.write_text(text)
    return voices.read_ts(path)


def test_a_small_file_is_read_as_it_is_written(tmp_path):
    series, labels = read(tmp_path, "# note\n@classLabel true 1 2\n@data\n1,2:3,4:2\n\n5:6:1\n")
    assert [s.tolist() for s in series] == [[[1, 2], [3, 4]], [[5], [6]]]
    assert labels == [2, 1]


@pytest.mark.parametrize(
    "line", ["1,2:3:2", "1,x:3,4:2", "1,2:3,4:a", "1,2", "nan:2", "2", "1,:3,4:1"]
)
def test_a_line_that_is_no_series_is_named(tmp_path, line):
    with pytest.raises(ValueError, match="line 3 "):
        read(tmp_path, f"@data\n1,2:3,4:1\n{line}\n")


def test_a_file_without_data_is_refused(tmp_path):
    with pytest.raises(ValueError, match="@data"):
        read(tmp_path, "1,2:3,4:1\n")


def test_a_file_with_other_recordings_is_refused_by_name(tmp_path, monkeypatch):
    path = tmp_path / "JapaneseVowels_TRAIN.ts"
    path.write_text("@data\n1,2:3,4:1\n")
    monkeypatch.setattr(voices, "packaged", lambda *arguments: path)
    with pytest.raises(ValueError, match=r"JapaneseVowels_TRAIN\.ts.*1 recordings, not 270"):
        load_voices()
