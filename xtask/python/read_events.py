"""Opens the event files of a run with tensorboard and compares them with `metrics.jsonl`.

    read_events.py RUN

Exit code 0 if tensorboard shows every number and text of the log, at its step, and nothing else.
"""

import json
import pathlib
import struct
import sys

from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

TEXTS = ("begins", "sample")


def lines(text: str) -> list[str]:
    """Lines as smelt parts them: a model also writes what Python takes for ends of lines."""
    parts = text.split("\n")
    return [part.removesuffix("\r") for part in (parts[:-1] if parts[-1] == "" else parts)]


def logged(run: pathlib.Path) -> tuple[dict, dict]:
    """Numbers and texts of `metrics.jsonl` by tag: lists of (step, value)."""
    scalars, texts = {}, {}
    for line in lines((run / "metrics.jsonl").read_bytes().decode()):
        record = json.loads(line)
        kind, step = record.pop("kind"), record.pop("step")
        if kind not in TEXTS:
            group = "eval" if kind == "validation" else kind
            for key, value in record.items():
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    single = struct.unpack("f", struct.pack("f", value))[0]
                    scalars.setdefault(f"{group}/{key}", []).append((step, single))
        elif kind == "sample":
            tag = f"sample/{record['prompt_index']}/text_summary"
            texts.setdefault(tag, []).append((step, lines(record["prompt"] + record["text"])))
    return scalars, texts


def shown(run: pathlib.Path) -> tuple[dict, dict]:
    """The same as tensorboard reads them."""
    # 0 keeps everything.
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"tensors": 0})
    events.Reload()
    scalars, texts = {}, {}
    for tag in events.Tags()["tensors"]:
        dashboard = events.SummaryMetadata(tag).plugin_data.plugin_name
        for event in events.Tensors(tag):
            value = make_ndarray(event.tensor_proto)
            if dashboard == "scalars":
                scalars.setdefault(tag, []).append((event.step, value.item()))
            else:
                assert dashboard == "text", dashboard
                # Markdown shows indented lines as they stand.
                verbatim = [line[4:] for line in lines(value[0].decode())]
                texts.setdefault(tag, []).append((event.step, verbatim))
    return scalars, texts


def main(folder: str) -> int:
    run = pathlib.Path(folder)
    (scalars, texts), (shown_scalars, shown_texts) = logged(run), shown(run)
    config = shown_texts.pop("config/text_summary", [])
    if not config:
        print("tensorboard shows no config")
        return 1
    for kind, ours, theirs in [("numbers", scalars, shown_scalars), ("texts", texts, shown_texts)]:
        if ours != theirs:
            different = [tag for tag in ours.keys() | theirs.keys() if ours.get(tag) != theirs.get(tag)]
            print(f"tensorboard shows other {kind} than the log holds: {sorted(different)}")
            return 1
    points = sum(map(len, scalars.values()))
    print(f"tensorboard shows {points} numbers under {len(scalars)} tags, {sum(map(len, texts.values()))} samples")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
