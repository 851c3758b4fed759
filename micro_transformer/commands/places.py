"""The flags that name the store and the data, and the training that a path names."""

from pathlib import Path

from micro_transformer.console import Flag
from micro_transformer.store.checkpoints import FACTORS, Damaged, Entry
from micro_transformer.wording import _


def store_flag() -> Flag:
    """`--store DIR`, the folder of trained models (`store.dir` of run.py)."""
    about = _("folder of trained models; default: checkpoints")
    return Flag("--store", about, "DIR", Path, Path("checkpoints"), old=("--dir",))


def data_flag() -> Flag:
    """`--data DIR`, the folder of prepared data (`data.dir` of run.py)."""
    return Flag("--data", _("folder of prepared data; default: data"), "DIR", default="data")


def training_at(path: Path, store: Path) -> Entry:
    """The training named by a path: its fingerprint, its folder, a link to it, its `final` folder,
    or the first letters of its fingerprint. Raises Damaged if several begin so; existence is not
    checked."""
    is_name = len(path.parts) == 1 and (store / path).is_dir()
    folder = (store / path if is_name else path).resolve()
    folder = folder.parent if folder.name == "final" else folder
    if not folder.exists():
        places = [place for place in {folder.parent, store.resolve()} if place.is_dir()]
        near = [path for place in places for path in place.iterdir()]
        alike = [p for p in near if p.name.startswith(folder.name) and (p / FACTORS).is_file()]
        if len(alike) > 1:
            n = f"{len(alike):,}"
            raise Damaged(_("{path}: {n} trainings begin so; give more letters", path=path, n=n))
        folder = alike.pop() if alike else folder
    return Entry(folder.parent, folder.name)
