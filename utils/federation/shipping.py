"""Send a ClientApp, and all that it closes over, to other processes of this machine.

Functions of a notebook go by value (cloudpickle). Large arrays and weights are written to files
once and mapped into memory by whoever reads them: processes share them, and what one changes
it has to itself.
"""

import hashlib
import linecache
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import CodeType

import numpy as np
import torch
from cloudpickle import CloudPickler
from torch.storage import TypedStorage

LARGE = 2**20  # bytes, from which an array is mapped


class NotSendableError(ValueError):
    """Something that a ClientApp uses cannot go to another process."""


def send(value: object, folder: Path) -> Path:
    """Write an object into a folder, for any process on this machine to ``receive``.

    Returns:
        The file to receive it from; it belongs together with the others in the folder.

    Raises:
        NotSendableError: naming what cannot be sent.
    """
    path = folder / "object.pickle"
    try:
        with path.open("wb") as file:
            _Sender(file, folder).dump(value)
    except OSError:
        raise
    except Exception as error:  # pickling runs code of every class it meets
        raise NotSendableError(
            f"the ClientApp uses something that cannot go to another process: "
            f"{type(error).__name__}: {error}. Make it inside the client's function (or in a "
            "module), or run with workers=1, in this process"
        ) from error
    return path


def outline(value: object) -> bytes:
    """A digest of all that an object holds but the numbers in its tensors.

    It tells whether a client's function has changed a list, a dictionary, a counter or a NumPy
    array outside of it. (That a model's weights change is what training is for.)

    Raises:
        NotSendableError: as ``send``.
    """
    digest = _Digest()
    try:
        _Outliner(digest).dump(value)
    except Exception as error:  # pickling runs code of every class it meets
        raise NotSendableError(f"{type(error).__name__}: {error}") from error
    return digest.hash.digest()


class _Sender(CloudPickler):
    def __init__(self, file: object, folder: Path) -> None:
        super().__init__(file, protocol=5)
        self.folder = folder
        self.written: dict[tuple, Path | tuple[int, bytes]] = {}
        self.alive: list[object] = []  # so that no address is used twice

    def reducer_override(self, value: object) -> object:
        if type(value) is TypedStorage and value._untyped_storage.device.type == "cpu":
            return _mapped_storage, (self._file(value._untyped_storage), value.dtype)
        if type(value) is np.ndarray and value.nbytes >= LARGE and not value.dtype.hasobject:
            return _mapped_array, (self._file(value),)
        if isinstance(value, CodeType):  # cloudpickle forgets where code came from
            make, parts = self.dispatch_table[CodeType](value)
            return _code, (make, parts, value.co_filename, _lines(value.co_filename))
        return super().reducer_override(value)

    def _file(self, value: torch.UntypedStorage | np.ndarray) -> Path | tuple[int, bytes]:
        """Where the numbers lie: a file, or, if they are few, the rest of the pickle.

        One storage under several tensors is written once, and is one again where it arrives.
        """
        if isinstance(value, np.ndarray):
            key, write = (id(value),), partial(np.save, arr=value, allow_pickle=False)
        else:
            numbers = torch.empty(0, dtype=torch.uint8).set_(value).numpy()
            key, write = (value.data_ptr(), len(numbers)), numbers.tofile
        if key not in self.written:
            number = len(self.written)
            self.alive.append(value)
            if isinstance(value, torch.UntypedStorage) and len(numbers) < LARGE:
                self.written[key] = number, numbers.tobytes()  # not bytes(value): one by one
            else:
                self.written[key] = self.folder / f"{number}.npy"
                write(self.written[key])
        return self.written[key]


def _lines(filename: str) -> list[str] | None:
    """The source of a notebook's cell; a file can be read by everybody."""
    return None if Path(filename).exists() else linecache.getlines(filename)


def _code(make: type, parts: tuple, filename: str, lines: list[str] | None) -> CodeType:
    if lines:  # for tracebacks
        linecache.cache[filename] = sum(map(len, lines)), None, lines, filename
    return make(*parts).replace(co_filename=filename)


def _mapped_array(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="c").view(np.ndarray)  # c: changes stay here


_storages: dict[Path | int, torch.UntypedStorage] = {}  # while one object is being received


def _mapped_storage(source: Path | tuple[int, bytes], dtype: torch.dtype) -> TypedStorage:
    name, numbers = (source, None) if isinstance(source, Path) else source
    if name not in _storages:
        if numbers is None:
            storage = torch.UntypedStorage.from_file(str(name), False, name.stat().st_size)
        elif numbers:
            storage = torch.frombuffer(bytearray(numbers), dtype=torch.uint8).untyped_storage()
        else:
            storage = torch.UntypedStorage(0)
        _storages[name] = storage
    return TypedStorage(wrap_storage=_storages[name], dtype=dtype, _internal=True)


def receive(load: Callable[[], object]) -> object:
    """What was sent; ``load`` unpickles the file."""
    try:
        return load()
    finally:
        _storages.clear()


class _Digest:
    """A file that keeps only the digest of what is written."""

    def __init__(self) -> None:
        self.hash = hashlib.blake2b()

    def write(self, some: bytes | pickle.PickleBuffer) -> int:
        self.hash.update(some)
        return memoryview(some).nbytes


class _Outliner(CloudPickler):
    def reducer_override(self, value: object) -> object:
        if isinstance(value, torch.Tensor):
            return torch.empty, (tuple(value.shape),)
        return super().reducer_override(value)
