"""Random access to the conversations of a corpus folder."""

from pathlib import Path

from ivjax.data_pipelines.store.dialogues import Dialogue, unpack_dialogue
from ivjax.data_pipelines.store.manifest import Manifest, read_manifest
from ivjax.data_pipelines.store.shards import Shards, check_files
from ivjax.errors import UserError


def dialogue_shards(manifest: Manifest) -> Manifest:
    """Returns the manifest of a corpus's conversations alone."""
    return Manifest(manifest.dialogues)


class StoredDialogues:
    """Random access to the conversations of a corpus. Can be pickled."""

    def __init__(self, folder: str):
        path = Path(folder).expanduser()
        manifest = read_manifest(path)
        if not manifest.dialogues:
            raise UserError(
                f"{folder} has no conversations; build it with `ivjax data build` from annotations that have"
                " QA or conversations"
            )
        own = dialogue_shards(manifest)
        check_files(path, own)
        self._shards = Shards(path, own)

    def __len__(self) -> int:
        return len(self._shards)

    def __getitem__(self, number: int) -> Dialogue:
        return unpack_dialogue(self._shards[number])

    def place(self, number: int) -> tuple[str, int]:
        """Returns the shard's name and the record's number of a conversation."""
        return self._shards.place(number)

    def digest(self) -> str:
        """Returns a hash that changes with the conversations."""
        return self._shards.manifest.digest

    def close(self) -> None:
        """Closes the files."""
        self._shards.close()
