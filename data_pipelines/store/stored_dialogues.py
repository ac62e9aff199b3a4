"""Random access to the conversations of a corpus folder."""

from pathlib import Path

from ivjax.data_pipelines.store.bucket_corpus import manifest_in_bucket, open_in_bucket
from ivjax.data_pipelines.store.dialogues import Dialogue, unpack_dialogue
from ivjax.data_pipelines.store.manifest import Manifest, read_manifest
from ivjax.data_pipelines.store.shard_cache import ShardCache
from ivjax.data_pipelines.store.shards import Shards, check_files
from ivjax.errors import UserError
from ivjax.experiment.bucket_files import is_bucket


class StoredDialogues:
    """Random access to the conversations of a corpus. Can be pickled.

    Those of a corpus in a bucket are copied to this machine at once, and stay until they are closed.

    Attributes:
        folder: the corpus.
    """

    def __init__(self, folder: str, cache: ShardCache | None = None):
        self.folder = folder
        path = Path(folder).expanduser()
        manifest = manifest_in_bucket(folder) if is_bucket(folder) else read_manifest(path)
        if not manifest.dialogues:
            raise UserError(
                f"{folder} has no conversations; build it with `ivjax data build` from annotations that have"
                " QA or conversations"
            )
        own = Manifest(manifest.dialogues)
        if not is_bucket(folder):
            check_files(path, own)
            self._shards = Shards(path, own)
            return
        shards = open_in_bucket(folder, own, cache)
        shards.keep_all()
        self._shards = shards

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
